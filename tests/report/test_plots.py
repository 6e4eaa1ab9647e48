"""Figures: the same bytes for the same records, a look of its own for every model, nothing left out."""

import io
import re
import xml.etree.ElementTree as ET

import pytest
from synthetic_session import cell, session
from typer.testing import CliRunner

from lra_bench.bench.records import write_cell, write_session
from lra_bench.cli.main import app
from lra_bench.errors import UsageError
from lra_bench.registry import models
from lra_bench.report.plots.growth import growth_figure, value_of
from lra_bench.report.plots.style import FAMILY_COLOURS, SVG_METADATA, look_of, save, styled, svg_text


@pytest.fixture
def small():
    cells = []
    for n in (1024, 2048, 4096):
        cells.append(cell("transformer", n, own_s=1e-6 * n**2, peak_bytes=n * 1000))
        cells.append(cell("linformer", n, own_s=1e-3 * n, reference_s=1.0, peak_bytes=n * 500))
        lost = n == 4096
        cells.append(
            cell("transformer_explicit", n, status="oom")
            if lost
            else cell("transformer_explicit", n, own_s=1e-5 * n**2, reference_s=1.0, peak_bytes=n * n)
        )
    # The tests' factory calls every family exact.
    families = {entry.name: entry.family for entry in models}
    return session([one.model_copy(update={"family": families[one.model]}) for one in cells])


@pytest.mark.parametrize("quantity", ["time", "memory"])
@pytest.mark.parametrize("ending", ["svg", "png"])
def test_the_same_records_give_the_same_bytes(small, quantity, ending, tmp_path):
    paths = [tmp_path / f"{number}.{ending}" for number in (1, 2)]
    for path in paths:
        save(growth_figure(small, quantity), path)
    assert paths[0].read_bytes() == paths[1].read_bytes()
    assert len(paths[0].read_bytes()) > 5_000


def test_a_lean_svg_is_drawn_as_matplotlib_would(small):
    """Element by element: the same kind, the same style, the same text, and its numbers rounded."""
    figure = growth_figure(small, "time")
    plain = io.StringIO()
    with styled():
        figure.savefig(plain, format="svg", metadata=SVG_METADATA, bbox_inches="tight")
    lean = svg_text(figure)
    assert len(lean) < 0.7 * len(plain.getvalue())
    rules = dict(re.findall(r"^[.](s\d+){(.*)}$", lean, re.MULTILINE))
    assert rules
    pairs = list(zip(ET.fromstring(plain.getvalue()).iter(), ET.fromstring(lean).iter(), strict=True))
    for before, after in pairs:
        given = dict(before.attrib), dict(after.attrib)
        kind = before.tag.rpartition("}")[2]
        if kind == "g":
            given[0].pop("id", None)
        if "class" in given[1]:
            given[1]["style"] = rules[given[1].pop("class")]
        assert after.tag == before.tag
        assert given[1].keys() == given[0].keys()
        for key, value in given[0].items():
            apart = [re.split(r"(-?[\d.]+)", text) for text in (value, given[1][key])]
            for one, other in zip(*apart, strict=True):
                assert one.strip() == other.strip() or float(other) == pytest.approx(float(one), abs=0.0051)
        if kind != "style":
            assert (after.text or "").strip() == (before.text or "").strip()


def test_a_figure_names_its_models_and_how_they_were_measured(small, tmp_path):
    save(growth_figure(small, "time"), tmp_path / "one.svg")
    text = (tmp_path / "one.svg").read_text("utf-8")
    for part in ("linformer", "transformer_explicit", "low rank", "cpu-test-2c-8g", "fp32", "batch 4"):
        assert part in text


def test_lines_are_the_records_numbers(small):
    figure = growth_figure(small, "time")
    lines = {line.get_label(): line for axes in figure.axes for line in axes.get_lines()}
    assert lines["linformer"].get_xydata().tolist() == [[n, 1e-3 * n] for n in (1024, 2048, 4096)]
    assert len(lines["transformer_explicit"].get_xydata()) == 2, "what did not fit has no point"
    assert value_of(small.find("transformer_explicit", 4096, False), "time") is None


def test_every_model_has_a_look_of_its_own():
    looks = {entry.name: look_of(entry.name) for entry in models}
    assert len(set(looks.values())) == len(looks)
    assert {entry.family for entry in models} <= set(FAMILY_COLOURS)
    assert look_of("somebody:Else") == look_of("somebody:Else")


def test_other_formats_are_refused(small, tmp_path):
    with pytest.raises(UsageError, match="svg or png"):
        save(growth_figure(small, "time"), tmp_path / "one.pdf")


def test_the_command_writes_the_figure_of_a_session(small, tmp_path):
    folder = tmp_path / "bench" / "cpu-test-2c-8g" / small.record.session
    write_session(folder, small.record)
    for number, one in enumerate(small.cells):
        write_cell(folder / "cells" / f"{number}.json", one)
    given = ["plot", "growth", small.record.session[:8], "--results", str(tmp_path), "--quantity", "memory"]
    done = CliRunner().invoke(app, given)
    assert done.exit_code == 0, done.output
    assert (tmp_path / "plots" / "growth_memory.svg").read_text("utf-8").startswith("<?xml")
