"""The tables of measuring sessions: what they show, and that nothing in a record can break them."""

import io

import pytest
from rich.console import Console
from synthetic_session import cell, session

from lra_bench.errors import UsageError
from lra_bench.report.bench import describe, print_session, session_markdown, warnings
from lra_bench.report.published import published_costs
from lra_bench.report.repeatability import repeatability_markdown


def printed(one):
    out = io.StringIO()
    print_session(Console(file=out, width=120), one)
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
    assert "3 of 3 cells have the same peak bytes, 3 of 3 the same FLOPs" in text
    assert "| ratio to transformer | 0 of 3 | 10.0% | 10.0% |" in text
    with pytest.raises(UsageError, match="no timed cell in common"):
        repeatability_markdown(small, session([cell("transformer", 1024, own_s=1.0)]))


def test_published_costs_are_the_table():
    costs = published_costs()
    assert len(costs) == 9 * 4 * 2
    by_key = {(c.model, c.metric, c.length): c for c in costs}
    speed = {n: by_key["local", "steps_per_s", n].value for n in (1024, 4096)}
    base = by_key["transformer", "steps_per_s", 4096].value
    # The paper prints 5.3 times the Transformer's speed at 4K for local attention.
    assert speed[4096] / base == pytest.approx(5.3, abs=0.05)
    assert by_key["synthesizer", "steps_per_s", 3072].remark
