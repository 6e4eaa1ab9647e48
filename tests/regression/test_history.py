"""Series over commits, from folders and from a repository's past."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from past import commit, commits, evidence, git, run_record, write_bench, write_run

from lra_bench.errors import DataError, UsageError
from lra_bench.regression.history import History, Series, history


def the_series(found: History, metric: str, model: str = "linformer") -> Series:
    (one,) = [one for one in found.series if (one.key.metric, one.key.model) == (metric, model)]
    return one


def test_a_step_in_noisy_times_is_found_at_its_commit(tmp_path: Path) -> None:
    made = commits(tmp_path / "code", 14)
    rng = np.random.default_rng(0)
    for number, at in enumerate(made):
        slower = 1.2 if number >= 9 else 1.0
        ratios = {"linformer": 0.5 * slower * np.exp(0.03 * rng.standard_normal()), "fnet": 0.25}
        # Names in another order than the commits.
        write_bench(tmp_path / "results", at, f"202601{99 - number}", ratios)
    found = history([tmp_path / "results"], repository=tmp_path / "code")
    ((one, change),) = found.changes()
    assert (one.key.model, one.key.metric, one.key.task) == ("linformer", "step time", "4 x 1024")
    assert found.range_of(one, change) == f"{made[8][:8]}..{made[9][:8]}"
    assert (change.direction, change.points_before, change.points_after) == ("worse", 9, 5)
    assert change.relative == pytest.approx(0.2, abs=0.04)
    assert not the_series(found, "step time", "fnet").changes
    # The reference is what times are a ratio to.
    assert not [one for one in found.series if one.key.group == "time" and one.key.model == "transformer"]
    assert found.notes == ()


def test_any_change_of_a_size_is_found_at_once(tmp_path: Path) -> None:
    made = commits(tmp_path / "code", 3)
    for at, core in zip(made, (1000, 1000, 1001), strict=True):
        write_run(tmp_path / "results", at, core=core)
    found = history([tmp_path / "results"], repository=tmp_path / "code")
    ((one, change),) = found.changes()
    assert (one.key.metric, change.before, change.after, change.direction) == (
        "parameters",
        1000,
        1001,
        "worse",
    )
    assert found.range_of(one, change) == f"{made[1][:8]}..{made[2][:8]}"


def test_seeds_of_a_commit_are_one_point_with_their_spread(tmp_path: Path) -> None:
    (at,) = commits(tmp_path / "code", 1)
    for seed, accuracy in enumerate((0.4, 0.5, 0.6)):
        write_run(tmp_path / "results", at, seed=seed, accuracy=accuracy)
    (point,) = the_series(history([tmp_path / "results"], repository=tmp_path / "code"), "accuracy").points
    assert (point.value, point.spread, point.count) == (pytest.approx(0.5), pytest.approx(0.1), 3)


def test_a_file_is_followed_through_all_commits_that_changed_it(tmp_path: Path) -> None:
    code = tmp_path / "code"
    first = commit(code, {"ci/baseline.json": evidence("unknown", 100, accuracies=(0.9, 0.8))}, 1)
    commit(code, {"other.txt": "x"}, 2)
    second = commit(code, {"ci/baseline.json": evidence("unknown", 90, test_data="b" * 64)}, 3)
    git(code, "rm", "--quiet", "ci/baseline.json", day=4)
    git(code, "commit", "--quiet", "--message", "gone", day=4)
    found = history([], past=[Path("ci/baseline.json")], repository=code)
    assert [one.id for one in found.commits] == [first, second]
    changes = {
        one.key.metric: (change.direction, found.range_of(one, change)) for one, change in found.changes()
    }
    span = f"{first[:8]}..{second[:8]}"
    assert changes == {"parameters": ("better", span), "test data": ("changed", span)}
    (point,) = the_series(found, "accuracy").points
    assert (point.value, point.spread, point.count) == (
        pytest.approx(0.85),
        pytest.approx(0.0707, abs=1e-4),
        2,
    )
    assert history([], past=[code / "ci"], repository=code).series == found.series


def test_what_was_measured_at_a_known_commit_stands_there(tmp_path: Path) -> None:
    code = tmp_path / "code"
    (measured,) = commits(code, 1)
    clean = commit(code, {"results/runs/a.json": run_record(measured)}, 2)
    changed = commit(code, {"results/runs/a.json": run_record(clean, dirty=True, core=2000)}, 3)
    found = history([], past=[Path("results")], repository=code, metrics=["parameters"])
    assert [one.id for one in found.commits] == [measured, changed]
    # Without the repository's word, the state is a commit with changes.
    (tmp_path / "one.json").write_text(json.dumps(run_record(clean, dirty=True)))
    (state,) = history([tmp_path / "one.json"], repository=code).commits
    assert (state.label, state.known) == (f"{clean[:8]}+", True)


def test_sessions_are_read_from_the_past_as_wholes(tmp_path: Path) -> None:
    code = tmp_path / "code"
    made = commits(code, 2)
    for number, at in enumerate(made):
        write_bench(code / "results", at, f"2026010{number}", {"linformer": 0.5}, peak_bytes=1000 + number)
        git(code, "add", "results")
        commit(code, {}, 3 + number)
    found = history([], past=[Path("results")], repository=code, models=["linf*"])
    assert [point.value for point in the_series(found, "peak bytes, step").points] == [1000, 1001]
    assert [found.label(one, 0) for one in found.series] == [made[0][:8]] * len(found.series)
    both = history([code / "results"], past=[Path("results")], repository=code, models=["linf*"])
    assert both.series == found.series  # what is met twice counts once


def test_unknown_commits_stand_by_date_and_are_named(tmp_path: Path) -> None:
    made = commits(tmp_path / "code", 4)  # of days 1 to 4
    results = tmp_path / "results"
    write_run(results, made[0], day=9)  # measured late, and still the first commit
    write_run(results, made[3], day=4)
    write_run(results, "f" * 40, day=3)
    write_run(results, "e" * 40, day=2)
    write_run(results, None, day=8)
    found = history([results], repository=tmp_path / "code")
    labels = [one.label for one in found.commits]
    assert labels == [made[0][:8], "eeeeeeee", "ffffffff", made[3][:8], "no commit, 2026-01-08"]
    (note,) = found.notes
    assert "3 commits are not in the repository" in note
    assert "eeeeeeee, ffffffff" in note
    outside = history([results], repository=tmp_path)
    assert [one.label for one in outside.commits][:3] == ["eeeeeeee", "ffffffff", made[3][:8]]


def test_branches_keep_the_order_of_ancestors(tmp_path: Path) -> None:
    code = tmp_path / "code"
    base = commit(code, {}, 1)
    git(code, "checkout", "--quiet", "-b", "side")
    side = commit(code, {}, 2)
    git(code, "checkout", "--quiet", "main")
    main = commit(code, {}, 3)
    for at in (main, side, base):
        write_run(tmp_path / "results", at)
    found = [one.id for one in history([tmp_path / "results"], repository=code).commits]
    assert found[0] == base
    assert set(found) == {base, side, main}


def test_other_circumstances_are_said_beside_a_change(tmp_path: Path) -> None:
    made = commits(tmp_path / "code", 2)
    for at, name in zip(made, ("a", "b"), strict=True):
        content = evidence(at, 100 + (name == "b")) | {"torch": f"2.1{name == 'b':d}"}
        (tmp_path / f"{name}.json").write_text(json.dumps(content))
    found = history([tmp_path / "a.json", tmp_path / "b.json"], repository=tmp_path / "code")
    ((_, change),) = found.changes()
    assert change.note == "torch 2.10 -> 2.11"


def test_an_end_in_memory_is_worse(tmp_path: Path) -> None:
    made = commits(tmp_path / "code", 2)
    for at, status in zip(made, ("ok", "oom"), strict=True):
        write_bench(tmp_path / "results", at, f"s{status}", {"linformer": 0.5}, status=status)
    found = history([tmp_path / "results"], repository=tmp_path / "code", models=["linformer"])
    ((one, change),) = found.changes()
    assert (one.key.group, change.before, change.after, change.direction) == ("status", "ok", "oom", "worse")


def test_faults_are_named(tmp_path: Path) -> None:
    code = tmp_path / "code"
    commit(code, {"results/runs/a.json": "{"}, 1)
    with pytest.raises(UsageError, match="no such file"):
        history([tmp_path / "none"])
    with pytest.raises(DataError, match="not JSON"):
        history([code / "results"], repository=code)
    with pytest.raises(DataError, match="no commit of"):
        history([], past=[Path("none.json")], repository=code)
    with pytest.raises(UsageError, match="not in the repository"):
        history([], past=[tmp_path / "elsewhere"], repository=code)
    with pytest.raises(UsageError, match="no git repository"):
        history([], past=[Path("x")], repository=tmp_path)
    with pytest.raises(DataError, match=r"results/runs/a\.json: not JSON"):
        history([], past=[Path("results")], repository=code)
    commit(code, {"results/runs/a.json": run_record(None)}, 2)
    found = history([], past=[Path("results")], repository=code)
    assert "1 commits have files that can't be read" in found.notes[0]
    with pytest.raises(UsageError, match=r"Did you mean"):
        history([code / "results"], metrics=["byte"])
    with pytest.raises(UsageError, match="models: linformer"):
        history([code / "results"], models=["fnet"])


def test_nothing_of_torch_is_needed() -> None:
    modules = "lra_bench.cli.history, lra_bench.report.history, lra_bench.report.github_benchmark"
    code = f"import sys; import {modules}; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-P", "-c", code], check=False).returncode == 0
