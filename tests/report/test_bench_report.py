"""The tables of measuring sessions: what they show, and that nothing in a record can break them."""

import io
import json

import pytest
from rich.console import Console
from synthetic_session import cell, session

from lra_bench.bench.analysis import efficiency_rows
from lra_bench.errors import UsageError
from lra_bench.report.bench import describe, print_session, session_markdown, warnings
from lra_bench.report.bench_tables import session_tables
from lra_bench.report.bench_text import markdown_text, plain, side_by_side
from lra_bench.report.published import published_costs
from lra_bench.report.repeatability import repeatability_markdown


def printed(one, width=120):
    out = io.StringIO()
    print_session(Console(file=out, width=width), one)
    return out.getvalue()


@pytest.fixture
def small():
    cells = []
    for n, scale in ((1024, 1.0), (2048, 4.0)):
        cells += [
            cell("transformer", n, own_s=scale, peak_bytes=2**20, flops=3_000_000),
            cell("linformer", n, own_s=0.8, reference_s=scale, peak_bytes=2**19, flops=1_500_000),
        ]
    cells += [cell("fnet", 1024, own_s=0.5, reference_s=1.0, noise=["samples vary"])]
    cells += [cell("fnet", 2048, status="oom")]
    return session(cells)


def test_ratios_codes_and_marks_are_in_the_tables(small):
    text = printed(small)
    line = next(line for line in text.splitlines() if line.strip().startswith("fnet"))
    assert "0.50 (0.50-0.50) *" in line
    assert "OOM" in line
    assert "512 KiB (0.50)" in text
    assert "1.50 M (0.50), 1.88 M/s" in text
    assert "2048: oom, it ended as oom" in text.replace("2,048", "2048")


def test_markdown_has_the_same_figures_and_the_published_ones_beside(small):
    text = session_markdown(small)
    assert "| linformer | 0.80 (0.80-0.80) | 0.20 (0.20-0.20) |" in text
    # Theirs: 8.1 / 9.3 steps per second at 1K, and 0.37 / 0.85 GB.
    assert "| linformer | 0.80 / 0.87 | 0.20 / 0.54 |" in text
    assert "| linformer | 0.50 / 0.44 | 0.50 / 0.21 |" in text


def test_every_line_fits_a_page(small):
    assert max(len(line) for line in printed(small).splitlines()) <= 120


def test_many_models_and_lengths_are_shown_whole():
    names = ["transformer", "transformer_explicit", "sparse_transformer", "compressive", "reformer"]
    cells = [
        cell(
            name,
            n,
            own_s=[0.1 * n * (1 + place) * (1 + k / 300) for k in range(7)],
            reference_s=[0.1 * n] * 7,
            peak_bytes=10**8 * n * (12 + place),
            flops=50 * 10**6 * n * (12 + place),
            noise=["samples vary"],
        )
        for n in (1024, 2048, 3072, 4096, 16384)
        for place, name in enumerate(names)
    ]
    one = session(cells)
    for width in (80, 120):
        assert max(len(line) for line in printed(one, width).splitlines()) <= width
    text = printed(one)
    for table in session_tables(one):
        for row in table.rows:
            for content in row.values():
                assert content in text


def test_a_table_is_cut_between_columns_and_names_its_rows_again():
    rows = [{"model": "abc", "x": "1234567890", "y": "12345", "z": "1" * 80}]
    # 6 for the first column, then 13 and 8: 27. The last column wraps, and so needs no more than 33.
    assert [list(part[0]) for part in side_by_side(rows, 60)] == [["model", "x", "y", "z"]]
    assert [list(part[0]) for part in side_by_side(rows, 59)] == [["model", "x", "y"], ["model", "z"]]
    assert [list(part[0]) for part in side_by_side(rows, 5)] == [["model", c] for c in "xyz"]
    assert list(side_by_side([], 80)) == []


def test_what_was_the_same_for_all_is_said(small):
    text = describe(small)
    for part in ("cpu-test-2c-8g", "fp32", "eager", "checkpointing: none", "4 x n", "2 layers, width 64"):
        assert part in text


def test_noise_and_failures_are_said(small):
    found = "\n".join(warnings(small))
    assert "1 of 5 timings are marked noisy" in found
    assert "fnet, 2,048 tokens: OOM, it ended as oom" in found


def test_names_can_not_break_a_table():
    nasty = "[bold]x[/] | y\nz"
    cells = [cell("transformer", 64, own_s=1.0)]
    cells.append(cell("linformer", 64, own_s=1.0, reference_s=1.0, options={"note": nasty}))
    one = session(cells)
    assert "[bold]x[/]" in printed(one)
    rows = [line for line in session_markdown(one).splitlines() if line.startswith("| linformer")]
    assert rows
    assert all("\\| y z" in line for line in rows)


def test_control_characters_and_markup_stay_text():
    nasty = "a\x1b[2J\r\nb <img src=x> [l](http://e) *c* `d`"
    cells = [cell("transformer", 64, own_s=1.0)]
    cells.append(cell("linformer", 64, own_s=1.0, reference_s=1.0, options={"note": nasty}))
    cells.append(cell("fnet", 64, status="error").model_copy(update={"reason": f"why\n\n# {nasty}"}))
    one = session(cells)
    shown, written = printed(one), session_markdown(one)
    for text in (shown, written):
        assert not {c for c in text if not c.isprintable()} - {"\n"}
    assert "<img src=x> [l](http://e) *c* `d`" in " ".join(shown.split())
    rows = [line for line in written.splitlines() if line.startswith(("| linformer", "- fnet"))]
    assert len(rows) > 4
    for row in rows:
        assert r"\<img src=x> \[l\](http://e) \*c\* \`d\`" in row
    assert "\n# " not in written.replace("\n## ", "").replace("\n### ", "")


def test_what_is_no_markup_is_left_alone():
    for text in ("<= 1,024", "transformer_explicit", "0.50 (0.49-0.51) *", "n^2 h + n d", "a & b"):
        assert markdown_text(text) == text
    assert markdown_text("_x_ **y**") == r"\_x\_ \*\*y\*\*"
    assert plain("a\tb\u202ec\u00e9") == "a b c\u00e9"


def test_a_model_whose_module_is_gone_still_has_its_tables():
    cells = [cell("transformer", n, own_s=n / 64, peak_bytes=n) for n in (64, 128)]
    cells += [cell("gone_pkg.attn:Mine", n, own_s=1.0, reference_s=n / 64, peak_bytes=n) for n in (64, 128)]
    line = next(x for x in session_markdown(session(cells)).splitlines() if "Mine | n^" in x)
    assert line == "| gone_pkg.attn:Mine | n^0.00 (0.00-0.00) |  | - | n^1.00 |  | - |"


def test_a_session_without_cells_yet_has_no_tables(small):
    nothing = small.model_copy(update={"cells": []})
    assert "cpu-test-2c-8g" in printed(nothing)
    assert "|" not in session_markdown(nothing)


def test_break_even_says_how_far_it_was_compared():
    cells = [cell("transformer", n, own_s=1.0, peak_bytes=10) for n in (512, 1024)]
    cells += [cell("fnet", 1024, own_s=0.5, reference_s=1.0, peak_bytes=10)]
    cells += [cell("linformer", 512, own_s=0.5, reference_s=1.0, peak_bytes=10)]
    rows = {
        row["model"]: row["in time"]
        for row in next(
            table for table in session_tables(session(cells)) if table.title.startswith("The length")
        ).rows
    }
    assert rows == {"transformer": "-", "fnet": "<= 1,024", "linformer": "<= 512, to 512"}


def test_rows_are_json(small):
    assert json.loads(json.dumps(efficiency_rows(small)))[0]["model"] == "transformer"


def test_one_length_has_no_growth_and_still_a_break_even(small):
    one = session([c for c in small.cells if c.length == 1024])
    text = printed(one)
    assert "Growth" not in text
    assert "<= 1,024" in text


def test_compiled_has_tables_of_its_own(small):
    compiled = [c.model_copy(update={"compiled": True}) for c in small.cells]
    one = session([*small.cells, *compiled], compiled=(False, True))
    text = session_markdown(one)
    assert "Step time as a ratio to transformer\n" in text
    assert "Step time as a ratio to transformer (compiled)" in text


def test_repeatability_says_what_moved(small):
    slower = session(
        [
            c.model_copy(
                update={"turns": c.turns.model_copy(update={"own_s": [1.1 * t for t in c.turns.own_s]})}
            )
            if c.turns
            else c
            for c in small.cells
        ]
    )
    text = repeatability_markdown(small, slower)
    # Of the three timed cells one has neither bytes nor FLOPs, and so has none that are the same.
    assert "2 of 2 cells have the same peak bytes, 2 of 2 the same FLOPs." in text
    assert "Ended otherwise" not in text
    assert "| ratio to transformer | 0 of 3 | 10.0% | 10.0% |" in text
    with pytest.raises(UsageError, match="no timed cell in common"):
        repeatability_markdown(small, session([cell("transformer", 1024, own_s=1.0)]))


def test_repeatability_says_what_ended_otherwise_and_refuses_other_settings(small):
    lost = [
        cell("linformer", 2048, status="oom") if c.key == ("linformer", 2048, False) else c
        for c in small.cells
    ]
    assert "Ended otherwise: linformer, 2,048: ok, then oom." in repeatability_markdown(small, session(lost))
    forward = small.model_copy(update={"record": small.record.model_copy(update={"mode": "forward"})})
    with pytest.raises(UsageError, match="differ in mode"):
        repeatability_markdown(small, forward)


def test_published_costs_are_the_table():
    costs = published_costs()
    assert len(costs) == 9 * 4 * 2
    by_key = {(c.model, c.metric, c.length): c for c in costs}
    speed = {n: by_key["local", "steps_per_s", n].value for n in (1024, 4096)}
    base = by_key["transformer", "steps_per_s", 4096].value
    # The paper prints 5.3 times the Transformer's speed at 4K for local attention.
    assert speed[4096] / base == pytest.approx(5.3, abs=0.05)
    assert by_key["synthesizer", "steps_per_s", 3072].remark
