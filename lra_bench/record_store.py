"""The files of run records: written atomically, checked and migrated on reading, found in folders.

One JSON file per run; per-example predictions stand beside it in `<run-id>.npz` for paired comparisons.
"""

from __future__ import annotations

import json
import zipfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
from numpy.typing import NDArray
from pydantic import ValidationError

from lra_bench.errors import DataError, UsageError
from lra_bench.files import atomic_path, write_atomically
from lra_bench.records import PARTIAL_SUFFIX, SCHEMA, Part, RunRecord

if TYPE_CHECKING:
    import pandas as pd

PartT = TypeVar("PartT", bound=Part)


def write_record(path: Path, record: RunRecord) -> None:
    """Atomically; the folder is made."""
    write_atomically(path, record_text(record))


def record_text(record: Part) -> str:
    """The text of a record's file."""
    return json.dumps(record.model_dump(mode="json", by_alias=True), indent=1, ensure_ascii=False) + "\n"


def read_record(path: Path) -> RunRecord:
    """Raises DataError, naming the file, where it is damaged, of another schema or has unknown keys."""
    return read_part(path, RunRecord, migrate)


def read_part(path: Path, kind: type[PartT], migrated: Callable[[Any], Any]) -> PartT:
    """A record's file, checked; `migrated` brings its content up to the present schema.

    Raises:
        DataError: as for `read_record`.
    """
    try:
        content = json.loads(path.read_text("utf-8"))
        return kind.model_validate(migrated(content))
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror}).") from None
    except UnicodeDecodeError:
        raise DataError(
            f"{path}: not a record (no UTF-8 text). Move it away and run the cell again."
        ) from None
    except json.JSONDecodeError as error:
        raise DataError(
            f"{path}: not a record (JSON breaks at line {error.lineno}). Move it away and run the cell again."
        ) from None
    except ValidationError as error:
        fault = error.errors()[0]
        where = ".".join(str(part) for part in fault["loc"])
        raise DataError(f"{path}: not a valid record: {where}: {fault['msg']}.") from None
    except (UsageError, DataError) as error:
        raise DataError(f"{path}: {error}") from None


def migrate(content: Any) -> Any:
    """Brings a record of an older schema up to the present one. There is only one so far."""
    version = content.get("schema") if isinstance(content, dict) else None
    if version != SCHEMA:
        raise UsageError(
            f"schema {version!r} is not known to this version, which reads schema {SCHEMA}. "
            "Update lra-bench, or check that the file is a run record."
        )
    return content


def record_files(results: Path) -> Iterator[Path]:
    """Record files below a results folder, in a fixed order; not what a run in progress keeps."""
    yield from (
        path for path in sorted((results / "runs").rglob("*.json")) if path.parent.suffix != PARTIAL_SUFFIX
    )


def load_records(
    results: str | Path | Sequence[str | Path] = "results",
    *,
    faults: list[DataError] | None = None,
    paths: dict[str, Path] | None = None,
    conflicts: list[str] | None = None,
) -> list[RunRecord]:
    """All valid records below one or several results folders.

    Args:
        faults: collects the errors of damaged files; without it the first one is raised.
        paths: collects where each record lies, by run id.
        conflicts: collects a sentence for each run of which two folders say different things; that of the
            first folder counts.
    """
    folders = [results] if isinstance(results, str | Path) else list(results)
    records: dict[str, RunRecord] = {}
    places: dict[str, Path] = {} if paths is None else paths
    for folder in folders:
        for path in record_files(Path(folder)):
            try:
                record = read_record(path)
            except DataError as error:
                if faults is None:
                    raise
                faults.append(error)
            else:
                known = records.setdefault(record.run_id, record)
                first = places.setdefault(record.run_id, path)
                if conflicts is not None and (difference := _difference(known, record)):
                    conflicts.append(f"{record.run_id}: {first} and {path} have {difference}.")
    return list(records.values())


def _difference(one: RunRecord, other: RunRecord) -> str:
    """What two records of one run disagree about that a rerun would repeat: not times, not the machine."""
    if one.status != other.status:
        return f"status {one.status} and {other.status}"
    if (one.accuracy is None) != (other.accuracy is None):
        return "a score and none"
    if one.accuracy and other.accuracy and one.accuracy.best != other.accuracy.best:
        return f"accuracy {one.accuracy.best.accuracy:.4f} and {other.accuracy.best.accuracy:.4f}"
    return ""


def records_frame(records: Sequence[RunRecord]) -> pd.DataFrame:
    """One row per record and one column per field, nested names joined with dots; without long lists."""
    import pandas as pd

    rows = [record.model_dump(mode="json", by_alias=True) for record in records]
    frame = pd.json_normalize(rows)
    heavy = [name for name in frame.columns if name.endswith((".curve", "samples_s", ".length_histogram"))]
    return frame.drop(columns=heavy)


def write_predictions(path: Path, best: np.ndarray, last: np.ndarray, labels: np.ndarray) -> None:
    """Packs predicted classes of the test examples, in index order, beside the record."""
    with atomic_path(path) as temporary, temporary.open("wb") as file:
        np.savez_compressed(
            file, best=best.astype(np.uint8), last=last.astype(np.uint8), labels=labels.astype(np.uint8)
        )


def read_correct(path: Path, record: RunRecord) -> NDArray[np.bool_] | None:
    """(test examples,), True where the best-validation weights were right; None without score or predictions.

    Args:
        path: of the record, beside which its predictions lie.
    """
    if record.accuracy is None:
        return None
    beside = path.with_name(record.accuracy.predictions_file)
    if not beside.exists():
        return None
    found = read_predictions(beside)
    correct: NDArray[np.bool_] = found["best"] == found["labels"]
    return correct


def read_predictions(path: Path) -> dict[str, np.ndarray]:
    """`best`, `last` and `labels`, uint8 of shape (test examples,)."""
    try:
        with np.load(path) as packed:
            return {name: packed[name] for name in ("best", "last", "labels")}
    except (OSError, ValueError, KeyError, zipfile.BadZipFile) as error:
        raise DataError(f"{path}: predictions cannot be read ({error}).") from None
