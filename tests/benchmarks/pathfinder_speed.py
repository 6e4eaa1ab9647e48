"""How fast Pathfinder images are drawn: images per CPU second, and the wait for the first image.

Not a test: `python tests/benchmarks/pathfinder_speed.py [--cpu-seconds 5] [--length 14]`.
Rates are of one thread, warm, by process CPU time, over as many images as fill the given time: the
number of attempts per image has a long tail, so short runs scatter. The first image is timed by wall
clock around a fresh Python process, once with an empty compile cache and then with a filled one.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time

from lra_bench.tasks.pathfinder import Pathfinder

LEAST_RATES = {32: 2_000, 64: 80, 128: 90, 256: 600}
"""Images per CPU second at length 14 that a change should not fall below."""

FIRST_IMAGE = "from lra_bench.tasks.pathfinder import Pathfinder; Pathfinder(size={}).examples('train', 0, 1)"


def rate(size: int, contour_length: int, cpu_seconds: float) -> tuple[float, float, int]:
    """Images per CPU second, attempts per image, and the images drawn."""
    task = Pathfinder(size=size, contour_length=contour_length)  # type: ignore[arg-type]
    task.warm_up()
    images, attempts = 0, 0
    batch = 20
    start_s = time.process_time()
    while time.process_time() - start_s < cpu_seconds:
        drawings = task.drawings("train", images, images + batch)
        images += batch
        attempts += int(drawings.attempts.sum())
    return images / (time.process_time() - start_s), attempts / images, images


def first_image_s(size: int, cache: str) -> float:
    """Wall seconds of a fresh process that draws one image."""
    start_s = time.perf_counter()
    subprocess.run(
        [sys.executable, "-P", "-c", FIRST_IMAGE.format(size)],
        env={**os.environ, "NUMBA_CACHE_DIR": cache},
        check=True,
    )
    return time.perf_counter() - start_s


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--cpu-seconds", type=float, default=5.0, help="per size (default 5)")
    parser.add_argument("--length", type=int, default=14, choices=(6, 9, 14), help="contour length")
    arguments = parser.parse_args()
    print(f"{'size':>4}  {'images/CPU s':>12}  {'least':>6}  {'attempts/image':>14}  {'images':>7}")
    for size, least in LEAST_RATES.items():
        images_per_s, attempts, images = rate(size, arguments.length, arguments.cpu_seconds)
        print(f"{size:>4}  {images_per_s:>12,.0f}  {least:>6,}  {attempts:>14,.0f}  {images:>7,}", flush=True)
    print("first image, wall seconds of a fresh process: empty cache, filled cache, filled cache at 256")
    with tempfile.TemporaryDirectory() as cache:
        waits = [first_image_s(size, cache) for size in (32, 32, 256)]
    print("  ".join(f"{wait_s:.2f}" for wait_s in waits))


if __name__ == "__main__":
    main()
