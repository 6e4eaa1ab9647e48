"""Which fused attention kernels a model calls: what 'fused' or 'eager' in a table stands on."""

from __future__ import annotations

from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode

_PREFIXES = ("_scaled_dot_product_", "flex_attention", "_flash_attention", "_efficient_attention")
_UNFUSED = ("_math", "_backward", "_fused_attention_overrideable")


class KernelWatch(TorchDispatchMode):
    """Notes the fused attention kernels that are called within it, without their prefix."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.found: set[str] = set()

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        name = func.overloadpacket.__name__
        if name.startswith(_PREFIXES) and not any(part in name for part in _UNFUSED):
            self.found.add(name.removeprefix("_scaled_dot_product_").strip("_"))
        return func(*args, **(kwargs or {}))


def fused_kernels(model: torch.nn.Module, inputs: tuple[torch.Tensor | None, ...]) -> list[str]:
    """Fused attention kernels of one forward pass, sorted: flash_attention_for_cpu, for example."""
    watch = KernelWatch()
    # As in `measure.memory`: a compiled function must stay compiled.
    with torch.compiler.set_stance("force_eager"), watch:
        model(*inputs)
    return sorted(watch.found)
