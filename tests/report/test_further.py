"""Families, missing cells and commands below a board."""

from __future__ import annotations

from board_rows import Row, score

from lra_bench.report.further import families_table, missing_table


def test_a_family_is_the_mean_of_its_models_with_their_defaults() -> None:
    rows = [
        Row("linformer", "low_rank", [score("text", 0.5), score("image", 0.3)]),
        Row("linformer (rank=8)", "low_rank", [score("text", 0.9), score("image", 0.9)]),
        Row("nystromformer", "low_rank", [score("text", 0.6), score("image", None, "oom")]),
        Row("fnet", "layer", [score("text", None, "not run"), score("image", 0.2)]),
    ]
    assert families_table(rows).rows == [
        {"family": "low_rank", "models": "2", "text": "55.0 (50.0 to 60.0; 2)", "image": "30.0 (1)"},
        {"family": "layer", "models": "1", "text": "-", "image": "20.0 (1)"},
    ]


def test_missing_cells_are_one_line_a_model() -> None:
    rows = [
        Row("fnet", "layer", [score("text", 0.5)]),
        Row("local", "sparse", [score("text", None, "not run"), score("image", None, "not run")]),
        Row("explicit", "exact", [score("text", None, "oom", ("1",)), score("image", 0.3)]),
    ]
    assert missing_table(rows, []).rows == [
        {"model": "local", "missing": "not run: text, image"},
        {"model": "explicit", "missing": "oom: text"},
    ]
