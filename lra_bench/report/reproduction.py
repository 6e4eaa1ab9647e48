"""The command that runs a recorded cell again."""

from __future__ import annotations

import json
import shlex
from typing import Any

from lra_bench.records import RunRecord

ALL_METRICS = ["accuracy", "time", "memory", "flops"]


def command_of(record: RunRecord) -> str:
    """As one would type it, from what the record holds and not from what was typed: no path of a machine.

    Every argument is quoted for a POSIX shell, so that a name with signs of its own stays a name.
    """
    trials = record.protocol.tuning_trials
    if trials:  # The rates are what the sweep chooses, again the same.
        words = ["lra-bench", "sweep", "--models", record.model.name, "--tasks", record.task.name]
        words += ["--tune", str(trials), "--protocol", record.protocol.name]
        words += ["--seeds", f"{record.seed}-{record.seed}"]
    else:
        words = ["lra-bench", "run", "--model", record.model.name, "--task", record.task.name]
        words += ["--protocol", record.protocol.name, "--seed", str(record.seed)]
    words += ["--device", record.device.partition("-")[0]]
    if record.precision != "fp32":
        words += ["--precision", record.precision]
    if record.compiled:
        words.append("--compile")
    if sorted(record.metrics) != sorted(ALL_METRICS):
        words += ["--metrics", ",".join(record.metrics)]
    changes = dict(record.protocol.overrides)
    changes |= {f"model.{name}": value for name, value in record.model.changed_options.items()}
    for key, value in sorted(changes.items()):
        words += ["--set", f"{key}={_as_yaml(value)}"]
    return shlex.join(words)


def _as_yaml(value: Any) -> str:
    """JSON is YAML on one line; a plain word needs no quotes."""
    if isinstance(value, str) and value.isidentifier() and value.lower() not in _NOT_WORDS:
        return value
    return json.dumps(value, ensure_ascii=False)


_NOT_WORDS = {"true", "false", "yes", "no", "on", "off", "null", "y", "n", "nan", "inf"}
