"""Step times of identical code, compared as `lra-bench check` does: how often does it raise an alarm?

    python tests/benchmarks/false_alarms.py [--checks 100] [--budget 60] [--only idle|loaded|outside]

Every second check has a competing process that keeps one core busy. `--only` makes all checks of one kind;
`outside` counts them apart, for a load that somebody else runs meanwhile, such as training.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
from collections import Counter

from lra_bench.regression.gathering import probe_server
from lra_bench.regression.rules import TimeRules
from lra_bench.regression.timing import compare_times

BUSY = "import os\nos.sched_setaffinity(0, {CORE})\nwhile True: pass"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--checks", type=int, default=100)
    parser.add_argument("--budget", type=float, default=60.0)
    parser.add_argument("--model", default="transformer")
    parser.add_argument("--only", choices=("idle", "loaded", "outside"))
    arguments = parser.parse_args()
    rules = TimeRules(budget_s=arguments.budget)
    core = max(os.sched_getaffinity(0))
    kinds = [arguments.only] if arguments.only else ["idle", "loaded"]
    counts = {kind: Counter[str]() for kind in kinds}
    seconds: dict[str, list[float]] = {kind: [] for kind in kinds}
    with probe_server() as before, probe_server() as after:
        for number in range(arguments.checks):
            kind = kinds[number % len(kinds)]
            busy = None
            if kind == "loaded":
                code = BUSY.replace("CORE", str(core))
                busy = subprocess.Popen([sys.executable, "-c", code])
            try:
                found = compare_times(arguments.model, before, after, rules, "quick")
            finally:
                if busy is not None:
                    busy.kill()
                    busy.wait()
            counts[kind][found.answer] += 1
            seconds[kind].append(found.seconds)
            bounds = "" if found.low is None else f"{found.low:.3f} to {found.high:.3f}"
            print(
                f"{number} {kind} {found.answer} {found.pairs} pairs {found.seconds:.0f} s {bounds}",
                flush=True,
            )
    for kind, answers in counts.items():
        checks = sum(answers.values())
        if checks:
            alarms = answers["slower"] + answers["faster"]
            # Rule of three, exact: the rate that zero alarms bound with 95 % confidence.
            bound = 1 - 0.05 ** (1 / checks)
            mean = sum(seconds[kind]) / checks
            print(
                f"{kind}: {dict(answers)}; {alarms} false alarms of {checks} "
                f"(none would bound {bound:.1%}), {mean:.0f} s each"
            )


if __name__ == "__main__":
    main()
