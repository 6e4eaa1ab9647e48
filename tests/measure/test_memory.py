"""The parts of the memory measurement: allocator events, storages, process peak, running out."""

import os
import subprocess
import sys

import numpy as np
import pytest
import torch
from torch import nn

from lra_bench.errors import OptionError
from lra_bench.measure.memory import (
    allocator_high_water,
    is_out_of_memory,
    measure_peak_memory,
    process_peak_bytes,
)
from lra_bench.measure.tracker import StorageTracker, storage_bytes

MIB = 2**20


def test_high_water_is_the_largest_sum_alive_at_once():
    def step():
        first = torch.empty(1_000)  # 4,000 bytes
        second = torch.empty(2_000)  # 8,000: together 12,000, the peak
        del first
        third = torch.empty(500)  # 2,000: 10,000
        del second, third

    assert allocator_high_water(step) == 12_000


def test_high_water_ignores_blocks_from_before_the_step():
    held = [torch.empty(1_000_000)]

    def step():
        held.clear()
        held.append(torch.empty(10))

    assert allocator_high_water(step) == 40


def test_high_water_sees_workspace_that_the_tracker_cannot():
    x = torch.randn(1 << 16, generator=torch.Generator().manual_seed(0))
    result = measure_peak_memory(x.sort, model=nn.Identity(), batch=[x])
    outputs = (4 + 8) * x.numel()  # values and indices
    assert sum(result.breakdown.values()) == 4 * x.numel() + outputs
    assert result.step_bytes > outputs


def test_profiler_lines_stay_out_of_stderr_and_others_stay_in(capfd):
    def step():
        os.write(2, b"the step's own line\n")
        torch.empty(10)

    allocator_high_water(step)
    assert capfd.readouterr().err == "the step's own line\n"


def test_an_error_in_the_step_comes_through_and_leaves_the_profiler_usable():
    def broken():
        raise ValueError("broken step")

    with pytest.raises(ValueError, match="broken step"):
        allocator_high_water(broken)
    assert allocator_high_water(lambda: torch.empty(25)) == 100


def test_storages_count_once_and_whole():
    base = torch.empty(100)
    assert storage_bytes([base, base[:3], base.view(10, 10)]) == 400
    assert storage_bytes([base[:3]]) == 400
    assert storage_bytes([torch.empty(7, device="meta")]) == 0


def test_state_counts_tied_weights_once_buffers_and_what_no_one_registered():
    class Tied(nn.Module):
        def __init__(self):
            super().__init__()
            self.first = nn.Linear(8, 8, bias=False)
            self.second = nn.Linear(8, 8, bias=False)
            self.second.weight = self.first.weight
            self.register_buffer("table", torch.ones(16))
            self.hidden_constant = torch.ones(32)

        def forward(self, x):
            return self.second(self.first(x)).sum() + self.table.sum() + self.hidden_constant.sum()

    model, x = Tied(), torch.ones(2, 8)
    result = measure_peak_memory(lambda: model(x).backward(), model=model, batch=[x])
    assert result.breakdown["parameters"] == 8 * 8 * 4
    assert result.breakdown["buffers"] == 16 * 4
    assert result.breakdown["batch"] == 2 * 8 * 4
    assert result.breakdown["other_resident"] == 32 * 4
    assert result.state_bytes == (8 * 8 + 16 + 2 * 8 + 32) * 4


def test_tracker_tells_kept_from_passing():
    # tanh keeps its output; the scaled copy before it is only passing through.
    x = torch.ones(1_000, requires_grad=True)
    with StorageTracker(nn.Identity(), None, [x], "cpu") as tracker:
        y = (x * 2.0).tanh()
        assert tracker.live["activations"] == 4_000
        assert tracker.live["temporaries"] == 0
        z = y.detach().clone()
        assert tracker.live["temporaries"] == 4_000
        del z
        assert tracker.live["temporaries"] == 0
    assert tracker.peak_bytes == 12_000
    assert tracker.at_peak["batch"] == 4_000


def test_tracker_counts_a_literal_of_the_step_as_its_own():
    with StorageTracker(nn.Identity(), None, [], "cpu") as tracker:
        literal = torch.tensor([1.0, 2.0])
        assert (literal + literal).tolist() == [2.0, 4.0]
    assert tracker.at_peak["other_resident"] == 0


def test_forward_alone_needs_no_gradients():
    model, x = nn.Linear(64, 64), torch.ones(8, 64)
    with torch.no_grad():
        result = measure_peak_memory(lambda: model(x), model=model, batch=[x])
    assert result.breakdown["activations"] == result.breakdown["gradients"] == 0
    assert result.step_bytes == 8 * 64 * 4


def test_a_compiled_step_is_measured_compiled_and_stays_so():
    runs = []

    def counting_backend(graph, example_inputs):
        def run(*arguments):
            runs.append(1)
            return graph.forward(*arguments)

        return run

    torch._dynamo.reset()
    model, x = nn.Linear(8, 8), torch.ones(2, 8)
    compiled = torch.compile(model, backend=counting_backend)
    steps = []

    def step():
        before = len(runs)
        compiled(x).sum().backward()
        steps.append(len(runs) - before)

    measure_peak_memory(step, model=model, batch=[x], warm_up_steps=2)
    step()
    # Two warm-up steps, the allocator's, the tracker's (eager), and one after, which a dispatch mode
    # on its own would have made eager too.
    assert steps == [1, 1, 1, 0, 1]


@pytest.mark.skipif(not os.path.exists("/proc/self/status"), reason="no /proc on this system")
def test_process_peak_is_not_inherited_from_a_large_parent():
    # ru_maxrss of this child would start at its parent's 700 MiB.
    ballast = np.ones(700 * MIB // 8)
    code = "from lra_bench.measure.memory import process_peak_bytes; print(process_peak_bytes())"
    child = subprocess.run([sys.executable, "-P", "-c", code], capture_output=True, text=True, check=True)
    own = process_peak_bytes()
    assert ballast[-1] == 1
    assert own >= 700 * MIB
    assert 20 * MIB < int(child.stdout) < 600 * MIB


def test_out_of_memory_is_recognised_as_it_really_comes():
    with pytest.raises(RuntimeError) as error:
        torch.empty(2**62, dtype=torch.uint8)
    assert is_out_of_memory(error.value)
    with pytest.raises(MemoryError) as python_error:
        np.empty(2**62, dtype=np.uint8)
    assert is_out_of_memory(python_error.value)


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB."), True),
        (RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried 8 bytes"), True),
        (RuntimeError("DefaultCPUAllocator: not enough memory: you tried to allocate 8 bytes."), True),
        (RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling cublasCreate(handle)"), True),
        (OSError(12, "Cannot allocate memory"), True),
        (RuntimeError("The size of tensor a (3) must match the size of tensor b (4)"), False),
        (ValueError("out of memory"), False),
        (KeyboardInterrupt(), False),
    ],
)
def test_out_of_memory_by_type_and_text(error, expected):
    assert is_out_of_memory(error) is expected


def test_negative_warm_up_is_refused():
    with pytest.raises(OptionError, match="warm_up_steps=-1"):
        measure_peak_memory(lambda: None, model=nn.Identity(), warm_up_steps=-1)
