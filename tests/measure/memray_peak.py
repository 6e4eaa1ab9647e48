"""Peak of one step by memray, an outside tracer of every allocation: `python memray_peak.py PROGRAM`.

Prints bytes at the high-water mark of one step, after two others. In a process of its own, because the tracer
counts whatever the process allocates.
"""

import gc
import sys
import tempfile
from pathlib import Path

import memray
import torch

sys.path.insert(0, str(Path(__file__).parents[1]))

from measure.more_programs import PROGRAMS


def main():
    torch.set_num_threads(1)
    model, _, _, step = PROGRAMS[sys.argv[1]]()
    for _ in range(2):
        step()
    model.zero_grad(set_to_none=True)
    gc.collect()
    gc.disable()
    with tempfile.TemporaryDirectory() as folder:
        trace = Path(folder) / "trace.bin"
        with memray.Tracker(trace, native_traces=False, follow_fork=False):
            step()
        with memray.FileReader(trace) as reader:
            records = reader.get_high_watermark_allocation_records(merge_threads=True)
            print(sum(record.size for record in records))


if __name__ == "__main__":
    main()
