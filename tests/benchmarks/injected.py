"""Regressions that `lra-bench check` has to find: each is a replacement of text in a copy of the package.

    python tests/benchmarks/injected.py [--times 10] [--out table.md]

Written before the checker met any of them; a fault that it misses stays here. Each is checked once by the
exact and the learning class on the Transformer; slowdowns `--times` times by the sequential test.
"""

from __future__ import annotations

import argparse
import shutil
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

from lra_bench.regression.gathering import gather, probe_server
from lra_bench.regression.judgement import judge
from lra_bench.regression.rules import Rules, TimeRules
from lra_bench.regression.timing import compare_times
from lra_bench.report.numbers import change_text
from lra_bench.report.table import markdown_table

ROOT = Path(__file__).parents[2]
MODEL = "transformer"
SLOWED = """    import time as _time

    _begun = _time.perf_counter()
    with autocast(batch.labels.device, precision):"""
SPIN = """    _until = _time.perf_counter() + SHARE * (_time.perf_counter() - _begun)
    while _time.perf_counter() < _until:
        pass
    return loss.detach()"""


@dataclass(frozen=True)
class Fault:
    """Replacements (old, new) in one file of the installed package."""

    name: str
    file: str
    changes: tuple[tuple[str, str], ...]
    slows: bool = False


def slowdown(share: float) -> Fault:
    changes = (
        ("    with autocast(batch.labels.device, precision):", SLOWED),
        ("    return loss.detach()", SPIN.replace("SHARE", str(share))),
    )
    return Fault(f"steps {share:.0%} slower", "optimization.py", changes, slows=True)


def one(name: str, file: str, old: str, new: str) -> Fault:
    return Fault(name, file, ((old, new),))


ATTEND = "        return F.scaled_dot_product_attention("
FAULTS = [
    slowdown(0.1),
    slowdown(0.2),
    slowdown(0.5),
    one(
        "one n x n tensor kept",
        "models/exact/transformer.py",
        ATTEND,
        "        self.kept = (query @ key.transpose(-1, -2)).exp()\n" + ATTEND,
    ),
    one(
        "activations doubled",
        "encoder.py",
        "        output: Tensor = x + self.ffn(self.ffn_norm(x))\n",
        "        half = 0.5 * self.ffn(self.ffn_norm(x))\n"
        "        output: Tensor = x + half + 0.5 * self.ffn(self.ffn_norm(x))\n",
    ),
    one("no_grad lost in evaluation", "evaluation.py", "@torch.inference_mode()\n", ""),
    one("wrong scale", "models/exact/transformer.py", "            query,\n", "            query * 1.2,\n"),
    one(
        "mask off by one",
        "mixer.py",
        "    return (mask | ~mask.any",
        "    mask = mask.roll(1, -1)\n    return (mask | ~mask.any",
    ),
    one(
        "padding leaks into attention",
        "models/exact/transformer.py",
        "None if mask is None else key_mask(mask)",
        "None",
    ),
    one(
        "padding leaks into pooling",
        "encoder.py",
        "    if mask is None:\n        return x.mean(dim=1)\n",
        "    return x.mean(dim=1)\n",
    ),
    one("dropout left on in evaluation", "evaluation.py", "    model.eval()\n", "    model.train()\n"),
    one(
        "shuffle lost",
        "data/orders.py",
        "        order = epoch_permutation(num_examples, seed, epoch)\n",
        "        order = np.arange(num_examples)\n",
    ),
    one(
        "learning rate three times as high",
        "train.py",
        '                group["lr"] = rate\n',
        '                group["lr"] = 3 * rate\n',
    ),
    one(
        "learning rate never set",
        "train.py",
        '                group["lr"] = rate\n',
        "                pass\n",
    ),
    one(
        "data changed",
        "tasks/recall.py",
        "self.length, self.form, self.seed = length, form, seed",
        "self.length, self.form, self.seed = length, form, seed + 1",
    ),
    one("clipping lost", "optimization.py", "    if clip_norm is not None:\n", "    if False:\n"),
    one("weight decay lost", "optimization.py", "weight_decay=settings.weight_decay", "weight_decay=0.0"),
    one(
        "positions lost",
        "encoder.py",
        "self.dropout(x + self.positions[: x.shape[1]])",
        "self.dropout(x + 0 * self.positions[: x.shape[1]])",
    ),
    one(
        "norm before the mixer lost",
        "encoder.py",
        "self.mixer(self.mixer_norm(x), mask)",
        "self.mixer(x, mask)",
    ),
    one(
        "residual lost",
        "encoder.py",
        "        output: Tensor = x + self.ffn",
        "        output: Tensor = self.ffn",
    ),
    one(
        "forward run twice",
        "optimization.py",
        "            logits = model(*batch.inputs)\n",
        "            model(*batch.inputs)\n            logits = model(*batch.inputs)\n",
    ),
    one(
        "a layer more",
        "encoder.py",
        "        for block in self.blocks:\n",
        "        for block in [*self.blocks, self.blocks[-1]]:\n",
    ),
    one(
        "feed-forward twice as wide",
        "encoder.py",
        "feed_forward(dim, architecture.ffn_dim, dropout)",
        "feed_forward(dim, 2 * architecture.ffn_dim, dropout)",
    ),
    one(
        "evaluated on training data",
        "phases.py",
        "            self.sources[split],\n            limit=limit",
        '            self.sources["train"],\n            limit=limit',
    ),
    one(
        "labels shifted",
        "data/batches.py",
        "        return Batch(input_ids, mask, torch.from_numpy(labels), *second)",
        "        return Batch(input_ids, mask, torch.from_numpy(labels).roll(1, 0), *second)",
    ),
    one(
        "gradients of the last batch kept",
        "optimization.py",
        "    optimizer.zero_grad(set_to_none=True)\n",
        "",
    ),
]


def applied(fault: Fault, clean: Path, folder: Path) -> Path:
    """A copy of the installed package with the fault in it."""
    shutil.copytree(clean, folder)
    path = folder / "lra_bench" / fault.file
    path.write_text(planted(fault, path.read_text("utf-8")), "utf-8")
    return folder


def planted(fault: Fault, text: str) -> str:
    """A file's text with the fault in it, which is Python."""
    for old, new in fault.changes:
        assert text.count(old) == 1, f"{fault.name}: {text.count(old)} places for {old!r}"
        text = text.replace(old, new)
    compile(text, fault.file, "exec")
    return text


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--times", type=int, default=10, help="Checks of each slowdown.")
    parser.add_argument("--only", choices=("slow", "other"), help="Slowdowns alone, or all but them.")
    parser.add_argument("--match", default="", help="Those alone whose name has this in it.")
    parser.add_argument("--budget", type=float, default=90.0, help="Seconds of a check of times.")
    parser.add_argument("--out", type=Path, default=None)
    arguments = parser.parse_args()
    rules, rows = Rules(time=TimeRules(budget_s=arguments.budget)), []
    faults = [one for one in FAULTS if arguments.only is None or one.slows == (arguments.only == "slow")]
    faults = [one for one in faults if arguments.match in one.name]
    with tempfile.TemporaryDirectory() as scratch:
        clean = Path(scratch) / "clean"
        command = [
            sys.executable,
            "-m",
            "pip",
            "install",
            "-q",
            "--no-deps",
            "--target",
            str(clean),
            str(ROOT),
        ]
        subprocess.run(command, check=True)
        if not all(fault.slows for fault in faults):
            with probe_server(str(clean)) as server:
                before = gather(server, rules, [MODEL], seeds=rules.learning.baseline_seeds, revision="clean")
        for number, fault in enumerate(faults):
            path = applied(fault, clean, Path(scratch) / f"fault{number}")
            if fault.slows:
                found = time_row(clean, path, rules, arguments.times)
            else:
                with probe_server(str(path)) as server:
                    after = gather(server, rules, [MODEL], seeds=rules.learning.seeds, revision=fault.name)
                found = class_row([one for one in judge(before, after, rules) if one.is_regression])
            rows.append([fault.name, *found])
            print(" | ".join(rows[-1]), flush=True)
            shutil.rmtree(path)
    columns = ["fault", "exact", "outputs", "learning", "time"]
    if arguments.out is not None:
        arguments.out.write_text(markdown_table(columns, rows) + "\n", "utf-8")


def class_row(regressions: list) -> list[str]:
    """What each class has found."""
    found = []
    for kind in ("exact", "outputs", "learning"):
        metrics = dict.fromkeys(
            f"{one.metric} {change_text(one.change)}" if one.change is not None else one.metric
            for one in regressions
            if one.kind == kind
        )
        found.append(", ".join(metrics) or "-")
    return [*found, ""]


def time_row(clean: Path, path: Path, rules: Rules, times: int) -> list[str]:
    """How often the sequential test has found a slowdown, and how long it took."""
    answers, seconds = [], []
    with probe_server(str(clean)) as before, probe_server(str(path)) as after:
        for _ in range(times):
            verdict = compare_times(MODEL, before, after, rules.time, rules.protocol)
            answers.append(verdict.answer)
            seconds.append(verdict.seconds)
    counts = ", ".join(f"{answer} {answers.count(answer)}" for answer in dict.fromkeys(answers))
    return ["", "", "", f"{counts} of {times}; {sum(seconds) / times:.0f} s each"]


if __name__ == "__main__":
    main()
