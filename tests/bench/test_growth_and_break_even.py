"""Growth and break-even of costs whose formula is known."""

import numpy as np
import pytest
from synthetic_session import cell, session

from lra_bench.bench.break_even import break_even
from lra_bench.bench.growth import growth_of

LENGTHS = (512, 1024, 2048, 4096)


def model_of(name, seconds, size=lambda n: 1, lengths=LENGTHS, noise=0.0):
    """Cells whose time and bytes are functions of the length; turns vary by `noise`."""
    rng = np.random.default_rng(0)
    cells = []
    for n in lengths:
        own = (seconds(n) * np.exp(noise * rng.standard_normal(12))).tolist()
        peak = int(size(n)) + 1000
        cells.append(
            cell(name, n, own_s=own, reference_s=[quadratic(n)] * 12, peak_bytes=peak, state_bytes=1000)
        )
    return cells


def quadratic(n):
    return 1e-6 * n**2


def linear(n):
    return 1e-3 * n


def test_exponents_are_those_of_the_formula():
    one = session([*model_of("transformer", quadratic, lambda n: 8 * n), *model_of("linformer", linear)])
    time = growth_of(one, "transformer", False, "time")
    assert time.exponent == pytest.approx(2)
    assert time.claim == "n^2 d"
    assert time.r2 == pytest.approx(1)
    assert time.residual == pytest.approx(0, abs=1e-9)
    assert (time.low, time.high) == (pytest.approx(2), pytest.approx(2))
    size = growth_of(one, "transformer", False, "bytes")
    assert (size.exponent, size.low) == (pytest.approx(1), None), "without the 1,000 bytes of state"
    assert growth_of(one, "linformer", False, "time").exponent == pytest.approx(1)
    assert growth_of(one, "transformer", False, "flops") is None


def test_a_claim_that_is_not_kept_shows_in_the_fit():
    honest = growth_of(session(model_of("linformer", linear)), "linformer", False, "time")
    false = growth_of(session(model_of("linformer", lambda n: 1e-9 * n**3)), "linformer", False, "time")
    assert honest.residual < 0.01
    assert false.residual > 0.3
    assert false.exponent == pytest.approx(3)


def test_the_interval_of_an_exponent_covers_it_about_as_often_as_it_says():
    inside = 0
    for seed in range(60):
        rng = np.random.default_rng(seed)
        cells = [
            cell(
                "transformer",
                n,
                own_s=(quadratic(n) * np.exp(0.1 * rng.standard_normal(15))).tolist(),
            )
            for n in LENGTHS
        ]
        # A reference has no turns; its samples stand in for them.
        cells = [
            one.model_copy(update={"step_time": one.step_time.model_copy(update={"samples_s": turns})})
            for one, turns in zip(
                cells,
                [(quadratic(n) * np.exp(0.1 * rng.standard_normal(15))).tolist() for n in LENGTHS],
                strict=True,
            )
        ]
        found = growth_of(session(cells), "transformer", False, "time")
        inside += found.low <= 2 <= found.high
    assert 50 <= inside <= 60


def test_the_reference_is_resampled_by_turns():
    # Its samples never vary, its turns do: only from the turns can the interval have a width.
    cells = []
    for n in LENGTHS:
        turns = [quadratic(n) * factor for factor in (0.8, 0.9, 1.0, 1.0, 1.1, 1.2)]
        cells.append(cell("transformer", n, own_s=quadratic(n)))
        cells.append(cell("fnet", n, own_s=turns, reference_s=turns))
    found = growth_of(session(cells), "transformer", False, "time")
    assert found.low < 1.9
    assert found.high > 2.1


def test_too_few_lengths_have_no_growth_and_no_fit():
    short = model_of("transformer", quadratic, lengths=(512, 1024))
    assert growth_of(session(short[:1]), "transformer", False, "time") is None
    assert growth_of(session(short), "transformer", False, "time").r2 is None


def test_lines_cross_where_the_formulas_do():
    one = session([*model_of("transformer", quadratic), *model_of("linformer", linear)])
    found = break_even(one, "linformer", False, "time")
    assert (found.kind, found.between, found.certain) == ("crossing", (512, 1024), True)
    assert found.length == pytest.approx(1000), "1e-6 n^2 = 1e-3 n"


def test_below_from_the_start_and_never():
    fast, slow = model_of("fnet", lambda n: 1e-7 * n), model_of("linformer", lambda n: 1e-2 * n)
    one = session([*model_of("transformer", quadratic), *fast, *slow])
    assert break_even(one, "fnet", False, "time").kind == "throughout"
    assert break_even(one, "linformer", False, "time").kind == "not within range"
    assert break_even(one, "fnet", True, "time").kind == "unknown"


def test_who_falls_back_again_has_not_overtaken():
    def seconds(n):
        return quadratic(n) * {512: 0.5, 1024: 2.0, 2048: 0.5, 4096: 0.5}[n]

    one = session([*model_of("transformer", quadratic), *model_of("fnet", seconds)])
    assert break_even(one, "fnet", False, "time").between == (1024, 2048)


def test_a_crossing_within_the_noise_is_not_certain():
    one = session(
        [
            *model_of("transformer", quadratic),
            *model_of("fnet", lambda n: quadratic(n) * (1.01 if n < 4096 else 0.99), noise=0.3),
        ]
    )
    assert not break_even(one, "fnet", False, "time").certain


def test_what_alone_fits_pays():
    cells = [
        cell("transformer", 512, own_s=1.0, peak_bytes=10),
        cell("transformer", 1024, status="oom"),
        cell("fnet", 512, own_s=2.0, reference_s=1.0, peak_bytes=20),
        cell("fnet", 1024, own_s=9.0, peak_bytes=20),
    ]
    for quantity in ("time", "bytes"):
        found = break_even(session(cells), "fnet", False, quantity)
        assert (found.kind, found.length, found.between) == ("crossing", None, (512, 1024))
    swapped = [
        cell("transformer", 512, own_s=1.0),
        cell("fnet", 512, status="timeout"),
    ]
    assert break_even(session(swapped), "fnet", False, "time").kind == "not within range"


def test_who_runs_out_of_time_may_still_be_smaller():
    cells = [
        cell("transformer", 512, status="timeout", peak_bytes=10),
        cell("fnet", 512, own_s=2.0, peak_bytes=20),
    ]
    one = session(cells)
    assert break_even(one, "fnet", False, "time").kind == "throughout"
    assert break_even(one, "fnet", False, "bytes").kind == "not within range", "20 bytes against 10"
    unknown = session([cell("transformer", 512, status="timeout"), cells[1]])
    assert break_even(unknown, "fnet", False, "bytes").kind == "unknown"


def test_a_ratio_outweighs_the_ending_of_another_groups_reference():
    cells = [
        cell("transformer", 512, status="timeout", group=0),
        cell("transformer", 512, own_s=1.0, group=1),
        cell("fnet", 512, own_s=2.0, reference_s=1.0, group=1),
    ]
    assert break_even(session(cells), "fnet", False, "time").kind == "not within range"


def test_below_throughout_is_certain_only_if_it_is_everywhere():
    def noisy_at(length):
        cells = model_of("transformer", quadratic)
        for n in LENGTHS:
            turns = [
                quadratic(n) * f for f in ((0.7, 0.8, 0.9, 0.9, 1.1, 1.2) if n == length else (0.9,) * 6)
            ]
            cells.append(cell("fnet", n, own_s=turns, reference_s=quadratic(n)))
        return break_even(session(cells), "fnet", False, "time")

    for found in (noisy_at(None), noisy_at(2048)):
        assert (found.kind, found.compared) == ("throughout", (512, 4096))
    assert noisy_at(None).certain
    assert not noisy_at(2048).certain


def test_equal_bytes_are_certainly_no_gain():
    cells = [cell("transformer", 512, own_s=1.0, peak_bytes=10)]
    cells.append(cell("fnet", 512, own_s=1.0, reference_s=1.0, peak_bytes=10))
    found = break_even(session(cells), "fnet", False, "bytes")
    assert (found.kind, found.certain) == ("not within range", True)
