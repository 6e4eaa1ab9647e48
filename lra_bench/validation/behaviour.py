"""Checks of what goes in and comes out: shapes, padding, order of time, seeds, state, precision."""

from __future__ import annotations

import copy
import io
import pickle

import torch
from torch import Tensor, nn

from lra_bench.errors import UsageError
from lra_bench.validation.finding import Finding, failed, passed, skipped
from lra_bench.validation.inputs import mask_of, relative_error, tokens
from lra_bench.validation.subject import Subject

LEAK = 1e-9
"""Relative change, in float64, that can only be rounding."""
BFLOAT16_ERROR = 0.03
"""Relative error (norms) that bf16's 8 bits explain."""
COMPILED_ERROR = 1e-4
"""Relative change, in float32, that another order of sums explains."""


def shapes(subject: Subject) -> Finding:
    """(b, n, d) -> (b, n, d) of the same type, at odd and short lengths, from strided input too."""
    longest = subject.sizes.max_length
    for dtype in (torch.float32, torch.float64):
        module = subject.build().to(dtype)
        for length in (1, 2, 7, longest - 1, longest):
            x = tokens(subject, 3, length, dtype=dtype)
            mixed = module(x)
            if mixed.shape != x.shape:
                return failed(f"{length} tokens: the result is {tuple(mixed.shape)}, not {tuple(x.shape)}.")
            if mixed.dtype != dtype:
                return failed(f"{dtype} in, {mixed.dtype} out.")
            if not mixed.isfinite().all():
                return failed(f"{length} tokens: the result has numbers that are not finite.")
        strided = x.transpose(1, 2).contiguous().transpose(1, 2)
        if (error := relative_error(module(strided), module(x))) > 1e-4:
            return failed(f"another memory layout of the same input changes the result by {error:.1e}.")
    return passed(f"lengths 1 to {longest}, float32 and float64, any memory layout")


def padding(subject: Subject) -> Finding:
    """Neither the content nor the amount of padding reaches a real token."""
    module = subject.build().double()
    lengths, longest = [21, 9, 1], subject.sizes.max_length
    x, mask = tokens(subject, 3, 21, dtype=torch.float64), mask_of(lengths)
    loud = torch.where(mask[..., None], x, 1000 * tokens(subject, 3, 21, 5, torch.float64))
    more = min(34, longest)
    rest = 1000 * tokens(subject, 3, more - 21, 6, torch.float64)
    with torch.no_grad():
        expected = module(x, mask)[mask]
        content = relative_error(module(loud, mask)[mask], expected)
        longer = module(torch.cat([loud, rest], dim=1), mask_of(lengths, more))[:, :21]
        amount = relative_error(longer[mask], expected)
        # A row alone and unpadded: what a batch of one would have given.
        alone = max(
            relative_error(module(x[row : row + 1, :length]), module(x, mask)[row : row + 1, :length])
            for row, length in enumerate(lengths)
        )
    figures = {"content": content, "amount": amount, "alone": alone}
    if content > LEAK:
        return failed(
            f"padding leaks: other content at pads changes real tokens by {content:.1e}.", **figures
        )
    worst = max(amount, alone)
    if subject.entry.padding_invariant:
        if worst > LEAK:
            return failed(f"the amount of padding changes real tokens by {worst:.1e}.", **figures)
        return passed(f"content and amount change real tokens by {max(content, worst):.1e}", **figures)
    if worst <= LEAK:
        return failed("padding_invariant is false on its card, and nothing depends on padding.", **figures)
    return passed(f"content of pads never matters; their amount does ({worst:.1e}), as declared", **figures)


def full_mask(subject: Subject) -> Finding:
    """A mask that is True everywhere is no mask."""
    module = subject.build().double()
    x = tokens(subject, 2, 19, dtype=torch.float64)
    with torch.no_grad():
        error = relative_error(module(x, torch.ones(2, 19, dtype=torch.bool)), module(x))
    if error > LEAK:
        return failed(f"a mask that is True everywhere changes the result by {error:.1e}.", error=error)
    return passed(f"the same as no mask ({error:.1e})", error=error)


def empty_rows(subject: Subject) -> Finding:
    """Rows of one real token and of none give finite numbers, forward and backward."""
    module = subject.build().train()
    x = tokens(subject, 3, 12).requires_grad_()
    mixed = module(x, mask_of([12, 1, 0], 12))
    mixed.square().sum().backward()
    if not mixed.isfinite().all():
        return failed("a row of one or no real token gives numbers that are not finite.")
    for name, tensor in [("the input", x), *module.named_parameters()]:
        if tensor.grad is not None and not tensor.grad.isfinite().all():
            return failed(f"a row of one or no real token makes the gradient of {name} not finite.")
    return passed("rows of one and of no real token stay finite, forward and backward")


def causality(subject: Subject) -> Finding:
    """If the card claims it: a later token changes no earlier output."""
    if not subject.entry.causal:
        return skipped("the card claims no causality")
    module = subject.build().double()
    x = tokens(subject, 2, 30, dtype=torch.float64)
    worst = 0.0
    with torch.no_grad():
        expected = module(x)
        for cut in (1, 7, 16, 29):
            changed = torch.cat([x[:, :cut], tokens(subject, 2, 30 - cut, 8, torch.float64)], dim=1)
            worst = max(worst, relative_error(module(changed)[:, :cut], expected[:, :cut]))
    if worst > LEAK:
        return failed(f"the future leaks: later tokens change earlier outputs by {worst:.1e}.", error=worst)
    return passed(f"later tokens change earlier outputs by {worst:.1e}", error=worst)


def determinism(subject: Subject) -> Finding:
    """The same seed gives the same module, and the same module the same result."""
    x = tokens(subject, 2, 11)
    first, second = subject.build(seed=3), subject.build(seed=3)
    if not torch.equal(first(x), second(x)):
        return failed("two modules built under the same seed give different results.")
    if not subject.entry.stochastic_in_eval and not torch.equal(first(x), first(x)):
        return failed("two passes of the same module in eval mode give different results.")
    return passed("same seed, same result, bit for bit")


def state(subject: Subject) -> Finding:
    """state_dict takes everything to another module; copies and pickles work."""
    module, other = subject.build(seed=3), subject.build(seed=4)
    x = tokens(subject, 2, 11)
    file = io.BytesIO()
    torch.save(module.state_dict(), file)
    file.seek(0)
    if list(module.parameters()) and torch.equal(module(x), other(x)):
        return failed("modules of different seeds give the same result: are weights initialised?")
    other.load_state_dict(torch.load(file, weights_only=True))
    if not torch.equal(module(x), other(x)):
        return failed("a module with another's state_dict gives another result: something is not in it.")
    twins: list[nn.Module] = [copy.deepcopy(module), pickle.loads(pickle.dumps(module))]
    if any(not torch.equal(twin(x), module(x)) for twin in twins):
        return failed("a copy of the module gives another result.")
    return passed("state_dict, deepcopy and pickle carry everything")


def bfloat16(subject: Subject) -> Finding:
    """Near float32 under autocast and with weights in bf16."""
    module = subject.build()
    x, mask = tokens(subject, 2, 29), mask_of([29, 17])
    with torch.no_grad():
        expected = module(x, mask)
        with torch.autocast("cpu", torch.bfloat16):
            automatic = module(x, mask)
        low = copy.deepcopy(module).bfloat16()(x.bfloat16(), mask)
    if low.dtype != torch.bfloat16:
        return failed(f"weights and input in bf16, result in {low.dtype}.")
    errors = {"autocast": _norm_error(automatic, expected, mask), "bf16": _norm_error(low, expected, mask)}
    worst = max(errors.values())
    if not worst < BFLOAT16_ERROR:
        return failed(f"bf16 differs from float32 by {worst:.1%} (norms).", **errors)
    return passed(f"within {worst:.1%} of float32 (norms)", **errors)


def _norm_error(got: Tensor, expected: Tensor, mask: Tensor) -> float:
    difference = (got.float() - expected)[mask].norm() / expected[mask].norm()
    return float(difference)


def compiled(subject: Subject) -> Finding:
    """`torch.compile` as `--compile` uses it: the same result and the same gradient, with a mask too."""
    module = subject.build().train()
    torch.compiler.reset()
    fast = torch.compile(module)
    worst = 0.0
    for mask in (None, mask_of([29, 17])):
        results = []
        for one in (module, fast):
            module.zero_grad(set_to_none=True)
            x = tokens(subject, 2, 29).requires_grad_()
            mixed = one(x, mask)
            # Not its square: behind a normalisation that is constant, and its gradient noise.
            (mixed * tokens(subject, 2, 29, 4)).mean().backward()
            assert x.grad is not None
            results.append((mixed if mask is None else mixed[mask], x.grad))
        for eager, faster in zip(*results, strict=True):
            worst = max(worst, relative_error(faster, eager))
    if worst > COMPILED_ERROR:
        return failed(f"compiled, it differs by {worst:.1e} from eager.", error=worst)
    return passed(f"compiled, within {worst:.1e} of eager, gradients too", error=worst)


def layers(subject: Subject) -> Finding:
    """Several layers can be built, and run one after the other."""
    x = tokens(subject, 2, 11)
    if subject.entry.kind == "encoder":
        mixed = subject.build(num_layers=3)(x)
        return (
            passed("3 layers") if mixed.shape == x.shape else failed(f"3 layers give {tuple(mixed.shape)}.")
        )
    built = subject.build_layers(3)
    if [getattr(layer, "layer_index", None) for layer in built] != [0, 1, 2]:
        return failed("build_layers must give each mixer its layer_index.")
    for layer in built:
        x = layer(x)
    return passed("3 layers") if x.shape == (2, 11, subject.sizes.dim) else failed(f"{tuple(x.shape)}")


def too_long(subject: Subject) -> Finding:
    """Beyond max_length: a clear error where parameters end there, else just a longer sequence."""
    length = subject.sizes.max_length + 1
    module, x = subject.build(), tokens(subject, 1, length)
    if not subject.entry.needs_max_length:
        if module(x).shape != x.shape:
            return failed(f"{length} tokens give another shape.")
        return passed(f"takes any length ({length} at max_length {length - 1})")
    try:
        module(x)
    except UsageError as error:
        if f"at most {length - 1} tokens and got {length}" in str(error):
            return passed("too long a sequence is refused with the longest length")
        return failed(f"the error for too long a sequence does not say the longest length: {error}")
    return failed(f"needs_max_length, and {length} tokens are taken at max_length {length - 1}.")
