"""How each model was proved: what the test runs behind `models/proofs.json` showed."""

from __future__ import annotations

import functools
import importlib.resources
import json
from collections.abc import Mapping
from typing import Any


@functools.cache
def all_proofs() -> Mapping[str, Mapping[str, Any]]:
    """Model -> columns; written by `tests/proof_table.py` from the evidence of a test run, never by hand."""
    text = importlib.resources.files("lra_bench.models").joinpath("proofs.json").read_text("utf-8")
    loaded: dict[str, dict[str, Any]] = json.loads(text)
    return loaded


def proof_lines(name: str) -> dict[str, str]:
    """The columns of one model in words; empty for a model outside the registry."""
    proof = all_proofs().get(name, {})
    lines = {}
    if "reference_float32" in proof:
        lines["reference"] = (
            f"error {_error(proof['reference_float32'])} in float32, "
            f"{_error(proof['reference_float64'])} in float64, over {proof['reference_cases']} inputs"
        )
    if identity := proof.get("identity"):
        lines["identity"] = "; ".join(f"{one['what']}: {_error(one['error'])}" for one in identity)
    if parity := proof.get("parity"):
        lines["parity"] = "; ".join(f"{one['package']}: {_error(one['error'])}" for one in parity)
    if agreement := proof.get("agreement"):
        lines["agreement"] = "; ".join(f"{one['what']}: {one['share']:.2%}" for one in agreement)
    if "padding" in proof:
        lines["padding"] = f"changes real tokens by {_error(proof['padding'])}"
    if "flops" in proof:
        lines["FLOPs"] = f"counted = closed form at {proof['flops']} lengths and options"
    if "bytes" in proof:
        lines["bytes"] = f"within {proof['bytes']:.1%} of the closed form"
    if growth := proof.get("time_growth"):
        kept = proof["memory_growth"].get("exponent")
        memory = "nothing kept" if kept is None else f"memory n^{kept:.2f}"
        lines["growth"] = f"time n^{growth['exponent']:.2f}, {memory} from 32K to 64K tokens"
    if compiled := proof.get("compiled"):
        lines["compiled"] = f"within {_error(compiled)} of eager"
    if mutants := proof.get("mutants"):
        lines["mutants"] = f"{len(mutants)} planted faults caught: {', '.join(mutants)}"
    if learns := proof.get("learns"):
        lines["recall"] = learns["text"]
    return lines


def proof_column(name: str) -> str:
    """For a list: which kinds of proof there are."""
    proof = all_proofs().get(name, {})
    kinds = {
        "reference_float64": "reference",
        "identity": "identity",
        "parity": "parity",
        "flops": "cost",
        "mutants": f"{len(proof.get('mutants', []))} mutants",
    }
    words = [word for key, word in kinds.items() if proof.get(key)]
    learns = proof.get("learns")
    if learns:
        words.append("recall" if learns["solved"] else "no recall")
    return ", ".join(words)


def _error(value: float) -> str:
    return "0" if value == 0 else f"{value:.0e}"
