"""The `lra-bench` command: verbs, and what an error looks like."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from lra_bench import __version__
from lra_bench.cli import bench, check, compare, data, env, leaderboard, plot, run, show, sweep, validate
from lra_bench.cli import list as list_verb
from lra_bench.errors import LraBenchError

app = typer.Typer(
    name="lra-bench",
    help="Is this efficient attention any good? Accuracy, step time and peak memory on the Long Range Arena.",
    epilog="Start with:  lra-bench run --model linformer --task pathfinder",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    # Plain help is shorter, and faster by the import of a formatter.
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _version(asked: bool) -> None:
    if asked:
        typer.echo(f"lra-bench {__version__}")
        raise typer.Exit


@app.callback()
def options(
    version: Annotated[
        bool, typer.Option("--version", help="Show the version.", callback=_version, is_eager=True)
    ] = False,
) -> None:
    """Options before the verb."""


app.command("run", epilog=run.EXAMPLES)(run.run)
app.command("sweep", epilog=sweep.EXAMPLES)(sweep.sweep)
app.command("bench", epilog=bench.EXAMPLES)(bench.bench)
app.command("check", epilog=check.EXAMPLES)(check.check)
app.command("compare", epilog=compare.EXAMPLES)(compare.compare)
app.command("list", epilog=list_verb.EXAMPLES)(list_verb.list_things)
app.command("show", epilog=show.EXAMPLES)(show.show)
app.command("validate", epilog=validate.EXAMPLES)(validate.validate)
app.command("leaderboard", epilog=leaderboard.EXAMPLES)(leaderboard.leaderboard)
app.command("plot", epilog=plot.EXAMPLES)(plot.plot)
app.add_typer(data.app, name="data")
app.command("env", epilog=env.EXAMPLES)(env.env)


def main() -> None:
    """Runs a verb; an expected error is one message on stderr and its exit code."""
    try:
        app()
    except LraBenchError as error:
        print(f"Error: {error}", file=sys.stderr)
        sys.exit(error.exit_code)
    except KeyboardInterrupt:
        sys.exit(130)
    except BrokenPipeError:
        # The reader (`| head`) has what it wanted.
        sys.stderr.close()
        sys.exit(0)


if __name__ == "__main__":
    main()
