"""Which operations do arithmetic, and under which name a reader knows them."""

from __future__ import annotations

from typing import Any


def _names(text: str) -> frozenset[str]:
    return frozenset(text.split())


_MOVES = _names(
    """
    alias arange argmax argmin argsort as_strided bernoulli bincount bucketize cat clone constant_pad_nd
    copy detach diag_embed diagonal_scatter embedding empty empty_like empty_permuted empty_strided
    expand exponential eye fill fill_diagonal flatten flip full full_like gather index index_copy
    index_fill index_put index_put_impl index_select item lift_fresh linspace local_scalar_dense logspace
    masked_fill masked_scatter masked_select multinomial narrow new_empty new_empty_strided new_full new_ones
    new_zeros
    nonzero normal one_hot ones ones_like pad pixel_shuffle pixel_unshuffle put rand rand_like randint
    randint_like randn randn_like random randperm reflection_pad1d repeat repeat_interleave
    replication_pad1d reshape_alias resize resolve_conj resolve_neg roll scalar_tensor scatter searchsorted
    select_backward select_scatter set slice_backward slice_scatter split_with_sizes stack
    take take_along_dim to to_copy tril tril_indices triu triu_indices unfold_backward uniform unique unique2
    unsafe_index unsafe_split unsafe_view where zero zeros zeros_like complex view_as_complex_copy
    view_as_real_copy real imag sym_size sym_numel is_same_size assert_async assert_tensor_metadata
    functional_assert_async
    """
)
"""Moves, makes or draws numbers. Drawing is not free, but no FLOP count has ever held it."""

_COMPARES = _names(
    """
    all any bitwise_and bitwise_not bitwise_or bitwise_xor bitwise_left_shift bitwise_right_shift eq equal
    ge gt isfinite isinf isnan isin le logical_and logical_not logical_or logical_xor lt ne signbit
    """
)

_ELEMENTWISE = _names(
    """
    abs add addcdiv addcmul ceil clamp clamp_max clamp_min conj_physical copysign div floor floor_divide fmod
    lerp maximum minimum mul neg reciprocal relu remainder round rsub sgn sign square sub threshold trunc
    hardtanh conj
    """
)
_REDUCTIONS = _names("amax amin aminmax count_nonzero max mean min norm prod std sum var var_mean")

_NAMES = {
    "_softmax": "softmax",
    "_log_softmax": "log_softmax",
    "_safe_softmax": "softmax",
    "native_layer_norm": "layer_norm",
    "native_group_norm": "group_norm",
    "native_batch_norm": "batch_norm",
    "_fused_rms_norm": "rms_norm",
    "native_dropout": "dropout",
    "embedding_dense": "embedding_gradient",
    "_softmax_backward_data": "softmax",
    "_log_softmax_backward_data": "log_softmax",
}


def arithmetic_name(func: Any) -> str | None:
    """The name to list an operator overload under, or None if it does no floating-point arithmetic.

    A backward formula counts under its operation's name, an in-place variant under the plain one.
    What is not known to move or to compare counts as arithmetic: a new operation is listed rather than lost.
    """
    if func.namespace != "aten" or func.is_view:
        return None if func.namespace in ("aten", "prim", "profiler") else str(func.overloadpacket)
    full = str(func.overloadpacket).removeprefix("aten.")
    if full in _NAMES:
        return _NAMES[full]
    name = full.strip("_")
    for suffix in ("_backward_data", "_backward", "_forward"):
        # embedding_dense_backward adds up gradients; slice_backward merely places them.
        if name.endswith(suffix) and name not in _MOVES:
            name = name.removesuffix(suffix)
            name = _NAMES.get(name, name)
    if name in _MOVES or name in _COMPARES:
        return None
    if name in _ELEMENTWISE:
        return "elementwise"
    if name in _REDUCTIONS:
        return "reduction"
    return _NAMES.get(name, name)
