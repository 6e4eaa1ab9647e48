"""What is alive during a training step, by purpose: a dispatch mode that follows storages.

It sees every tensor that an operation returns, but no workspace inside an operation (a convolution
or a sort may take as much again); `memory.py` says which figure comes from where.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable, Iterable
from contextlib import ExitStack
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.graph import saved_tensors_hooks
from torch.optim import Optimizer
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

RESIDENT = ("parameters", "buffers", "optimizer", "batch", "other_resident")
"""There before the step; `other_resident` is what the step reads without finding it in the others."""
PASSING = ("gradients", "activations", "temporaries")
"""Made by the step; `activations` are kept for the backward pass, `temporaries` is all the rest."""
PURPOSES = RESIDENT + PASSING


def storage_of(tensor: Tensor) -> torch.UntypedStorage | None:
    """The memory behind a tensor, or None for layouts without a single storage."""
    if tensor.layout is not torch.strided or tensor.device.type == "meta":
        return None
    return tensor.untyped_storage()


def storage_bytes(tensors: Iterable[Tensor]) -> int:
    """Bytes behind tensors, each storage once: tied weights and views cost nothing more."""
    found: dict[int, int] = {}
    for tensor in tensors:
        storage = storage_of(tensor)
        if storage is not None:
            found[storage._cdata] = storage.nbytes()
    return sum(found.values())


def optimizer_tensors(optimizer: Optimizer | None) -> list[Tensor]:
    """Moments, step counters and whatever else an optimiser keeps."""
    if optimizer is None:
        return []
    return [leaf for leaf in tree_leaves(dict(optimizer.state)) if isinstance(leaf, Tensor)]


class StorageTracker(TorchDispatchMode):
    """Counts live bytes on one kind of device by purpose, and keeps the counts at the peak.

    Use as a context around one step whose gradients were None before it. `peak_bytes` is the largest
    sum, `at_peak` its parts.
    """

    def __init__(
        self, model: nn.Module, optimizer: Optimizer | None, batch: Iterable[Tensor], device_type: str
    ) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._device_type = device_type
        self._model = model
        self._purpose: dict[int, str] = {}
        self._alive: dict[int, torch.UntypedStorage | weakref.ref[Any]] = {}
        self.live = dict.fromkeys(PURPOSES, 0)
        self.at_peak = dict(self.live)
        self.peak_bytes = 0
        self._exits = ExitStack()
        resident: list[tuple[str, Iterable[Tensor]]] = [
            ("parameters", model.parameters()),
            ("buffers", model.buffers()),
            ("gradients", [p.grad for p in model.parameters() if p.grad is not None]),
            ("optimizer", optimizer_tensors(optimizer)),
            ("batch", batch),
        ]
        for purpose, tensors in resident:
            for tensor in tensors:
                self._add(tensor, purpose)

    def __enter__(self) -> StorageTracker:
        self._exits.enter_context(saved_tensors_hooks(self._pack, _unpack))
        for parameter in self._model.parameters():
            if parameter.requires_grad:
                handle = parameter.register_post_accumulate_grad_hook(self._mark_gradient)
                self._exits.callback(handle.remove)
        super().__enter__()  # type: ignore[no-untyped-call]
        return self

    def __exit__(self, *error: Any) -> None:
        super().__exit__(*error)  # type: ignore[no-untyped-call]
        self._exits.close()

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        # What lift_fresh gets is a tensor literal of this step, made out of the dispatcher's sight.
        fresh = func is torch.ops.aten.lift_fresh.default
        for leaf in tree_leaves((args, kwargs)):
            if isinstance(leaf, Tensor):
                self._add(leaf, "temporaries" if fresh else "other_resident")
        result = func(*args, **(kwargs or {}))
        for leaf in tree_leaves(result):
            if isinstance(leaf, Tensor):
                self._add(leaf, "temporaries")
        return result

    def _add(self, tensor: Tensor, purpose: str) -> None:
        storage = storage_of(tensor)
        if storage is None or storage.device.type != self._device_type:
            return
        key, size = storage._cdata, storage.nbytes()
        if key in self._purpose:
            return
        self._purpose[key] = purpose
        # The weak reference dies with the storage, not with the tensor: a view keeps it alive.
        self._alive[key] = weakref.ref(storage, self._forget(key, size))
        self.live[purpose] += size
        self._update_peak()

    def _forget(self, key: int, size: int) -> Callable[[Any], None]:
        def callback(_: Any) -> None:
            self.live[self._purpose.pop(key)] -= size
            del self._alive[key]

        return callback

    def _move(self, tensor: Tensor, purpose: str) -> None:
        storage = storage_of(tensor)
        if storage is None or self._purpose.get(storage._cdata) not in ("temporaries", "activations"):
            return
        key = storage._cdata
        at_peak = sum(self.live.values()) == self.peak_bytes
        self.live[self._purpose[key]] -= storage.nbytes()
        self.live[purpose] += storage.nbytes()
        self._purpose[key] = purpose
        if at_peak:
            self.at_peak = dict(self.live)

    def _pack(self, tensor: Tensor) -> Tensor:
        self._move(tensor, "activations")
        return tensor

    def _mark_gradient(self, parameter: Tensor) -> None:
        if parameter.grad is not None:
            self._move(parameter.grad, "gradients")

    def _update_peak(self) -> None:
        total = sum(self.live.values())
        if total > self.peak_bytes:
            self.peak_bytes = total
            self.at_peak = dict(self.live)


def _unpack(tensor: Tensor) -> Tensor:
    return tensor
