"""From a catalog entry and options to a model, with the options that every model has."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import nn

from lra_bench import registry
from lra_bench.data.task import TaskSpec
from lra_bench.encoder import Embedding, MixerEncoder, PairClassifier, SequenceClassifier, SequenceEncoder
from lra_bench.errors import OptionError, UsageError
from lra_bench.estimator import Estimator
from lra_bench.mixer import CONTRACT_ARGUMENTS, TokenMixer
from lra_bench.protocol import Architecture
from lra_bench.registry import Entry, Option, options_of, resolve_options
from lra_bench.shapes import shapes_only
from lra_bench.stack import EncoderStack

MATCH = "parameter_match"
COMMON_OPTIONS = {MATCH: Option(MATCH, bool, False, required=False)}
"""Options that every mixer and encoder takes. `parameter_match` makes the feed-forward layers of its blocks
narrower, or wider, so that all layers together have as many parameters as the Transformer's."""
BASELINE = "transformer"
WIDTHS_TRIED = 256
"""Below the width that would match, for variants that can't have every width."""


CONTRACTS: Mapping[str, type[Any]] = {
    "mixer": TokenMixer,
    "encoder": EncoderStack,
    "classifier": nn.Module,
    "estimator": Estimator,
}
"""What a model of a kind subclasses."""


def check_contract(entry: Entry) -> None:
    """Raises UsageError unless the entry's class is one of its kind, with all that its kind asks for."""
    loaded, contract = entry.load(), CONTRACTS.get(entry.kind)
    if contract is None:
        raise UsageError(f"{entry.name} is of kind {entry.kind} and no model.")
    if not issubclass(loaded, contract):
        fitting = [kind for kind, other in CONTRACTS.items() if issubclass(loaded, other)]
        what = f"it could be of kind {fitting[0]}" if fitting else "it is none of the other kinds either"
        raise UsageError(
            f"{entry.name}: {entry.target} is no {contract.__name__}, as a model of kind {entry.kind} has to "
            f"be: subclass {contract.__module__}.{contract.__name__}. The kind is what its attribute `card` "
            f'says, {{"kind": "mixer"}} by default; {what}.'
        )
    if left_out := sorted(getattr(loaded, "__abstractmethods__", ())):
        raise UsageError(f"{entry.name}: {entry.target} lacks what it has to have: {', '.join(left_out)}.")


def model_options(entry: Entry) -> dict[str, Option]:
    """All options of a model, its own first."""
    check_contract(entry)
    reserved = CONTRACT_ARGUMENTS if entry.kind in ("mixer", "encoder") else frozenset[str]()
    return {**options_of(entry.load(), reserved), **_common(entry)}


def resolve_model_options(entry: Entry, given: Mapping[str, Any], reserved: frozenset[str]) -> dict[str, Any]:
    """All options of a model: defaults, the card's presets, then `given`, checked and typed.

    Those that every model has are among them only where they are not at their default: a record lists
    what is the variant's own, and what was changed.

    Raises:
        UsageError: an unknown option, or a class that is no model of its kind. OptionError: a value of the
            wrong type.
    """
    check_contract(entry)
    resolved = resolve_options(entry, given, reserved, "Model", common=_common(entry))
    for name, option in _common(entry).items():
        if resolved[name] == option.default:
            del resolved[name]
    return resolved


def _common(entry: Entry) -> Mapping[str, Option]:
    return COMMON_OPTIONS if entry.kind in ("mixer", "encoder") else {}


def build_model(
    entry: Entry, options: Mapping[str, Any], architecture: Architecture, spec: TaskSpec
) -> nn.Module:
    """The classifier of a cell: the entry's mixer, encoder or classifier within the protocol's network.

    Args:
        options: the variant's own options, already resolved (`resolve_model_options`).

    Raises:
        OptionError: an option out of range, or a shape that the protocol can't have.
    """
    if entry.kind == "classifier":
        model: nn.Module = entry.load()(spec, **options)
        return model
    length = spec.max_length + (architecture.pooling == "cls")
    own = {name: value for name, value in options.items() if name not in COMMON_OPTIONS}
    within = architecture
    if options.get(MATCH):
        width = matched_ffn_dim(entry, own, architecture, length)
        within = architecture.model_copy(update={"ffn_dim": width})
    encoder = build_encoder(entry, own, within, length)
    # Where every token has a label the head reads every token; a CLS vector then only takes part.
    pooling = "none" if spec.token_labels else architecture.pooling
    sequence_encoder = SequenceEncoder(Embedding(spec, architecture), encoder, pooling)
    classifier = PairClassifier if spec.paired else SequenceClassifier
    return classifier(sequence_encoder, architecture, spec.num_classes)


def build_encoder(
    entry: Entry, options: Mapping[str, Any], architecture: Architecture, max_length: int
) -> nn.Module:
    """The layers alone: (b, n, d), mask -> (b, n, d), mask.

    Raises:
        OptionError: an option out of range, or an entry that is no network.
    """
    variant = entry.load()
    if entry.kind == "encoder":
        encoder: nn.Module = variant(architecture, max_length=max_length, **options)
        return encoder
    if entry.kind != "mixer":
        raise OptionError(
            f"{entry.name} is of kind {entry.kind} and no network. Estimators are run with `lra-bench run`."
        )
    mixers = variant.build_layers(
        architecture.num_layers,
        architecture.dim,
        architecture.num_heads,
        head_dim=architecture.head_dim,
        max_length=max_length,
        dropout=architecture.attention_dropout,
        **options,
    )
    return MixerEncoder(mixers, architecture)


def matched_ffn_dim(
    entry: Entry, options: Mapping[str, Any], architecture: Architecture, max_length: int
) -> int:
    """The widest feed-forward with which the entry's layers have no more parameters than the Transformer's.

    Raises:
        OptionError: there is none, or the entry has no feed-forward.
    """

    def count(one: Entry, own: Mapping[str, Any], width: int) -> int:
        with shapes_only():
            built = build_encoder(one, own, architecture.model_copy(update={"ffn_dim": width}), max_length)
        return sum(parameter.numel() for parameter in built.parameters())

    here = architecture.ffn_dim
    target = count(registry.models.get(BASELINE), {}, here)
    at_here, at_twice = count(entry, options, here), count(entry, options, 2 * here)
    slope = (at_twice - at_here) / here
    if slope <= 0:
        raise OptionError(
            f"{MATCH}=True: {entry.name} has no feed-forward layer that could be made to match."
        )
    nearest = here + int((target - at_here) // slope)
    for width in range(nearest, max(nearest - WIDTHS_TRIED, 0), -1):
        try:
            if count(entry, options, width) <= target:
                return width
        except OptionError:
            continue  # a width that the variant can't divide
    raise OptionError(
        f"{MATCH}=True: {entry.name} has {at_here:,} parameters in its layers with feed-forward width "
        f"{here}, the Transformer {target:,}, and no width brings them together. "
        "Change the variant's own options."
    )
