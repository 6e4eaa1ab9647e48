"""From the evidence of test runs to `models/proofs.json` and docs/PROOFS.md.

    pytest tests/models --evidence proofs.json
    pytest -m compiled --evidence compiled.json
    pytest -m learns -n 2 --evidence learned.json
    PYTHONPATH=tests python tests/proof_table.py proofs.json compiled.json learned.json

Columns that no file brings keep what they had, so that the long runs need not be repeated for a new entry.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

from lra_bench.registry import models

ROOT = Path(__file__).resolve().parents[1]
PROOFS = ROOT / "models" / "proofs.json"
DOCUMENT = ROOT / "docs" / "PROOFS.md"
HEAD = """# How each model was proved
Written by `tests/proof_table.py` from the evidence of test runs; not by hand. Errors are the largest over all
inputs and options of a model, relative to the largest number of the output.

- **reference**: against its own dense float64 computation (`tests/references/`), in float32 and in float64,
  at lengths that no block divides and in batches of different lengths.
- **identity**: the limit in which it must equal another method, with the accuracy that the method has.
- **parity**: against another implementation with the same weights (`tests/peers/`, frozen in
  `tests/golden/`).
- **padding**: by how much content and amount of padding change real tokens, in float64.
- **FLOPs, bytes**: counted against the closed form of its card: lengths times options at which FLOPs are
  equal; the largest difference of the bytes kept for backward. **growth**: exponents of the closed forms from
  32K to 64K tokens.
- **mutants**: planted faults, each of which its reference caught.
- **compiled**: `torch.compile` against eager, output and gradient.
- **recall**: steps of 64 sequences until it answers 95 % of the queries; "can not" where its card says why,
  else how far it came within the budget (`tests/learning/test_recall.py`: 256
  tokens, 8 pairs, at most 1,000 steps, one seed).

"""


def condense(raw: dict[str, list[Any]]) -> dict[str, Any]:
    """Lists of single findings to the figures of a table."""
    proof: dict[str, Any] = {}
    for column in ("reference_float32", "reference_float64"):
        if column in raw:
            proof[column] = max(raw[column])
    if "reference_float64" in raw:
        proof["reference_cases"] = len(raw["reference_float64"])
    for column in ("identity", "parity", "agreement"):
        if column in raw:
            # Several tests may show the same limit; the largest error of each is kept.
            worst = {(one.get("what") or one["package"]): one for one in sorted(raw[column], key=_error_of)}
            proof[column] = [worst[what] for what in sorted(worst)]
    if "padding" in raw:
        declared = [{key: found[key] for key in found} for found in raw["padding"]]
        proof["padding"] = max(max(found.values()) for found in declared)
    if "flops" in raw:
        proof["flops"] = int(sum(found["lengths"] for found in raw["flops"]))
    if "bytes" in raw:
        proof["bytes"] = max(found.get("error", 0.0) for found in raw["bytes"])
    for column in ("time_growth", "memory_growth"):
        if column in raw:
            proof[column] = raw[column][0]
    if "compiled" in raw:
        proof["compiled"] = max(found["error"] for found in raw["compiled"])
    if "mutants" in raw:
        proof["mutants"] = sorted(set(raw["mutants"]))
    if "learns" in raw:
        found = raw["learns"][-1]
        share = f"{found['accuracy']:.1%}"
        text = f"{share} after {found['steps']:,} steps of 64 sequences, {found['cpu_s']:,} s of one core"
        proof["learns"] = {**found, "text": text if found["solved"] else f"not solved: {text}"}
    return proof


def _error_of(finding: dict[str, Any]) -> float:
    return float(finding.get("error", 0.0))


def document(proofs: dict[str, dict[str, Any]]) -> str:
    columns = ["model", "reference f32", "f64", "identity", "parity", "padding", "FLOPs", "bytes"]
    columns += ["growth: time, memory", "mutants", "compiled", "recall"]
    lines = [f"| {' | '.join(columns)} |", "|" + "---|" * len(columns)]
    details = []
    for name, proof in proofs.items():
        learns = proof.get("learns")
        growth = proof.get("time_growth"), proof.get("memory_growth")
        cells = [
            f"`{name}`",
            error(proof.get("reference_float32")),
            error(proof.get("reference_float64")),
            error(largest(proof.get("identity"))),
            error(largest(proof.get("parity"))),
            error(proof.get("padding")) if models.get(name).padding_invariant else "by definition",
            str(proof.get("flops", "-")),
            f"{proof['bytes']:.1%}" if "bytes" in proof else "-",
            ", ".join(f"n^{one['exponent']:.2f}" if "exponent" in one else "none" for one in growth if one),
            str(len(proof.get("mutants", []))),
            error(proof.get("compiled")),
            recall(learns, models.get(name).recall_limit),
        ]
        lines.append(f"| {' | '.join(cells)} |")
        for kind in ("identity", "parity", "agreement"):
            for one in proof.get(kind, []):
                what = one.get("what") or one.get("package")
                figure = f"{one['share']:.2%}" if "share" in one else error(one["error"])
                details.append(f"- `{name}`, {kind}: {what}: {figure}")
    return HEAD + "\n".join([*lines, "", "## Identities and parities", "", *details, ""])


def recall(learns: dict[str, Any] | None, limit: str) -> str:
    if not learns:
        return "-"
    if learns["solved"]:
        return f"{learns['steps']:,} steps"
    return f"{'can not' if limit else 'not within the budget'}: {learns['accuracy']:.0%}"


def largest(found: list[dict[str, Any]] | None) -> float | None:
    return max((one["error"] for one in found), default=None) if found else None


def error(value: float | None) -> str:
    if value is None:
        return "-"
    return "0" if value == 0 else f"{value:.0e}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("evidence", nargs="+", type=Path)
    merged: dict[str, dict[str, list[Any]]] = {}
    for path in parser.parse_args().evidence:
        for name, columns in json.loads(path.read_text("utf-8")).items():
            for column, values in columns.items():
                merged.setdefault(name, {}).setdefault(column, []).extend(values)
    before = json.loads(PROOFS.read_text("utf-8")) if PROOFS.exists() else {}
    names = [entry.name for entry in models if entry.kind in ("mixer", "encoder")]
    proofs = {name: {**before.get(name, {}), **condense(merged.get(name, {}))} for name in names}
    PROOFS.write_text(json.dumps(proofs, indent=1) + "\n", "utf-8")
    DOCUMENT.write_text(document(proofs), "utf-8")


if __name__ == "__main__":
    main()
