"""Models on the meta device: their shapes, parameters and operations, without memory and without values."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode

_FILLS = frozenset({torch.nn.init.normal_, torch.nn.init.uniform_, Tensor.normal_, Tensor.uniform_})


@contextmanager
def shapes_only() -> Iterator[None]:
    """`torch.device("meta")`, and initial values aren't drawn.

    The result is the same, as a meta tensor has no values; but to draw them PyTorch (2.11 to 2.13) imports
    its compiler, which takes longer than all else that a short command does.
    """
    with torch.device("meta"), _NothingDrawn():
        yield


class _NothingDrawn(TorchFunctionMode):
    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Sequence[type],
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        kwargs = kwargs or {}
        if func in _FILLS:
            tensor = args[0] if args else kwargs.get("tensor")
            if isinstance(tensor, Tensor) and tensor.device.type == "meta":
                return tensor
        return func(*args, **kwargs)
