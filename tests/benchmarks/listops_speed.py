"""ListOps examples per CPU second, one thread, compiled: `python tests/benchmarks/listops_speed.py`."""

from __future__ import annotations

import argparse
import time

from lra_bench.data.task import SPLITS
from lra_bench.tasks.listops import ListOps


def examples_per_cpu_second(task, split, count):
    start_s = time.process_time()
    table = task.examples(split, 0, count)
    elapsed_s = time.process_time() - start_s
    return count / elapsed_s, table.column("input_ids").combine_chunks().values.nbytes / count


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=20_000)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--lengths", type=int, nargs="*", default=[256, 1_999, 8_192])
    arguments = parser.parse_args()
    print(f"{'longest':>8} {'split':>10} {'median/s':>10} {'least/s':>10} {'tokens':>8}")
    for length in arguments.lengths:
        task = ListOps(**ListOps.options_for_length(length, {}))
        task.warm_up()
        for split in SPLITS:
            # The last two splits are an eighth of all expressions each, so cost six times as much.
            count = max(1, arguments.count // (1 if split == "train" else 6) // max(1, length // 2_000))
            runs = sorted(examples_per_cpu_second(task, split, count) for _ in range(arguments.repeats))
            median, least = runs[len(runs) // 2], runs[0]
            print(f"{length:>8} {split:>10} {median[0]:>10,.0f} {least[0]:>10,.0f} {median[1]:>8,.0f}")


if __name__ == "__main__":
    main()
