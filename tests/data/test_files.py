import errno
import os

import pytest

from lra_bench.errors import DataError
from lra_bench.files import atomic_path, write_atomically


def write_half(path, error):
    with atomic_path(path) as temporary:
        assert temporary.parent == path.parent
        temporary.write_text("half")
        raise error


def test_text_and_bytes_are_written_as_given(tmp_path):
    path = tmp_path / "new" / "folder" / "a.txt"
    write_atomically(path, "é\r\n")
    assert path.read_bytes() == b"\xc3\xa9\r\n"
    write_atomically(path, b"\x00\x01")
    assert path.read_bytes() == b"\x00\x01"
    assert os.listdir(path.parent) == ["a.txt"]


def test_a_reader_keeps_the_old_file_while_a_new_one_takes_its_place(tmp_path):
    path = tmp_path / "a.txt"
    write_atomically(path, "old")
    with path.open() as reader:
        write_atomically(path, "new")
        assert reader.read() == "old"
    assert path.read_text() == "new"


def test_content_is_on_the_disk_before_it_gets_its_name(tmp_path, monkeypatch):
    calls = []
    fsync, replace = os.fsync, os.replace
    monkeypatch.setattr(os, "fsync", lambda descriptor: (calls.append("fsync"), fsync(descriptor)))
    monkeypatch.setattr(os, "replace", lambda *paths: (calls.append("replace"), replace(*paths)))
    write_atomically(tmp_path / "a.txt", "x")
    assert calls == ["fsync", "replace", "fsync"]


def test_a_failing_writer_leaves_the_old_file_and_nothing_else(tmp_path):
    path = tmp_path / "a.txt"
    write_atomically(path, "old")
    with pytest.raises(RuntimeError):
        write_half(path, RuntimeError())
    assert path.read_text() == "old"
    assert os.listdir(tmp_path) == ["a.txt"]


def test_a_full_disk_names_the_path_and_leaves_nothing(tmp_path):
    with pytest.raises(DataError, match=r"a\.txt: No space left on device"):
        write_half(tmp_path / "a.txt", OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)))
    assert os.listdir(tmp_path) == []


def test_errors_that_are_not_the_storage_s_pass_through(tmp_path):
    with pytest.raises(FileNotFoundError):
        write_half(tmp_path / "a.txt", FileNotFoundError(errno.ENOENT, "a source"))
    assert os.listdir(tmp_path) == []


def test_a_file_where_a_folder_should_be_is_explained(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(DataError, match="Cannot write"):
        write_atomically(tmp_path / "file" / "a.txt", "x")


def write_to_a_full_device(path):
    with atomic_path(path) as temporary:
        temporary.symlink_to("/dev/full")
        temporary.write_text("x" * 10_000)


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="needs /dev/full")
def test_a_device_that_is_really_full_is_explained(tmp_path):
    with pytest.raises(DataError, match="No space left"):
        write_to_a_full_device(tmp_path / "a")
    assert os.listdir(tmp_path) == []
