"""`lra-bench data`: list, prepare, verify, export and clean prepared data."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from lra_bench.cli.run import split_names
from lra_bench.errors import DataError, UsageError

app = typer.Typer(
    help="List, prepare, verify, export or clean data.", no_args_is_help=True, rich_markup_mode=None
)

TaskName = Annotated[str, typer.Argument(help="Task name or comma list.")]
Protocol = Annotated[str, typer.Option(help="Whose variant and counts.")]
Settings = Annotated[list[str] | None, typer.Option("--set", help="task.OPTION=VALUE. Repeatable.")]
Everything = Annotated[bool, typer.Option("--all", help="Whole splits, whatever the protocol uses.")]


@app.command("list")
def list_data() -> None:
    """What is prepared, and where."""
    from lra_bench.data.cache import cache_root
    from lra_bench.report.numbers import binary_bytes
    from lra_bench.report.terminal import console, print_rows

    root = cache_root()
    rows = [
        {
            "task": split.parent.parent.name,
            "variant": split.parent.name,
            "split": split.name,
            "shards": len(list(split.glob("*.arrow"))),
            "size": binary_bytes(sum(path.stat().st_size for path in split.glob("*.arrow"))),
        }
        for split in sorted(root.glob("*/*/*"))
        if split.is_dir()
    ]
    if rows:
        print_rows(console(), rows)
    typer.echo(f"{'Prepared data' if rows else 'Nothing prepared yet'} in {root}")


@app.command("prepare", epilog="Example:  lra-bench data prepare pathfinder,listops --all --workers 2")
def prepare_data(
    task: TaskName,
    protocol: Protocol = "quick",
    settings: Settings = None,
    everything: Everything = False,
    workers: Annotated[int | None, typer.Option(help="Threads; default: all cores.")] = None,
) -> None:
    """Make or complete the splits that a protocol uses; prints each split's SHA-256."""
    _prepare(task, protocol, settings, everything, workers)


@app.command("verify", epilog="Example:  lra-bench data verify pathfinder")
def verify(
    task: TaskName, protocol: Protocol = "quick", settings: Settings = None, everything: Everything = False
) -> None:
    """Check prepared splits; damaged shards are reported and made anew."""
    _prepare(task, protocol, settings, everything, None)


def _prepare(
    task: str, protocol: str, assignments: list[str] | None, everything: bool, workers: int | None
) -> None:
    from tqdm import tqdm

    from lra_bench import protocol as protocols
    from lra_bench.cell import parse_assignments
    from lra_bench.data.loading import load_task
    from lra_bench.data.task import SPLITS

    changes = parse_assignments(assignments or [])
    loaded = protocols.load(protocol)
    for name in split_names(task):
        settings = loaded.settings(name)
        options = {**settings.data.options, **_task_options(changes)}
        opened = load_task(name, **options)
        counts = {
            "train": settings.data.train_examples,
            "validation": settings.evaluation.validation_examples,
            "test": settings.evaluation.test_examples,
        }
        for split in SPLITS:
            size = opened.task.split_sizes[split]
            wanted = None if everything else counts[split]
            count = size if wanted is None else min(wanted, size)
            with tqdm(
                total=count,
                desc=f"{name} {split}",
                file=sys.stderr,
                disable=not sys.stderr.isatty(),
                leave=False,
            ) as bar:

                def progress(done: int, _total: int, bar: tqdm[Any] = bar) -> None:
                    bar.update(done - bar.n)

                prepared = opened.prepared(split, count, workers=workers, progress=progress)
            typer.echo(
                f"{opened.spec.dataset} {opened.spec.variant} {split}: {prepared.num_examples:,} examples, "
                f"SHA-256 {prepared.fingerprint}"
            )


def _task_options(changes: dict[str, object]) -> dict[str, object]:
    wrong = [key for key in changes if not key.startswith("task.")]
    if wrong:
        raise UsageError(f"--set {wrong[0]}: only task.OPTION=VALUE has a meaning for data.")
    return {key.removeprefix("task."): value for key, value in changes.items()}


@app.command("export", epilog="Example:  lra-bench data export listops --out listops-1000")
def export(
    task: Annotated[str, typer.Argument(help="Task with an official file format.")],
    out: Annotated[Path, typer.Option(help="Folder to write to.")],
    protocol: Protocol = "lite",
    settings: Settings = None,
    count: Annotated[int | None, typer.Option(help="At most so many examples a split.")] = None,
) -> None:
    """Write a task's splits in the layout of the 2020 release."""
    from lra_bench import protocol as protocols
    from lra_bench.cell import parse_assignments
    from lra_bench.data.loading import load_task
    from lra_bench.data.task import SPLITS

    options = {
        **protocols.load(protocol).settings(task).data.options,
        **_task_options(parse_assignments(settings or [])),
    }
    opened = load_task(task, **options)
    for split in SPLITS:
        size = opened.task.split_sizes[split]
        dataset = opened.dataset(split, size if count is None else min(count, size))
        written = opened.task.export(split, dataset, out)
        typer.echo(f"Written to {written}")


@app.command("clean")
def clean(
    task: Annotated[str, typer.Argument(help="Task whose prepared data are removed, or 'all'.")],
    yes: Annotated[bool, typer.Option("--yes", help="Do it without asking.")] = False,
) -> None:
    """Remove prepared data; they are made again when needed."""
    from lra_bench import registry
    from lra_bench.data.cache import cache_root

    names = registry.tasks.names() if task == "all" else [registry.tasks.get(task).name]
    folders = [cache_root() / name for name in names if (cache_root() / name).is_dir()]
    if not folders:
        typer.echo("Nothing to remove.")
        return
    if not yes:
        typer.confirm(f"Remove {', '.join(map(str, folders))}?", abort=True)
    for folder in folders:
        try:
            shutil.rmtree(folder)
        except OSError as error:
            raise DataError(f"{folder} cannot be removed ({error.strerror}).") from None
        typer.echo(f"Removed {folder}")
