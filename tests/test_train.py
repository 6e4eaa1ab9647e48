"""The training loop against a bare PyTorch loop, its schedules by hand, and stopping at any step."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
import torch
from harness import toy_cell, toy_protocol
from torch import nn
from torch.nn import functional as F

from lra_bench.building import build_model
from lra_bench.data.batches import BatchSource
from lra_bench.data.orders import training_indices
from lra_bench.data.prepare import prepare
from lra_bench.evaluation import evaluate
from lra_bench.optimization import learning_rate
from lra_bench.protocol import Schedule
from lra_bench.train import DivergedError, StoppedError, TimeLimitError, Trainer

CPU = torch.device("cpu")


class Bench:
    """A toy cell's parts, for building trainers."""

    def __init__(self, cache: Path, **changes: object) -> None:
        self.cell = toy_cell(protocol=toy_protocol(**changes))
        self.settings = self.cell.settings
        task = self.cell.build_task()
        self.spec = task.spec
        splits = {name: prepare(task, name, root=cache) for name in ("train", "validation", "test")}
        self.sources = {name: BatchSource(split, self.spec) for name, split in splits.items()}

    def model(self, seed: int = 0) -> nn.Module:
        torch.manual_seed(seed)
        cell = self.cell
        return build_model(cell.model_entry, cell.model_options, self.settings.architecture, self.spec)

    def trainer(self, folder: Path | None = None, **arguments: object) -> Trainer:
        model = arguments.pop("model", None) or self.model()
        torch.manual_seed(1)
        return Trainer(
            model,
            self.settings,
            self.sources["train"],
            self.sources["validation"],
            device=CPU,
            seed=0,
            folder=folder,
            **arguments,
        )


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    return Bench(tmp_path / "cache")


def weights(model: nn.Module) -> dict[str, np.ndarray]:
    return {name: value.numpy().copy() for name, value in model.state_dict().items()}


def same(first: dict[str, np.ndarray], second: dict[str, np.ndarray]) -> bool:
    return first.keys() == second.keys() and all(np.array_equal(first[k], second[k]) for k in first)


@pytest.mark.parametrize(
    ("name", "warmup", "steps", "expected"),
    [
        # base 1; values at steps 0, 1, 4, 9 worked out by hand
        ("constant", 2, 10, [0.5, 1.0, 1.0, 1.0]),
        ("linear", 2, 10, [0.5, 1.0, 0.75, 0.125]),
        ("cosine", 0, 10, [1.0, 0.5 * (1 + math.cos(0.1 * math.pi)), 0.654508497, 0.024471742]),
        # The 2020 release: min(1, t / W) / sqrt(max(t, W)), with W = 4
        ("rsqrt", 4, 10, [0.0, 0.125, 0.5, 1 / 3]),
    ],
)
def test_schedules_by_hand(name: str, warmup: int, steps: int, expected: list[float]) -> None:
    schedule = Schedule(name=name, warmup_steps=warmup)
    rates = [learning_rate(schedule, 1.0, step, steps) for step in (0, 1, 4, 9)]
    assert rates == pytest.approx(expected, abs=1e-8)


def test_effective_peak_rate_of_the_2020_release() -> None:
    """ListOps there: base 0.05, warm-up 1,000, hence 1.58e-3 at the peak."""
    schedule = Schedule(name="rsqrt", warmup_steps=1000)
    rates = [learning_rate(schedule, 0.05, step, 5000) for step in range(5000)]
    assert max(rates) == pytest.approx(1.58e-3, rel=1e-2)
    assert rates[-1] == pytest.approx(7.1e-4, rel=1e-2)


def test_equals_a_bare_loop(bench: Bench) -> None:
    trainer = bench.trainer()
    trainer.run()

    model = bench.model()
    settings = bench.settings
    optimizer = torch.optim.AdamW(
        model.parameters(),
        lr=1.0,
        betas=settings.optimizer.betas,
        eps=settings.optimizer.epsilon,
        weight_decay=settings.optimizer.weight_decay,
    )
    torch.manual_seed(1)
    model.train()
    for step in range(settings.budget.steps):
        optimizer.param_groups[0]["lr"] = learning_rate(
            settings.schedule, settings.optimizer.learning_rate, step, settings.budget.steps
        )
        batch = bench.sources["train"].batch(training_indices(256, settings.budget.batch_size, 0, step))
        F.cross_entropy(model(*batch.inputs), batch.labels).backward()
        nn.utils.clip_grad_norm_(model.parameters(), settings.optimizer.gradient_clip_norm)
        optimizer.step()
        optimizer.zero_grad()
    for name, value in model.state_dict().items():
        # The bare loop's AdamW isn't fused: equal up to rounding.
        torch.testing.assert_close(trainer.model.state_dict()[name], value, rtol=1e-4, atol=1e-6)


def test_learns(bench: Bench) -> None:
    settings = bench.settings.model_copy(
        update={"budget": bench.settings.budget.model_copy(update={"steps": 150, "evaluate_every": 50})}
    )
    bench.settings = settings
    trainer = bench.trainer()
    progress = trainer.run()
    assert progress.curve[-1]["train_loss"] < 0.9 * progress.curve[0]["train_loss"]


@pytest.mark.parametrize("stop_at", [1, 4, 5, 6, 11])
def test_stopped_anywhere_and_resumed_gives_the_same_run(bench: Bench, tmp_path: Path, stop_at: int) -> None:
    whole = bench.trainer()
    whole.run()

    folder = tmp_path / "partial"
    steps: list[int] = []
    stopped = bench.trainer(
        folder, on_step=lambda step, *_: steps.append(step), should_stop=lambda: steps[-1:] == [stop_at]
    )
    with pytest.raises(StoppedError):
        stopped.run()
    resumed = bench.trainer(folder, model=bench.model(seed=99))
    torch.manual_seed(12345)  # whatever state a new process is in
    resumed.run()

    assert same(weights(whole.model), weights(resumed.model))
    assert same(weights(whole.best_model()), weights(resumed.best_model()))
    untimed = [[{**p, "elapsed_s": 0} for p in t.progress.curve] for t in (whole, resumed)]
    assert untimed[0] == untimed[1]
    assert whole.progress.best_step == resumed.progress.best_step


def test_a_checkpoint_that_failed_half_way_leaves_the_one_before(
    bench: Bench, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "partial"
    trainer = bench.trainer(folder)
    trainer.save()
    before = (folder / "checkpoint.pt").read_bytes()

    def full(self: Path, data: bytes) -> int:
        with self.open("wb") as file:
            file.write(data[: len(data) // 2])
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(Exception, match="No space left"):
        trainer.save()
    assert (folder / "checkpoint.pt").read_bytes() == before
    assert [path.name for path in folder.iterdir()] == ["checkpoint.pt"]


def test_a_damaged_checkpoint_names_its_file(bench: Bench, tmp_path: Path) -> None:
    (tmp_path / "checkpoint.pt").write_bytes(b"half a checkpoint")
    with pytest.raises(Exception, match=r"checkpoint\.pt: the checkpoint cannot be read"):
        bench.trainer(tmp_path).run()


def test_divergence_is_noticed(bench: Bench) -> None:
    model = bench.model()
    with torch.no_grad():
        model.head[0].weight.fill_(float("nan"))
    with pytest.raises(DivergedError, match="step 1"):
        bench.trainer(model=model).run()


def test_time_limit(tmp_path: Path) -> None:
    bench = Bench(tmp_path / "cache", budget__time_limit_s=1e-9)
    trainer = bench.trainer()
    with pytest.raises(TimeLimitError, match="time_limit_s"):
        trainer.run()
    assert trainer.progress.step == 1
    assert trainer.progress.curve[-1]["step"] == 1, "what there is was scored"


def test_best_is_by_validation_and_the_earlier_of_equals(bench: Bench) -> None:
    trainer = bench.trainer()
    trainer.run()
    curve = trainer.progress.curve
    best = max(point["validation_accuracy"] for point in curve)
    first = next(point["step"] for point in curve if point["validation_accuracy"] == best)
    assert trainer.progress.best_step == first


def test_target_is_the_first_evaluation_that_reaches_it(bench: Bench) -> None:
    trainer = bench.trainer()
    trainer.run()
    target = bench.settings.evaluation.target_accuracy
    reached = [p["step"] for p in trainer.progress.curve if p["validation_accuracy"] >= target]
    assert trainer.progress.steps_to_target == (reached[0] if reached else None)


def test_evaluation_scores_every_example_once(bench: Bench) -> None:
    """128 test examples in batches of 50: the last batch is smaller, and counts by its examples."""
    model = bench.model().eval()
    source = bench.sources["test"]
    results = [
        evaluate(model, source, batch_size=size, device=CPU, precision="fp32") for size in (50, 128, 1)
    ]
    assert [result.n for result in results] == [128] * 3
    assert len({result.correct for result in results}) == 1
    assert results[0].loss == pytest.approx(results[1].loss, rel=1e-5)
    one_by_one = [model(*source.batch(np.array([i])).inputs).argmax().item() for i in range(128)]
    assert results[0].predictions.tolist() == one_by_one


def test_evaluation_draws_no_randomness(bench: Bench) -> None:
    model = bench.model()
    before = torch.get_rng_state()
    evaluate(model, bench.sources["test"], batch_size=64, device=CPU, precision="fp32")
    assert torch.equal(before, torch.get_rng_state())


def test_bf16_trains(bench: Bench) -> None:
    trainer = bench.trainer(precision="bf16")
    trainer.run()
    assert all(np.isfinite(value).all() for value in weights(trainer.model).values())


@pytest.mark.parametrize("limit", [None, 1000.0])
def test_a_pause_is_no_training_time(tmp_path: Path, limit: float | None) -> None:
    """One second each, as it is told: between steps, and between the two batches of an evaluation."""
    bench = Bench(tmp_path / "cache", budget__time_limit_s=limit)
    trainer = bench.trainer(pause=lambda: 1000.0)
    progress = trainer.run()
    steps, batches = bench.settings.budget.steps, 2
    evaluations = [point["step"] for point in progress.curve]
    assert evaluations == [0, 5, 10, 12]
    for number, point in enumerate(progress.curve, 1):
        pauses = max(point["step"] - 1, 0) + number * batches
        assert -1000 * pauses <= point["elapsed_s"] < -1000 * (pauses - 1)
    pauses = steps - 1 + 4 * batches
    assert -1000 * pauses <= progress.elapsed_s < -1000 * (pauses - 1)
