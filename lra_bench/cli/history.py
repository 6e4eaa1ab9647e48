"""`lra-bench history`: metrics over commits, and the commits between which they changed."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Annotated

import typer

from lra_bench.cli.arguments import split_names
from lra_bench.errors import UsageError

EXAMPLES = """\b
Examples:
  lra-bench history results nightly/results --metric time,bytes --plot history.svg
  lra-bench history --git .ci/baseline.json --models linformer --all"""


def history(
    sources: Annotated[
        list[Path] | None,
        typer.Argument(help="Folders of results, records, or files of `check --write-baseline`."),
    ] = None,
    past: Annotated[
        list[Path] | None,
        typer.Option("--git", help="A file or folder of them at every commit that changed it; repeatable."),
    ] = None,
    repository: Annotated[Path, typer.Option(help="Whose commits they are.")] = Path("."),
    models: Annotated[str, typer.Option(help="Names or globs.")] = "",
    tasks: Annotated[str, typer.Option(help="The same; of measuring sessions batch x length.")] = "",
    metric: Annotated[
        str,
        typer.Option(
            help="parameters, flops, bytes, accuracy, loss, time, outputs, digests, status; or globs."
        ),
    ] = "",
    min_change: Annotated[
        float | None,
        typer.Option(
            help="Least change of what is noisy: a share of times (default 0.05) and losses (0.03), "
            "a difference of accuracies (0.02)."
        ),
    ] = None,
    everything: Annotated[bool, typer.Option("--all", help="Also list series that did not change.")] = False,
    csv: Annotated[Path | None, typer.Option(help="Write every point.")] = None,
    gab: Annotated[
        Path | None, typer.Option(help="Folder for github-action-benchmark: the last commit's figures.")
    ] = None,
    junit: Annotated[Path | None, typer.Option(help="Write JUnit XML.")] = None,
    plot: Annotated[Path | None, typer.Option(help="Draw a figure, .svg or .png.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="JSON on stdout.")] = False,
) -> None:
    """Show metrics over commits, and between which commits they changed; never fails because of it."""
    from lra_bench.files import write_atomically
    from lra_bench.regression.history import history as history_of
    from lra_bench.report.github_benchmark import results_of_history, write_benchmarks
    from lra_bench.report.history import history_csv, history_json, history_junit, print_history
    from lra_bench.report.terminal import console

    if not sources and not past:
        raise UsageError("Name a folder of results, a record or evidence, or --git PATH.")
    if min_change is not None and not 0 < min_change < 1:
        raise UsageError(f"--min-change {min_change:g}: expected a share between 0 and 1, as in 0.05.")
    found = history_of(
        sources or [],
        past=past or [],
        repository=repository,
        models=split_names(models),
        tasks=split_names(tasks),
        metrics=split_names(metric),
        min_change=min_change,
    )
    written = []
    if csv is not None:
        write_atomically(csv, history_csv(found))
        written.append(csv)
    if gab is not None:
        written += write_benchmarks(gab, results_of_history(found))
    if junit is not None:
        write_atomically(junit, history_junit(found))
        written.append(junit)
    if plot is not None:
        from lra_bench.report.plots.history import history_figure
        from lra_bench.report.plots.style import save

        save(history_figure(found), plot)
        written.append(plot)
    if as_json:
        print(json.dumps(history_json(found), indent=1))
    else:
        print_history(console(), found, everything=everything)
    for path in written:
        print(f"Written to {path}", file=sys.stderr)
