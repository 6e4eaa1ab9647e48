"""One cell in this process: backends, masks, the prediction of memory."""

import pytest
import torch

from lra_bench.bench import child
from lra_bench.bench.child import MeasuredCell
from lra_bench.bench.plan import match_networks, resolve_plan
from lra_bench.bench.workload import byte_spec, random_batch
from lra_bench.errors import UsageError


@pytest.fixture(autouse=True)
def no_limit(monkeypatch):
    """A limit on memory would stay with this process. And none of these numbers is a time."""
    monkeypatch.setattr(child, "WARM_UP_SECONDS", 0.0)
    monkeypatch.setattr(child, "limit_memory", lambda device: None)
    monkeypatch.setenv("OMP_NUM_THREADS", "1")


def measured_cell(model, length=64, **changes):
    plan = resolve_plan([model], [length], batch_size=2, device="cpu")
    arguments = {
        "model": model,
        "options": plan.options[model],
        "settings": plan.settings.model_dump(mode="json"),
        "length": length,
        "device": "cpu",
        "precision": "fp32",
        "compiled": False,
        "mode": "train",
        "padded": False,
        "session": "one",
    }
    return MeasuredCell(**{**arguments, **changes})


@pytest.mark.parametrize(
    ("model", "backend"), [("transformer", "fused"), ("transformer_explicit", "eager"), ("fnet", "eager")]
)
def test_backend_is_what_ran(model, backend):
    found = measured_cell(model).warm_up(2, 1.0)
    assert found["backend"] == backend
    assert bool(found["kernels"]) == (backend == "fused")


def test_a_forward_step_keeps_nothing_and_counts_a_forward_pass():
    training, forward = measured_cell("transformer"), measured_cell("transformer", mode="forward")
    forward.warm_up(2, 0.1)
    training.warm_up(2, 0.1)
    assert forward.flops()["step"] == forward.flops()["forward"] == training.flops()["forward"]
    memory = forward.memory()
    assert memory["breakdown"]["gradients"] == memory["breakdown"]["optimizer"] == 0
    assert memory["breakdown"]["activations"] == 0
    assert memory["peak_bytes"] < training.memory()["peak_bytes"]


def test_nothing_is_measured_before_it_is_built():
    with pytest.raises(UsageError, match="warm_up"):
        measured_cell("fnet").turn(1, 0)


def test_turns_give_their_own_samples():
    cell = measured_cell("fnet")
    cell.warm_up(2, 0.1)
    first, second = cell.turn(3, 1)["seconds"], cell.turn(2, 0)["seconds"]
    assert (len(first), len(second)) == (3, 2)
    assert cell.result()["samples_s"] == [*first, *second]
    other = measured_cell("fnet")
    other.warm_up(2, 0.1)
    third = other.turn(2, 0)["seconds"]
    assert other.result([cell.timing()])["samples_s"] == [*first, *second, *third]


def test_batches_are_the_same_for_all_and_masks_come_from_lengths():
    full = random_batch(byte_spec(10, padded=False), 3)
    assert full.mask is None
    assert full.input_ids.min() >= 1
    padded = random_batch(byte_spec(10, padded=True), 3)
    assert padded.mask.sum(1).tolist() == [10, 8, 5]
    assert torch.equal(padded.input_ids == 0, ~padded.mask)
    assert torch.equal(padded.input_ids[0], full.input_ids[0])


@pytest.mark.parametrize("mode", ["train", pytest.param("forward", marks=pytest.mark.slow)])
@pytest.mark.parametrize("model", [entry.name for entry in match_networks(None)])
def test_predicted_memory_is_near_what_a_step_takes(model, mode):
    """The guard must not let pass what takes twice what it thinks, nor refuse what takes a quarter."""
    cell = measured_cell(model, 400, mode=mode)
    predicted = cell.describe()["predicted_bytes"]
    cell.warm_up(2, 0.1)
    measured = cell.memory()["peak_bytes"]
    assert predicted / 4 < measured < 2 * predicted, (measured, predicted)


@pytest.mark.compiled
def test_a_compiled_cell_has_its_compilation_apart():
    eager, compiled = measured_cell("fnet"), measured_cell("fnet", compiled=True)
    for cell in (eager, compiled):
        cell.warm_up(3, 60.0)
        cell.turn(5, 1)
    found = compiled.result()
    assert compiled.warm_up(3, 60.0)["backend"] == "compiled"
    assert found["first_step_s"] > 20 * found["median_s"]
    assert compiled.flops() == eager.flops()
    assert compiled.memory()["state_bytes"] == eager.memory()["state_bytes"]
