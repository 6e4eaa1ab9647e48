"""Writes docs/EFFICIENCY.md from measuring sessions; its figures are those of `lra-bench leaderboard`.

    python tests/efficiency_table.py SHORT AGAIN LONG COMPILED [--results results]

SHORT and AGAIN are two sessions of one plan, whose spread is the repeatability; LONG reaches greater
lengths; COMPILED has a few models eager and compiled. Each is named by the beginning of its id.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from lra_bench.bench.records import Session, find_session
from lra_bench.files import write_atomically
from lra_bench.report.bench import session_markdown
from lra_bench.report.repeatability import repeatability_markdown

TARGET = Path(__file__).parents[1] / "docs" / "EFFICIENCY.md"
INTRODUCTION = """\
# How fast, how big, and from which length on does it pay?

Written by `tests/efficiency_table.py` from the measuring sessions in `results/bench/`; not by hand.
[MEASURING.md](MEASURING.md) says how they are taken and what can be compared. Below 1 is faster, or smaller,
than fused softmax attention (`transformer`) in the same network on the same batch. No model was tuned for
this machine, and speed says nothing about accuracy.

A session is made again with its command:

"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("sessions", nargs=4, metavar="SESSION")
    parser.add_argument("--results", type=Path, default=Path("results"))
    given = parser.parse_args()
    short, again, long, compiled = (find_session(given.results, name) for name in given.sessions)
    write_atomically(TARGET, document(short, again, long, compiled))


def document(short: Session, again: Session, long: Session, compiled: Session) -> str:
    """The whole page."""
    commands = "\n".join(
        f"- `{one.record.provenance['command'].removesuffix(' --new')}` (commit "
        f"{one.record.provenance['commit'][:8]})"
        for one in (short, long, compiled)
    )
    figures = f"../results/plots/{long.record.session}"
    parts = [
        INTRODUCTION + commands + "\n",
        session_markdown(short),
        "## The same command twice\n\n"
        f"Session {short.record.session} and {again.record.session}, in fresh processes.\n\n"
        + repeatability_markdown(short, again),
        session_markdown(long),
        *(
            f"![{what} by length, a panel for each family]({figures}_{name}.svg)\n"
            for name, what in (("time", "Step time"), ("memory", "Peak memory"))
        ),
        session_markdown(compiled),
    ]
    return "\n".join(parts)


if __name__ == "__main__":
    main()
