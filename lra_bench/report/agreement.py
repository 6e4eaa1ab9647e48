"""Whether a board's models stand in the order in which others found them: Kendall's tau with each table.

Scores of different protocols do not compare, but orders may: a model that is better for a reason should be
better elsewhere, too.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence, Set

from scipy.stats import kendalltau

from lra_bench.bench.analysis import bytes_ratio, time_ratio
from lra_bench.bench.records import EXPLICIT, REFERENCE, Session
from lra_bench.report.further import Scored
from lra_bench.report.published import all_published_scores, published_costs
from lra_bench.report.scoring import NOT_RUN
from lra_bench.report.speed import speed_length
from lra_bench.report.table import Table

FEWEST_MODELS = 4
"""In common, for an order to be worth a number."""
NOTE = (
    "Kendall's tau-b between our order of models and that of a published table, over the models that both "
    "have, with their defaults: 1 the same order, 0 no relation, -1 the reverse; p is that of no relation. "
    "With few models only a tau near 1 says anything. Models at chance here have no order of their own: "
    "where all but one are, there is no tau. The noise of seeds and examples, on both sides, is not counted. "
    "For time and memory our Transformer is the one with the explicit n x n matrix, as theirs is."
)


def agreement_table(rows: Sequence[Scored], speed: Session | None, compiled: bool) -> Table:
    """One line for each published table and each task, step time and memory in which enough models meet."""
    lines = [*_accuracy_lines(rows), *(_cost_lines(speed, compiled) if speed is not None else ())]
    return Table("Order beside published order", NOTE, lines)


def _accuracy_lines(rows: Sequence[Scored]) -> Iterator[dict[str, str]]:
    theirs: dict[tuple[str, str], dict[str, float]] = {}
    for published in all_published_scores():
        if published.accuracy_percent is not None:
            table = theirs.setdefault((published.task, published.source), {})
            table.setdefault(published.model, published.accuracy_percent)
    models = [row for row in rows if not row.control]
    for place, first in enumerate(models[0].scores if models else ()):
        scored = {row.label: row.scores[place] for row in models if row.scores[place].summary is not None}
        ours = {label: score.summary.mean for label, score in scored.items() if score.summary is not None}
        for (task, source), values in theirs.items():
            if task in {score.task for score in scored.values()}:
                at_chance = {name for name in ours.keys() & values.keys() if scored[name].verdict == "chance"}
                yield from _line(first.column, source, ours, values, at_chance)


def _cost_lines(speed: Session, compiled: bool) -> Iterator[dict[str, str]]:
    length = speed_length(speed, compiled)
    time: dict[str, float] = {}
    memory: dict[str, float] = {}
    for label in speed.labels:
        cell = speed.find(label, length, compiled)
        if cell is not None and cell.status == "ok":
            ratio, quotient = time_ratio(cell), bytes_ratio(speed, cell)
            time.update({label: ratio.value} if ratio is not None else {})
            memory.update({label: quotient} if quotient is not None else {})
    for ours in (time, memory):
        if EXPLICIT in ours:
            ours[REFERENCE] = ours[EXPLICIT]
    for what, metric, ours in (("step time", "steps_per_s", time), ("peak memory", "memory", memory)):
        tables: dict[str, dict[str, float]] = {}
        for cost in published_costs():
            if cost.metric == metric and cost.length == length:
                value = 1 / cost.value if metric == "steps_per_s" else cost.value
                tables.setdefault(cost.source, {})[cost.model] = value
        for source, values in tables.items():
            yield from _line(f"{what}, {length:,} tokens", source, ours, values)


def _line(
    what: str,
    source: str,
    ours: Mapping[str, float],
    theirs: Mapping[str, float],
    at_chance: Set[str] | None = None,
) -> Iterator[dict[str, str]]:
    common = sorted(ours.keys() & theirs.keys())
    if len(common) < FEWEST_MODELS:
        return
    tau = p = math.nan
    if at_chance is None or len(common) - len(at_chance) > 1:
        found = kendalltau([ours[name] for name in common], [theirs[name] for name in common])
        tau, p = float(found.statistic), float(found.pvalue)
    yield {
        "of": what,
        "published by": source,
        "models": str(len(common)),
        "at chance here": "" if at_chance is None else str(len(at_chance)),
        "tau": NOT_RUN if math.isnan(tau) else f"{tau:+.2f}",
        "p": NOT_RUN if math.isnan(p) else f"{p:.2f}" if p >= 0.005 else "< 0.005",
    }
