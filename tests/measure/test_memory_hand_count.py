"""Peak memory against the count by hand in HAND_COUNT.md: every byte."""

import pytest
import torch
from measure.hand_counted import build_encoder, build_mlp, training_step

from lra_bench.measure import memory
from lra_bench.measure.memory import measure_peak_memory

# Allocator: as predicted, and 4 bytes more for the MLP, which section 4 of HAND_COUNT.md explains.
MLP = {
    "state": 4_858_512,
    "allocator": 8_555_204 + 4,
    "tensors": 8_555_196,
    "parts": {
        "parameters": 1_597_480,
        "optimizer": 3_194_984,
        "batch": 66_048,
        "gradients": 1_597_480,
        "temporaries": 2_048 + 2 * 1_048_576 + 4,
    },
}
ENCODER = {
    "state": 853_772,
    "allocator": 43_981_132,
    "tensors": 43_981_116,
    "parts": {
        "parameters": 279_080,
        "optimizer": 558_276,
        "batch": 16_416,
        "gradients": 86_568,
        "activations": 25_214_976,
        "temporaries": 17_825_792 + 8,
    },
}


@pytest.fixture
def threads():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield torch.set_num_threads
    torch.set_num_threads(before)


def measure(build):
    model, inputs, labels = build()
    optimizer, step = training_step(model, inputs, labels)
    return measure_peak_memory(
        step, model=model, optimizer=optimizer, batch=(inputs, None, labels), warm_up_steps=2
    )


@pytest.mark.parametrize(("build", "expected"), [(build_mlp, MLP), (build_encoder, ENCODER)])
def test_every_byte_is_the_one_counted_by_hand(build, expected, threads):
    result = measure(build)
    assert result.method == "allocator_events"
    assert result.state_bytes == expected["state"]
    assert result.peak_bytes == expected["allocator"]
    assert result.step_bytes == expected["allocator"] - expected["state"]
    assert {part: size for part, size in result.breakdown.items() if size} == expected["parts"]
    assert sum(result.breakdown.values()) == expected["tensors"]


def test_bytes_are_the_same_in_every_repeat_and_for_any_number_of_threads(threads):
    results = []
    for count in (1, 2, 1):
        threads(count)
        results.append(measure(build_encoder))
    peaks = [(result.peak_bytes, result.breakdown) for result in results]
    assert peaks[0] == peaks[1] == peaks[2]


def test_without_readable_events_the_tracker_stands_in_and_says_so(monkeypatch, threads):
    monkeypatch.setattr(memory, "_allocation_events", lambda profiler: None)
    result = measure(build_encoder)
    assert result.method == "storage_tracker"
    assert result.peak_bytes == ENCODER["tensors"]
    assert result.state_bytes == ENCODER["state"]


def test_gradients_left_from_before_do_not_count_twice(threads):
    model, inputs, labels = build_mlp()
    optimizer, step = training_step(model, inputs, labels)
    for _ in range(2):
        step()
    assert all(parameter.grad is not None for parameter in model.parameters())
    result = measure_peak_memory(
        step, model=model, optimizer=optimizer, batch=(inputs, labels), warm_up_steps=0
    )
    assert result.peak_bytes == MLP["allocator"]


@pytest.mark.cuda
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_cuda_reports_allocated_reserved_and_baseline():
    model, inputs, labels = build_encoder()
    model, inputs, labels = model.cuda(), inputs.cuda(), labels.cuda()
    optimizer, step = training_step(model, inputs, labels)
    result = measure_peak_memory(
        step,
        model=model,
        optimizer=optimizer,
        batch=(inputs, labels),
        device="cuda",
        warm_up_steps=2,
    )
    assert result.method == "cuda_allocator"
    assert result.reserved_bytes >= result.peak_bytes > result.baseline_bytes
    assert result.baseline_bytes >= result.state_bytes
    # The four n x n matrices at the peak are there whatever the library's kernels take besides.
    assert result.step_bytes >= 4 * 8_388_608
    assert result.breakdown["activations"] == ENCODER["parts"]["activations"]
