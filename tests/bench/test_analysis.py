"""Ratios, rows and repeats of sessions whose numbers are known."""

import pytest
from synthetic_session import cell, session

from lra_bench.bench.analysis import (
    bytes_ratio,
    efficiency_rows,
    flops_ratio,
    longest_that_fits,
    repeats,
    session_frame,
    time_ratio,
    time_ratio_to_explicit,
)


def test_the_ratio_pairs_turns_of_one_round():
    # The machine doubles its time from round to round: medians of each alone would say nothing.
    drifting = [1.0, 2.0, 4.0, 8.0, 16.0, 32.0]
    one = cell("linformer", 64, own_s=[0.5 * x for x in drifting], reference_s=drifting)
    found = time_ratio(one)
    assert (found.value, found.low, found.high, found.rounds) == (0.5, 0.5, 0.5, 6)


def test_its_interval_is_between_order_statistics():
    own = [1.0, 1.1, 1.2, 1.3, 1.4, 1.5, 1.6, 1.7, 1.8]
    found = time_ratio(cell("linformer", 64, own_s=own, reference_s=[1.0] * 9))
    # Of nine, the second smallest to the second largest: 1 - 2 (1 + 9) / 2^9 = 0.961.
    assert (found.value, found.low, found.high) == (1.4, 1.1, 1.7)
    assert found.level == pytest.approx(1 - 20 / 512)


def test_a_ratio_is_the_median_over_all_rounds_and_its_interval_holds_each_process():
    own = [2.0] * 8 + [3.0] * 2 + [2.2] * 3
    found = time_ratio(
        cell("linformer", 64, own_s=own, reference_s=[1.0] * 13, process=[0] * 8 + [1] * 2 + [2] * 3)
    )
    assert found.value == 2.0
    # Of the rounds alone it would be from 2 to 2.2: ranks 3 and 11 of 13.
    assert (found.low, found.high) == (2.0, 3.0)
    assert found.rounds == 13


def test_the_reference_is_one_and_an_untimed_cell_has_no_ratio():
    assert time_ratio(cell("transformer", 64, own_s=1.0)).value == 1.0
    assert time_ratio(cell("linformer", 64, status="oom")) is None
    assert time_ratio(cell("transformer", 64, status="oom")) is None


def test_the_explicit_matrix_is_reached_through_the_reference():
    cells = [
        cell("transformer", 64, own_s=1.0),
        cell("transformer_explicit", 64, own_s=[4.0, 4.0, 4.0, 4.0, 4.0, 5.0], reference_s=1.0, group=1),
        cell("linformer", 64, own_s=[2.0, 2.0, 2.0, 2.0, 2.0, 3.0], reference_s=1.0),
    ]
    one = session(cells)
    found = time_ratio_to_explicit(one, cells[2])
    assert (found.value, found.low, found.high) == (0.5, 2 / 5, 3 / 4)
    assert time_ratio_to_explicit(one, cells[1]).value == 1.0
    assert time_ratio_to_explicit(session(cells[:1] + cells[2:]), cells[2]) is None


def test_bytes_and_flops_are_quotients_of_what_is_alike():
    base = cell("transformer", 64, own_s=1.0, peak_bytes=1000, flops=300)
    other = cell("linformer", 64, own_s=1.0, reference_s=1.0, peak_bytes=250, flops=600)
    one = session([base, other])
    assert bytes_ratio(one, other) == 0.25
    assert flops_ratio(one, other) == 2.0
    tracked = cell("linformer", 64, own_s=1.0, reference_s=1.0, peak_bytes=250, method="storage_tracker")
    assert bytes_ratio(session([base, tracked]), tracked) is None


def test_of_several_references_the_row_is_that_of_the_first_group():
    cells = [cell("transformer", 64, own_s=float(group + 1), group=group) for group in (1, 0)]
    rows = efficiency_rows(session(cells))
    assert [row["step_time_s"] for row in rows] == [1.0]


def test_rows_say_everything_and_a_frame_holds_them():
    cells = [
        cell("transformer", 64, own_s=0.5, peak_bytes=1000, state_bytes=400, flops=300),
        cell("linformer", 64, own_s=0.25, reference_s=0.5, peak_bytes=500, state_bytes=400, flops=150),
        cell("linformer", 128, status="oom"),
    ]
    frame = session_frame(session(cells)).set_index(["model", "length"])
    row = frame.loc[("linformer", 64)]
    assert row.time_ratio == 0.5
    assert (row.time_ratio_rounds, row.time_ratio_level) == (6, 1 - 2 / 64), "all six, by order statistics"
    assert row.steps_per_s == 4.0
    assert row.tokens_per_s == 4 * 64 / 0.25
    assert (row.peak_bytes, row.step_bytes, row.activations_bytes) == (500, 100, 100)
    assert (row.bytes_ratio, row.flops_ratio, row.flops_per_s) == (0.5, 0.5, 600.0)
    lost = frame.loc[("linformer", 128)]
    assert (lost.status, lost.reason) == ("oom", "it ended as oom")
    assert lost.isna().step_time_s


def test_the_longest_that_fits_and_why_no_longer():
    cells = [cell("transformer", n, own_s=1.0) for n in (64, 128)]
    cells += [cell("fnet", 64, own_s=1.0, reference_s=1.0), cell("fnet", 128, status="timeout")]
    one = session(cells)
    assert longest_that_fits(one, "transformer", False) == (128, "")
    assert longest_that_fits(one, "fnet", False) == (64, "128: timeout, it ended as timeout")


def test_repeats_compare_ratios_and_not_times():
    def measured(scale, ratio, peak_bytes):
        return session(
            [
                cell("transformer", 64, own_s=scale, peak_bytes=9, flops=3),
                cell("fnet", 64, own_s=scale * ratio, reference_s=scale, peak_bytes=peak_bytes, flops=3),
            ]
        )

    (same,) = repeats(measured(1.0, 0.5, 7), measured(3.0, 0.5, 7))
    assert (same.time_change, same.absolute_change) == (0.0, pytest.approx(2.0))
    assert same.bytes_equal
    assert same.flops_equal
    (moved,) = repeats(measured(1.0, 0.5, 7), measured(1.0, 0.6, 8))
    assert moved.time_change == pytest.approx(0.2)
    assert moved.bytes_equal is False


def test_what_nobody_measured_is_not_called_equal():
    both = session([cell("transformer", 64, own_s=1.0), cell("fnet", 64, own_s=1.0, reference_s=1.0)])
    (one,) = repeats(both, both)
    assert (one.bytes_equal, one.flops_equal) == (None, None)
    measured = session([cell("fnet", 64, own_s=1.0, reference_s=1.0, peak_bytes=7)])
    (one,) = repeats(both, measured)
    assert (one.bytes_equal, one.flops_equal) == (False, None)
