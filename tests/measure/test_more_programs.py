"""The programs of section 5 of HAND_COUNT.md: bytes and FLOPs as by hand, and by an outside tracer."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from measure.more_programs import PROGRAMS

from lra_bench.measure.flops import count_flops
from lra_bench.measure.memory import measure_peak_memory

STATE = {"fused": 853_772, "convolution": 8_536_064, "sort": 4_194_304, "fourier": 8_388_616}
TENSORS = {"fused": 14_290_224, "convolution": 8_388_612, "sort": 12_582_912, "fourier": 8_388_624}
ALLOCATOR = {"fused": 14_290_224, "sort": 20_971_520, "fourier": 8_388_624}
"""The convolution's workspace is its library's affair, which differs between processors."""
OUTSIDE_SHARE, OUTSIDE_BYTES = 0.01, 150_000
"""What memray may see beyond the allocator: Python's objects and buffers of libraries."""
COPY_BYTES = 4 * 1_048_576
"""Of the Fourier transform's data."""
TRANSFORM_COPIES = {"fourier": (1, 2.25)}
"""Copies that its library takes from elsewhere, section 5.6: 1 on an Intel Xeon, 2.13 on an AMD EPYC."""


@pytest.fixture(autouse=True)
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def measure(name):
    model, optimizer, batch, step = PROGRAMS[name]()
    return measure_peak_memory(step, model=model, optimizer=optimizer, batch=batch, warm_up_steps=2)


@pytest.mark.parametrize("name", sorted(STATE))
def test_every_byte_is_the_one_counted_by_hand(name):
    result = measure(name)
    assert result.state_bytes == STATE[name]
    assert sum(result.breakdown.values()) - result.state_bytes == TENSORS[name]
    if name in ALLOCATOR:
        assert result.step_bytes == ALLOCATOR[name]
    else:
        assert result.step_bytes >= TENSORS[name]


@pytest.mark.parametrize("name", ["explicit", "fused"])
def test_both_encoders_have_the_flops_counted_by_hand(name):
    model, _, (ids, _), _ = PROGRAMS[name]()
    found = count_flops(model.to("meta"), (ids.to("meta"),))
    assert (found.forward, found.step) == (805_311_488, 2_415_934_464)
    assert {"softmax", "gelu", "layer_norm"} <= set(found.uncovered)


def test_the_other_programs_have_the_flops_counted_by_hand():
    convolution, _, (x,), _ = PROGRAMS["convolution"]()
    found = count_flops(convolution.to("meta"), (x.to("meta"),))
    assert (found.forward, found.step, found.uncovered) == (2_415_919_104, 4_831_838_208, [])
    fourier, _, (x, w), _ = PROGRAMS["fourier"]()
    found = count_flops(fourier, (x.to("meta").requires_grad_(), w.to("meta")))
    assert (found.forward, found.uncovered) == (104_857_600, ["elementwise"])
    sort, _, (x,), _ = PROGRAMS["sort"]()
    found = count_flops(sort, (x.to("meta").requires_grad_(),))
    assert found.forward == 0
    assert "sort" in found.uncovered


@pytest.mark.slow
@pytest.mark.parametrize("name", sorted(PROGRAMS))
def test_an_outside_tracer_sees_the_allocators_bytes_and_hardly_more(name):
    pytest.importorskip("memray", reason="memray traces on Linux and macOS only")
    script = Path(__file__).with_name("memray_peak.py")
    # Python's own small objects come one by one, not as an arena of 1 MiB that a step may happen to open.
    environment = {**os.environ, "PYTHONMALLOC": "malloc"}
    command = [sys.executable, str(script), name]
    traced = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    outside = int(traced.stdout) - measure(name).step_bytes
    least, most = TRANSFORM_COPIES.get(name, (0, 0))
    allowed = OUTSIDE_SHARE * int(traced.stdout) + OUTSIDE_BYTES
    assert least * COPY_BYTES <= outside <= most * COPY_BYTES + allowed
