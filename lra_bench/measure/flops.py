"""Algorithmic floating-point operations of a model, counted on meta tensors: exact, and free of memory.

Counted, a multiply-add as two: matrix products and convolutions (PyTorch's own formulas, times four
where the result is complex), and Fourier transforms. Attention is counted as the mathematics says
(the math backend of SDPA), so that a fused kernel that computes scores twice looks no dearer than one
that keeps them. Everything else (softmax, norms, scans, sorting, element-wise work) is not in the
total but named in `uncovered`: a reader sees what a total leaves out.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import FlopCounterMode, flop_registry

from lra_bench.errors import UsageError
from lra_bench.measure.operations import arithmetic_name

aten = torch.ops.aten


@dataclass(frozen=True)
class FlopCount:
    """FLOPs for the whole batch given."""

    forward: int
    """One forward pass."""
    step: int
    """Forward and backward; the optimiser's element-wise update is left out."""
    uncovered: list[str]
    """Sorted names of the operations that do arithmetic and have no formula. `elementwise` stands for sums,
    products and the like, `reduction` for sums and means over a dimension."""

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)


def count_flops(model: nn.Module, inputs: Sequence[Tensor | None]) -> FlopCount:
    """Counts `model(*inputs)` and the backward pass from all its results.

    model: built under `torch.device("meta")`, so that nothing takes memory. A model that must look at values
        can be counted elsewhere, at the cost of a real step.
    inputs: on the model's device; for a classifier (input_ids, mask), both (batch, length): int64, and bool
        or None.

    Backward starts from the sum of all differentiable results and of the modules' `auxiliary_loss`; the
    sum itself is not counted.

    Raises:
        UsageError: the model can't run on meta tensors, or no result depends on a parameter.
    """
    recorder = _Recorder()
    device = next((p.device for p in model.parameters()), torch.device("cpu"))
    try:
        # The default device is for modules that make constants without naming one.
        with device, sdpa_kernel(SDPBackend.MATH), torch.enable_grad():
            # Entered first, the recorder sees what the counter passes on: operations taken apart.
            with recorder, _counter() as forward_counter:
                outputs = model(*inputs)
            loss = _total(outputs, model)
            with recorder, _counter() as backward_counter:
                loss.backward()
    except RuntimeError as error:
        if device.type == "meta" and "meta" in str(error).lower():
            raise UsageError(
                f"count_flops: {type(model).__name__} can't run on meta tensors ({_first_line(error)}). "
                "It looks at values: avoid that, or count it on the CPU."
            ) from error
        raise
    finally:
        model.zero_grad(set_to_none=True)
    forward = forward_counter.get_total_flops()
    return FlopCount(
        forward=forward,
        step=forward + backward_counter.get_total_flops(),
        uncovered=sorted(recorder.names),
    )


def _first_line(error: Exception) -> str:
    return str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__


def _total(outputs: object, model: nn.Module) -> Tensor:
    """A scalar that depends on everything the trainer would differentiate."""
    results = [leaf for leaf in tree_leaves(outputs) if isinstance(leaf, Tensor)]
    auxiliary = [getattr(module, "auxiliary_loss", None) for module in model.modules()]
    results += [loss for loss in auxiliary if isinstance(loss, Tensor)]
    results = [tensor for tensor in results if tensor.requires_grad]
    if not results:
        raise UsageError(
            "count_flops: no output depends on a parameter that requires a gradient, so there is no "
            "backward pass to count. Check the model's outputs and requires_grad."
        )
    return torch.stack(
        [tensor.abs().sum() if tensor.is_complex() else tensor.sum() for tensor in results]
    ).sum()


def _counter() -> FlopCounterMode:
    return FlopCounterMode(display=False, custom_mapping=_FORMULAS)


class _Recorder(TorchDispatchMode):
    """Names the operations that reach it and have no formula."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.names: set[str] = set()

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        packet = func.overloadpacket
        if packet not in flop_registry and packet not in _FORMULAS:
            name = arithmetic_name(func)
            if name is not None:
                self.names.add(name)
        return func(*args, **(kwargs or {}))


# Formulas. With `_get_raw` the counter hands over the operation's own arguments instead of shapes.


def _raw(formula: Callable[..., int]) -> Callable[..., int]:
    formula._get_raw = True  # type: ignore[attr-defined]
    return formula


def transform_flops(lengths: Sequence[int], lines: int, *, real: bool = False) -> int:
    """Of a Fourier transform: 5 N log2 N real operations, N the product of `lengths`, times `lines`.

    The usual convention (radix-2 Cooley and Tukey), kept for lengths that are no power of two. Half of it if
    one side is real: `rfft`, `irfft`.
    """
    size = math.prod(lengths)
    if size <= 1:
        return 0
    per_line = (2.5 if real else 5.0) * size * math.log2(size)
    return round(per_line * lines)


@_raw
def _complex_to_complex(x: Tensor, dim: Sequence[int], *_: Any, out_val: Tensor, **__: Any) -> int:
    lengths = [x.shape[d] for d in dim]
    return transform_flops(lengths, x.numel() // max(1, math.prod(lengths)))


@_raw
def _real_to_complex(x: Tensor, dim: Sequence[int], *_: Any, out_val: Tensor, **__: Any) -> int:
    lengths = [x.shape[d] for d in dim]
    return transform_flops(lengths, x.numel() // max(1, math.prod(lengths)), real=True)


@_raw
def _complex_to_real(x: Tensor, dim: Sequence[int], *_: Any, out_val: Tensor, **__: Any) -> int:
    # Lengths of the real side: the complex input holds only half of the last one.
    lengths = [out_val.shape[d] for d in dim]
    return transform_flops(lengths, out_val.numel() // max(1, math.prod(lengths)), real=True)


def _scaled_for_complex(packet: Any) -> Callable[..., int]:
    """PyTorch's formula, times four for complex numbers: a complex multiply-add is eight real operations."""
    formula = flop_registry[packet]

    @_raw
    def scaled(*args: Any, out_val: Any = None, **kwargs: Any) -> int:
        first = next(leaf for leaf in tree_leaves(out_val) if isinstance(leaf, Tensor))
        return int(formula(*args, out_val=out_val, **kwargs)) * (4 if first.is_complex() else 1)

    return scaled


@_raw
def _matrix_vector(*args: Any, out_val: Tensor, **_: Any) -> int:
    matrix = next(arg for arg in args if isinstance(arg, Tensor) and arg.dim() == 2)
    return 2 * matrix.numel() * (4 if out_val.is_complex() else 1)


@_raw
def _inner_product(x: Tensor, *_: Any, out_val: Tensor, **__: Any) -> int:
    return 2 * x.numel() * (4 if out_val.is_complex() else 1)


_SCALED = (
    aten.mm,
    aten.addmm,
    aten.bmm,
    aten.baddbmm,
    aten.convolution,
    aten._convolution,
    aten.convolution_backward,
)
_FORMULAS: dict[Any, Callable[..., int]] = {
    aten._fft_c2c: _complex_to_complex,
    aten._fft_r2c: _real_to_complex,
    aten._fft_c2r: _complex_to_real,
    aten.mv: _matrix_vector,
    aten.addmv: _matrix_vector,
    aten.dot: _inner_product,
    aten.vdot: _inner_product,
    **{packet: _scaled_for_complex(packet) for packet in _SCALED},
}
