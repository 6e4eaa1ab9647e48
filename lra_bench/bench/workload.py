"""What every model of a measuring session is given: a byte-level classifier and a staged batch.

The setting of the 2020 paper's efficiency table (Tay et al. 2021, arXiv 2011.04006, section 3.4), which timed
the byte-level text task. Times do not depend on which bytes they are, so they are random, and no data set
is needed.
"""

from __future__ import annotations

import torch

from lra_bench.data.batches import Batch
from lra_bench.data.task import TaskSpec
from lra_bench.mixer import mask_from_lengths

TASK = "text"
"""Whose section of a protocol the architecture is taken from."""
VOCABULARY = ("<pad>", *(f"<{byte:02x}>" for byte in range(256)))


def byte_spec(length: int, *, padded: bool) -> TaskSpec:
    """Byte-level classification into two classes, of up to `length` tokens."""
    return TaskSpec(
        task=TASK,
        dataset="random-bytes",
        variant=f"random-bytes-{length}",
        num_classes=2,
        vocabulary=VOCABULARY,
        pad_id=0,
        max_length=length,
        fixed_length=not padded,
        chance=0.5,
    )


def random_batch(spec: TaskSpec, batch_size: int, seed: int = 0) -> Batch:
    """Random bytes, the same for every model. With padding, row lengths go evenly from half to full."""
    generator = torch.Generator().manual_seed(seed)
    shape = (batch_size, spec.max_length)
    ids = torch.randint(1, spec.vocab_size, shape, generator=generator)
    labels = torch.randint(0, spec.num_classes, (batch_size,), generator=generator)
    if spec.fixed_length:
        return Batch(ids, None, labels)
    lengths = torch.linspace(spec.max_length, spec.max_length / 2, batch_size).ceil().long()
    mask = mask_from_lengths(lengths, spec.max_length)
    return Batch(ids.where(mask, 0), mask, labels)
