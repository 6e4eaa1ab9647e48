import os
import threading
import time
from pathlib import Path

from lra_bench.data.cache import (
    cache_root,
    data_root,
    parameter_fingerprint,
    reading_from,
    remove_stale_temporaries,
    split_folder,
)


def test_roots_follow_the_environment(monkeypatch, tmp_path):
    monkeypatch.setenv("LRA_BENCH_DATA", str(tmp_path / "data"))
    monkeypatch.setenv("LRA_BENCH_CACHE", str(tmp_path / "cache"))
    assert data_root() == tmp_path / "data"
    assert cache_root() == tmp_path / "cache"
    monkeypatch.delenv("LRA_BENCH_DATA")
    monkeypatch.delenv("LRA_BENCH_CACHE")
    monkeypatch.setattr("sys.platform", "linux")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    assert data_root() is None
    assert cache_root() == tmp_path / "xdg" / "lra-bench"
    monkeypatch.delenv("XDG_CACHE_HOME")
    assert cache_root() == Path.home() / ".cache" / "lra-bench"


def test_reading_from_goes_before_the_environment_in_its_own_thread_only(monkeypatch, tmp_path):
    monkeypatch.setenv("LRA_BENCH_DATA", "/environment")
    elsewhere = []
    with reading_from(tmp_path):
        assert data_root() == tmp_path
        with reading_from(None):
            assert data_root() == tmp_path
        thread = threading.Thread(target=lambda: elsewhere.append(data_root()))
        thread.start()
        thread.join()
    assert elsewhere == [Path("/environment")]
    assert data_root() == Path("/environment")


def test_every_parameter_has_its_own_folder(counting_task, tmp_path):
    tasks = [
        counting_task(),
        counting_task(fixed=True),
        counting_task(version=2),
        counting_task(shard_size=50),
    ]
    later = counting_task()
    later.generator_version = 2
    fingerprints = [parameter_fingerprint(task) for task in [*tasks, later]]
    assert len(set(fingerprints)) == 5
    assert parameter_fingerprint(counting_task()) == fingerprints[0]
    assert all(len(name) == 16 for name in fingerprints)
    expected = tmp_path / "counting" / f"ragged-{fingerprints[0]}" / "test"
    assert split_folder(tasks[0], "test", tmp_path) == expected


def test_only_old_temporaries_are_removed(tmp_path):
    for name in (".a.1.tmp", ".b.2.tmp", "shard.arrow"):
        (tmp_path / name).write_text("")
    two_days_ago = time.time() - 2 * 24 * 3600
    for name in (".a.1.tmp", "shard.arrow"):
        os.utime(tmp_path / name, (two_days_ago, two_days_ago))
    remove_stale_temporaries(tmp_path)
    assert sorted(os.listdir(tmp_path)) == [".b.2.tmp", "shard.arrow"]
