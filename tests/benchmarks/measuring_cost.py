"""What measuring costs, and how well a step time repeats.

Not a test: `python tests/benchmarks/measuring_cost.py`. Prints processor seconds of a plain step, of a step
under the profiler's allocation events and of one under the storage tracker; the time of a FLOP count; and
the median step time of several rounds in one process, as a ratio to the first. The model is the encoder of
tests/measure/HAND_COUNT.md.
"""

import sys
import time
from pathlib import Path
from statistics import median

import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from measure.hand_counted import Encoder, build_encoder, training_step

from lra_bench.measure.flops import count_flops
from lra_bench.measure.memory import allocator_high_water, measure_peak_memory
from lra_bench.measure.timing import measure_step_time
from lra_bench.measure.tracker import StorageTracker

REPEATS, ROUNDS = 7, 5


def cpu_seconds(call):
    seconds = []
    for _ in range(REPEATS):
        start = time.process_time()
        call()
        seconds.append(time.process_time() - start)
    return median(seconds)


def main():
    torch.set_num_threads(1)
    model, ids, labels = build_encoder()
    optimizer, step = training_step(model, ids, labels)
    for _ in range(3):
        step()

    def tracked():
        with StorageTracker(model, optimizer, [ids, labels], "cpu"):
            step()

    plain = cpu_seconds(step)
    print(f"plain step                {plain:.4f} s")
    for name, call in (
        ("allocation events", lambda: allocator_high_water(step)),
        ("storage tracker", tracked),
    ):
        seconds = cpu_seconds(call)
        print(f"{name:<24}  {seconds:.4f} s, {seconds / plain:.2f} x")
    whole = cpu_seconds(
        lambda: measure_peak_memory(step, model=model, optimizer=optimizer, batch=(ids, labels))
    )
    print(f"measure_peak_memory       {whole:.4f} s, {whole / plain:.2f} x (three steps)")

    with torch.device("meta"):
        on_meta, meta_ids = Encoder(), torch.zeros((4, 512), dtype=torch.int64)
    print(f"count_flops               {cpu_seconds(lambda: count_flops(on_meta, [meta_ids])):.4f} s")

    rounds = [measure_step_time(step) for _ in range(ROUNDS)]
    for kind in ("median_s", "min_s", "cpu_median_s"):
        values = [getattr(one, kind) for one in rounds]
        ratios = " ".join(f"{value / values[0]:.3f}" for value in values)
        print(f"{kind:<14} {values[0]:.4f} s, rounds relative to the first: {ratios}")
    print("noise:", [one.noise for one in rounds])


if __name__ == "__main__":
    main()
