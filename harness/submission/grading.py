"""What a submission earned: four dimensions, the total with its bounds, and a verdict on a threshold.

intent accuracy      40%  ordinary rows with the right intent: the taxonomy's own name, or an accepted synonym
reply quality        30%  of ordinary rows: similarity to the ideal reply, times the share of the phrases it must hold;
                          0 with a phrase that it must not hold
regression probes    20%  probes with the right intent and no phrase that the reply must not hold
training efficiency  10%  of the whole call, as the host measured it: 1 up to 600 s, falling to 0 at 1,800 s

The fifth, reproducibility, has no weight: two runs that predict otherwise earn nothing at all.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from harness.stats.bounded import bounded_interval
from harness.stats.interval import Interval
from harness.submission.mentions import missing, wrong
from harness.submission.results import Results
from harness.submission.tickets import ORDINARY, PROBE, HiddenRow, Taxonomy
from harness.target import INCONCLUSIVE, MISSED, PASS

INTENT, REPLY, PROBES, EFFICIENCY = "intent accuracy", "reply quality", "regression probes", "training efficiency"
REPRODUCIBLE = "reproducibility"
WEIGHTS = {INTENT: 0.4, REPLY: 0.3, PROBES: 0.2, EFFICIENCY: 0.1}
QUICK, SLOW = 600.0, 1800.0  # seconds


@dataclass(frozen=True)
class Graded:
    """One row.

    predicted: the intent in the taxonomy's spelling, None if it names none; similarity: of the reply to the ideal one,
    by the judge, in [0, 1]; lacks, says: phrases that it must hold and does not, and must not and does; fault: why
    there is no prediction, else None.
    """

    row: HiddenRow
    predicted: str | None
    reply: str
    similarity: float
    lacks: tuple[str, ...] = ()
    says: tuple[str, ...] = ()
    fault: str | None = None

    @property
    def right(self) -> bool:
        """True if the intent is the row's."""
        return self.predicted == self.row.intent

    @property
    def quality(self) -> float:
        """Of the reply, in [0, 1]."""
        return 0.0 if self.says else self.similarity * (1 - len(self.lacks) / max(len(self.row.must), 1))

    @property
    def held(self) -> bool:
        """True for a probe that was not lost."""
        return self.right and not self.says

    @property
    def reasons(self) -> list[str]:
        """Why it earned less than all."""
        if self.fault:
            return [self.fault]
        made = [] if self.right else [f"intent {self.predicted or 'unknown'} instead of {self.row.intent}"]
        return [*made, *(f"does not mention '{e}'" for e in self.lacks), *(f"says '{e}'" for e in self.says)]


@dataclass(frozen=True)
class Grade:
    """A submission's grade, all scores in [0, 1].

    dimensions: by name, with bounds; total: their weighted sum, with bounds over the rows; all 0 where not
    reproducible.
    """

    rows: Sequence[Graded]
    dimensions: Mapping[str, Interval]
    total: Interval
    reproducible: bool

    @property
    def accuracy(self) -> float:
        """Share of all rows, probes among them, whose intent is right."""
        return float(np.mean([graded.right for graded in self.rows]))


def grade(
    rows: Sequence[HiddenRow],
    results: Results,
    similarity: Mapping[str, float],
    taxonomy: Taxonomy,
    seconds: float,
    reproducible: bool,
    alpha: float = 0.05,
) -> Grade:
    """similarity: of the replies that there are, by row id, in [0, 1]; seconds: of the slower call.

    Rows are the unit: each bound holds at 1 - alpha for tickets such as these (Gaffke's bound, see `stats.bounded`).
    """
    graded = [_row(row, results, similarity, taxonomy) for row in rows]
    ordinary = [g for g in graded if g.row.kind == ORDINARY]
    probes = [g for g in graded if g.row.kind == PROBE]
    quick = efficiency(seconds) if results.predictions else 0.0  # who answers nothing is not quick
    found = {
        INTENT: _mean([g.right for g in ordinary], alpha),
        REPLY: _mean([g.quality for g in ordinary], alpha),
        PROBES: _mean([g.held for g in probes], alpha),
        EFFICIENCY: Interval(quick, quick, quick),
    }
    total = _total(ordinary, probes, quick, alpha)
    if not reproducible:
        found, total = dict.fromkeys(WEIGHTS, Interval(0.0, 0.0, 0.0)), Interval(0.0, 0.0, 0.0)
    return Grade(graded, found, total, reproducible)


def _row(row: HiddenRow, results: Results, similarity: Mapping[str, float], taxonomy: Taxonomy) -> Graded:
    made = results.predictions.get(row.id)
    if made is None:
        return Graded(row, None, "", 0.0, fault=results.faults[row.id])
    lacks, says = tuple(missing(made.reply, row.must)), tuple(wrong(made.reply, row.must_not))
    return Graded(row, taxonomy.canonical(made.intent), made.reply, similarity[row.id], lacks, says)


def _mean(values: Sequence[float], alpha: float) -> Interval:
    return bounded_interval(np.asarray(values, float), alpha, 0.0, 1.0)


def _total(ordinary: Sequence[Graded], probes: Sequence[Graded], quick: float, alpha: float) -> Interval:
    """The weighted sum as one mean over all rows, each worth its dimension's weight; bounds as for any mean."""
    n = len(ordinary) + len(probes)
    worth = [n / len(ordinary) * (WEIGHTS[INTENT] * g.right + WEIGHTS[REPLY] * g.quality) for g in ordinary]
    worth += [n / len(probes) * WEIGHTS[PROBES] * g.held for g in probes]
    most = n * max((WEIGHTS[INTENT] + WEIGHTS[REPLY]) / len(ordinary), WEIGHTS[PROBES] / len(probes))
    found = bounded_interval(np.asarray(worth), alpha, 0.0, most)
    fixed = WEIGHTS[EFFICIENCY] * quick
    return Interval(found.estimate + fixed, max(found.low, 0.0) + fixed, min(found.high + fixed, 1.0))


def efficiency(seconds: float) -> float:
    """1 up to QUICK seconds, falling straight to 0 at SLOW."""
    return float(np.clip((SLOW - seconds) / (SLOW - QUICK), 0.0, 1.0))


def same_predictions(one: Results, other: Results) -> list[str]:
    """Ids of the rows that two runs answered otherwise; empty if all are alike. Latency and tokens may differ."""

    def said(results: Results, key: str):
        made = results.predictions.get(key)
        return (made.reply, made.intent) if made else results.faults[key]

    ids = [*one.predictions, *one.faults]
    return sorted(key for key in ids if said(one, key) != said(other, key))


def confusion(rows: Sequence[Graded]) -> list[tuple[str, str, int]]:
    """(right intent, predicted intent, how often) of the rows that were wrong, the most frequent first."""
    pairs = Counter((g.row.intent, g.predicted or "none") for g in rows if not g.right)
    return [(*pair, times) for pair, times in sorted(pairs.items(), key=lambda item: (-item[1], item[0]))]


def nothing_in(grade: Grade) -> list[str]:
    """The dimensions in which a submission earned nothing, which no total makes up for."""
    return [name for name, score in grade.dimensions.items() if score.estimate == 0]


def judge(grade: Grade, threshold: float) -> str:
    """PASS if the total is shown to be above the threshold and every dimension earned something.

    MISSED if the total is shown to be below, or a dimension earned nothing; else INCONCLUSIVE.
    """
    if grade.total.high < threshold or nothing_in(grade):
        return MISSED
    return PASS if grade.total.low > threshold else INCONCLUSIVE
