"""What must hold for every mixer of the catalog, by being there."""

from __future__ import annotations

import copy
import io
import pickle

import pytest
import torch
from references.cases import DIM, HEAD_DIM, MAX_LENGTH, NUM_HEADS, PROOFS, Case, all_cases
from references.comparison import assert_matches_reference
from saved_bytes import saved_bytes
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from lra_bench.errors import OptionError, UsageError
from lra_bench.mixer import mask_from_lengths
from lra_bench.registry import models

CASES = all_cases()
every_case = pytest.mark.parametrize("case", CASES, ids=lambda case: f"{case.name}-{case.label}")
every_default = pytest.mark.parametrize(
    "case", [case for case in CASES if case.label == "default"], ids=lambda case: case.name
)


def tokens(batch: int, length: int, seed: int = 1, dtype: torch.dtype = torch.float32) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(batch, length, DIM, generator=generator, dtype=torch.float64).to(dtype)


def skip_unless_invariant(case: Case) -> None:
    if not models.get(case.name).padding_invariant:
        pytest.skip("its card says that padding changes its output")


def test_catalog_is_seen() -> None:
    assert {"transformer", "linformer", "performer"} <= {case.name for case in CASES}


def test_entry_without_an_oracle_fails_with_what_to_do() -> None:
    with pytest.raises(pytest.fail.Exception, match="has no oracle: write tests/references/"):
        _ = Case("newcomer", "default", {}).proof


@every_case
@pytest.mark.parametrize("length", [1, 2, 7, 16, 33])
def test_matches_reference(case: Case, length: int) -> None:
    assert_matches_reference(case.build(), case.proof.reference, [length, length])


@every_case
@pytest.mark.parametrize("lengths", [[33, 20, 3, 1], [16, 15, 4], [2, 1]], ids=str)
def test_matches_reference_with_padding(case: Case, lengths: list[int]) -> None:
    skip_unless_invariant(case)
    assert_matches_reference(case.build(seed=2), case.proof.reference, lengths)


@every_case
def test_padding_neither_leaks_nor_counts(case: Case) -> None:
    skip_unless_invariant(case)
    mixer = case.build().double()
    lengths = torch.tensor([21, 9, 1])
    x, mask = tokens(3, 21, dtype=torch.float64), mask_from_lengths(lengths, 21)
    with torch.no_grad():
        expected = mixer(x, mask)
        other_content = torch.where(mask[..., None], x, 1000 * tokens(3, 21, 5, torch.float64))
        content = mixer(other_content, mask)
        longer = torch.cat([other_content, 1000 * tokens(3, 13, 6, torch.float64)], dim=1)
        amount = mixer(longer, mask_from_lengths(lengths, 34))[:, :21]
    for changed in (content, amount):
        torch.testing.assert_close(changed[mask], expected[mask], rtol=1e-10, atol=1e-12)


@every_case
def test_all_true_mask_is_no_mask(case: Case) -> None:
    mixer = case.build().double()
    x = tokens(2, 19, dtype=torch.float64)
    with torch.no_grad():
        masked = mixer(x, torch.ones(2, 19, dtype=torch.bool))
        torch.testing.assert_close(masked, mixer(x), rtol=1e-10, atol=1e-12)


@every_case
def test_hardly_any_real_token_gives_no_nan(case: Case) -> None:
    mixer = case.build().train()
    x = tokens(3, 12).requires_grad_()
    mixed = mixer(x, mask_from_lengths(torch.tensor([12, 1, 0]), 12))
    mixed.square().sum().backward()
    assert mixed.isfinite().all()
    for gradient in [x.grad, *(parameter.grad for parameter in mixer.parameters())]:
        assert gradient.isfinite().all()


@every_case
def test_gradient_reaches_every_parameter(case: Case) -> None:
    mixer = case.build().double()
    x = (2 * tokens(3, MAX_LENGTH, dtype=torch.float64)).requires_grad_()
    (mixer(x) * tokens(3, MAX_LENGTH, 4, torch.float64)).sum().backward()
    gradients = {name: parameter.grad for name, parameter in mixer.named_parameters()}
    assert x.grad.abs().amin(dim=-1).gt(0).all()
    for name, gradient in gradients.items():
        assert gradient is not None, f"{name} is not used"
        # Half, since a bias of all keys alike cancels in a softmax: its gradient is rightly zero.
        reached = gradient.abs() > 1e-9 * gradient.abs().max()
        assert gradient.abs().max() > 1e-6, f"{name} gets next to no gradient"
        assert reached.double().mean() >= 0.5, f"most of {name} gets no gradient"


@every_case
def test_gradients_are_those_of_the_forward_pass(case: Case) -> None:
    mixer = case.build().double().train()
    names = [name for name, _ in mixer.named_parameters()]
    inputs = [tokens(2, 7, dtype=torch.float64).requires_grad_(), *mixer.parameters()]
    for mask in (None, mask_from_lengths(torch.tensor([7, 4]), 7)):

        def mixed(x: torch.Tensor, *values: torch.Tensor, mask: torch.Tensor | None = mask) -> torch.Tensor:
            given = dict(zip(names, values, strict=True))
            result = torch.func.functional_call(mixer, given, (x, mask))
            return result if mask is None else result[mask]

        assert torch.autograd.gradcheck(mixed, inputs, fast_mode=True)


@every_case
def test_state_dict_round_trip(case: Case) -> None:
    mixer, other = case.build(seed=3), case.build(seed=4)
    x = tokens(2, 11)
    file = io.BytesIO()
    torch.save(mixer.state_dict(), file)
    file.seek(0)
    if list(mixer.parameters()):
        assert not torch.equal(mixer(x), other(x))
    other.load_state_dict(torch.load(file, weights_only=True))
    assert torch.equal(mixer(x), other(x))


@every_case
def test_same_seed_same_result(case: Case) -> None:
    x = tokens(2, 11)
    first, second = case.build(seed=3), case.build(seed=3)
    assert torch.equal(first(x), second(x))
    assert torch.equal(first(x), first(x))


@every_case
def test_copies_and_pickles(case: Case) -> None:
    mixer = case.build()
    x = tokens(2, 11)
    assert torch.equal(copy.deepcopy(mixer)(x), mixer(x))
    assert torch.equal(pickle.loads(pickle.dumps(mixer))(x), mixer(x))


@every_case
def test_bfloat16_is_near_float32(case: Case) -> None:
    mixer = case.build()
    x, mask = tokens(2, 29), mask_from_lengths(torch.tensor([29, 17]), 29)
    with torch.no_grad():
        expected = mixer(x, mask)
        with torch.autocast("cpu", torch.bfloat16):
            automatic = mixer(x, mask)
        low = copy.deepcopy(mixer).bfloat16()(x.bfloat16(), mask)
    assert low.dtype == torch.bfloat16
    for mixed in (automatic, low):
        error = (mixed.float() - expected)[mask].norm() / expected[mask].norm()
        assert error < 0.03


@every_case
def test_shape_and_type(case: Case) -> None:
    for dtype in (torch.float32, torch.float64):
        mixer = case.build().to(dtype)
        x = tokens(3, 14, dtype=dtype)
        assert mixer(x).shape == (3, 14, DIM)
        assert mixer(x).dtype == dtype
        strided = x.transpose(1, 2).contiguous().transpose(1, 2)
        torch.testing.assert_close(mixer(strided), mixer(x))


@every_case
@pytest.mark.parametrize("length", [1, 19, 32])
def test_counted_flops_are_the_cards(case: Case, length: int) -> None:
    with torch.device("meta"):
        mixer = case.build()
        x = torch.empty(1, length, DIM)
    with FlopCounterMode(display=False) as counter, sdpa_kernel(SDPBackend.MATH):
        mixer(x)
    cost = type(mixer).cost(length, DIM, NUM_HEADS, head_dim=HEAD_DIM, **case.options)
    assert counter.get_total_flops() == cost.flops


@every_case
@pytest.mark.parametrize("length", [19, 32])
def test_bytes_kept_for_backward_are_the_cards(case: Case, length: int) -> None:
    mixer = case.build().train()
    # The difference of two batches: what the sequences of a batch share is not a sequence's cost.
    small, large = (saved_bytes(mixer, tokens(batch, length).requires_grad_()) for batch in (2, 6))
    cost = type(mixer).cost(length, DIM, NUM_HEADS, head_dim=HEAD_DIM, **case.options)
    assert (large - small) / 4 == pytest.approx(cost.activation_bytes, rel=0.02)


@every_case
def test_builds_layers(case: Case) -> None:
    arguments = {"head_dim": HEAD_DIM, "max_length": MAX_LENGTH, "dropout": 0.0, **case.options}
    layers = models.get(case.name).load().build_layers(3, DIM, NUM_HEADS, **arguments)
    assert [layer.layer_index for layer in layers] == [0, 1, 2]
    x = tokens(2, 11)
    for layer in layers:
        x = layer(x)
    assert x.shape == (2, 11, DIM)


@every_default
def test_length_beyond_max_length(case: Case) -> None:
    mixer = case.build()
    x = tokens(1, MAX_LENGTH + 1)
    if models.get(case.name).needs_max_length:
        with pytest.raises(UsageError, match=f"at most {MAX_LENGTH} tokens and got {MAX_LENGTH + 1}"):
            mixer(x)
    else:
        assert mixer(x).shape == x.shape


@pytest.mark.parametrize(
    ("name", "options"),
    [(name, options) for name, proof in PROOFS.items() for options in proof.invalid],
    ids=str,
)
def test_options_out_of_range(name: str, options: dict[str, object]) -> None:
    with pytest.raises(OptionError, match=f"{next(iter(options))}=.* is out of range: expected "):
        models.get(name).load()(DIM, NUM_HEADS, head_dim=HEAD_DIM, max_length=MAX_LENGTH, **options)
