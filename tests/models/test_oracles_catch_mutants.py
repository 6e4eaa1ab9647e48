"""Planted faults: for each, the comparison of the main suite must fail.

A fault is a subclass of the shipped model with one thing wrong (tests/mutants/<entry>.py). A comparison
that lets one of them through would let the same mistake through in the shipped code.
"""

from __future__ import annotations

import importlib
import importlib.util
from collections.abc import Callable
from types import ModuleType
from typing import Any

import pytest
from mutants import common
from mutants.fault import Mutant
from references.cases import PROOFS
from references.comparison import assert_matches_reference

from lra_bench.mixer import MultiHeadMixer
from lra_bench.registry import models
from lra_bench.validation.subject import Subject

FEWEST = 2
"""Mutants that every oracle has to catch."""


def module_of(name: str) -> ModuleType | None:
    module = f"mutants.{name}"
    return importlib.import_module(module) if importlib.util.find_spec(module) else None


def mutants_of(name: str) -> list[Mutant]:
    """An entry's own mutants, and the common ones for what has the usual projections.

    EXEMPT in its file names common faults that are none for it: mixing up heads where there is one.
    """
    module = module_of(name)
    own = list(getattr(module, "MUTANTS", []))
    if not issubclass(models.get(name).load(), MultiHeadMixer):
        return own
    options = getattr(module, "OPTIONS", {})
    exempt = getattr(module, "EXEMPT", ())
    faults = [*common.MASKS, *common.HEADS, *common.SCALES]
    return [*own, *(Mutant(fault, options) for fault in faults if fault not in exempt)]


EVERY = [(name, mutant) for name in PROOFS for mutant in mutants_of(name)]


def compare_as_the_suite_does(name: str, mutant: Mutant, fault: type[Any] | None) -> None:
    """A full batch and a padded one, as in test_registered_models."""
    entry = models.get(name)
    shipped = entry.load()
    if fault is not None:
        entry = _Stand(entry, type(fault.__name__, (fault, shipped), {}))
    subject = Subject(entry, {**entry.options, **mutant.options}, PROOFS[name].sizes)
    lengths = list(mutant.lengths)
    assert_matches_reference(subject.build(), PROOFS[name], [lengths[0]] * 2)
    if models.get(name).padding_invariant:
        assert_matches_reference(subject.build(), PROOFS[name], lengths)


class _Stand:
    """A catalog entry whose class is the faulty one."""

    def __init__(self, entry: Any, faulty: type[Any]) -> None:
        self._entry = entry
        self._faulty = faulty

    def __getattr__(self, name: str) -> Any:
        return getattr(self._entry, name)

    def load(self) -> type[Any]:
        return self._faulty


@pytest.mark.parametrize(
    ("name", "mutant"), EVERY, ids=[f"{name}-{mutant.fault.__name__}" for name, mutant in EVERY]
)
def test_fault_is_caught(name: str, mutant: Mutant, evidence: Callable[..., None]) -> None:
    # Without the fault, the same options pass: it is the fault that is caught.
    compare_as_the_suite_does(name, mutant, None)
    with pytest.raises(AssertionError, match="Not equal to tolerance"):
        compare_as_the_suite_does(name, mutant, mutant.fault)
    evidence(name, "mutants", mutant.fault.__name__)


@pytest.mark.parametrize("name", PROOFS)
def test_every_oracle_catches_some(name: str) -> None:
    assert len(mutants_of(name)) >= FEWEST, f"plant {FEWEST} or more faults in tests/mutants/{name}.py"
