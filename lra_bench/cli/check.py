"""`lra-bench check`: did a change make a model slower, hungrier or worse?"""

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
  lra-bench check --baseline main --models my_package.module:MyMixer
  lra-bench check --models linformer --write-baseline baseline.json
  lra-bench check --models linformer --baseline baseline.json --markdown comment.md"""

REGRESSION, INCONCLUSIVE = 3, 4


def check(
    baseline: Annotated[
        str, typer.Option(help="A revision of this repository, or a file written by --write-baseline.")
    ] = "",
    write_baseline: Annotated[
        Path | None, typer.Option(help="Instead of checking: write what is known of this state to a file.")
    ] = None,
    models: Annotated[
        str, typer.Option(help="Names, globs or package.module:Class; by default those of the rules.")
    ] = "",
    rules: Annotated[Path | None, typer.Option(help="YAML file: what is compared, what may change.")] = None,
    accept: Annotated[
        str, typer.Option(help="Changes that are meant: metrics, or exact, outputs, learning or time.")
    ] = "",
    repository: Annotated[Path, typer.Option(help="Whose revisions --baseline names.")] = Path("."),
    timing: Annotated[bool, typer.Option(help="Compare, or store, step times.")] = True,
    budget: Annotated[float | None, typer.Option(help="Seconds of timing for each model.")] = None,
    strict: Annotated[bool, typer.Option("--strict", help="Exit 4 if a step time is inconclusive.")] = False,
    everything: Annotated[bool, typer.Option("--all", help="Also show what did not change.")] = False,
    markdown: Annotated[Path | None, typer.Option(help="Write a comment or job summary.")] = None,
    junit: Annotated[Path | None, typer.Option(help="Write JUnit XML.")] = None,
    csv: Annotated[Path | None, typer.Option(help="Write all findings.")] = None,
    gab: Annotated[
        Path | None, typer.Option(help="Folder for github-action-benchmark: this state's figures.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="JSON on stdout.")] = False,
) -> None:
    """Compare with a baseline what is exact (parameters, FLOPs, bytes, data, outputs), learning and time.

    Exit code 3 for a regression, 1 if there was nothing to compare; unclear step times are no regression.
    """
    from lra_bench.files import write_atomically
    from lra_bench.regression.check import current_evidence, models_of, run_check
    from lra_bench.regression.evidence import write_evidence
    from lra_bench.regression.rules import load_rules
    from lra_bench.report.github_benchmark import results_of_check, write_benchmarks
    from lra_bench.report.regression import check_csv, check_json, check_junit, check_markdown, print_check
    from lra_bench.report.terminal import console

    if bool(baseline) == bool(write_baseline):
        raise UsageError("Give either --baseline REF|FILE, to check, or --write-baseline FILE.")
    loaded = load_rules(rules)
    if budget is not None:
        if budget <= 0:
            raise UsageError(f"--budget {budget:g}: expected seconds above 0.")
        loaded = loaded.model_copy(update={"time": loaded.time.model_copy(update={"budget_s": budget})})
    names = models_of(loaded, split_names(models))

    def say(text: str) -> None:
        print(text, file=sys.stderr, flush=True)

    if write_baseline is not None:
        seeds = loaded.learning.baseline_seeds
        evidence = current_evidence(loaded, names, repository=repository, seeds=seeds, timing=timing, say=say)
        write_evidence(write_baseline, evidence)
        failed = [f"{one.model} on {one.task}: {one.failure}" for one in evidence.cells if one.failure]
        failed += [f"{one.model} learns: {one.failure}" for one in evidence.learning if one.failure]
        failed += [f"{one.model}, step time: {one.failure}" for one in evidence.times if one.failure]
        for text in failed:
            say(text)
        print(f"Baseline of {len(names)} models: {write_baseline}")
        if failed:
            raise typer.Exit(1)
        return
    found = run_check(
        baseline,
        loaded,
        names,
        repository=repository,
        accept=split_names(accept),
        timing=timing,
        say=say,
    )
    if markdown is not None:
        write_atomically(markdown, check_markdown(found))
    if junit is not None:
        write_atomically(junit, check_junit(found))
    if csv is not None:
        write_atomically(csv, check_csv(found))
    if gab is not None:
        write_benchmarks(gab, results_of_check(found))
    if as_json:
        print(json.dumps(check_json(found), indent=1))
    else:
        print_check(console(), found, everything=everything)
    if found.regressions:
        raise typer.Exit(REGRESSION)
    if found.uncompared:
        raise typer.Exit(1)
    if strict and found.inconclusive:
        raise typer.Exit(INCONCLUSIVE)
