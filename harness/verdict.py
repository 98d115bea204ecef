"""Comparison + margin + policy -> PASS, REGRESSED or INCONCLUSIVE with its reason; many verdicts -> the decision.

PASS: the loss is shown to be smaller than the margin (the lower one-sided bound of the change is above -margin).
REGRESSED: shown to be larger (the upper one-sided bound is below -margin). INCONCLUSIVE: the data cannot tell.
Shipping needs every PASS, an intersection-union test: the chance of shipping a model that lost more than a margin
anywhere is at most alpha with no correction (Berger 1982, Technometrics 24:295-300).

Three kinds of comparison are judged: one candidate on all items; one candidate on the items seen until it was decided
(`judge_early`); several training runs of one recipe (`judge_recipe`).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from scipy.stats import norm
from scipy.stats import t as student

from harness import stats
from harness.compare import Comparison
from harness.report.numbers import interval, points, signed
from harness.specs import Policy

PASS, REGRESSED, INCONCLUSIVE = "PASS", "REGRESSED", "INCONCLUSIVE"
SHIP, BLOCKED = "SHIP", "BLOCKED"
POWER = 0.8  # at which "what would decide it" and "detectable" are stated


@dataclass(frozen=True)
class Verdict:
    """What one benchmark says of one candidate. Scores and changes are proportions, low and high one-sided bounds.

    items: judged; planned: of the benchmark; detectable: the smallest margin that so many items pass at no change with
    80% power; pvalue: of the evidence that more than the margin was lost.
    """

    name: str
    metric: str
    items: int
    planned: int
    seeds: tuple[int, ...]
    base: float
    candidate: float
    change: float
    low: float
    high: float
    lost: int
    gained: int
    flips: int
    margin: float
    floor: float
    detectable: float
    pvalue: float
    verdict: str
    reason: str


def judge(comparison: Comparison, margin: float, floor: float, policy: Policy) -> Verdict:
    """Verdict of one benchmark on all of its items. margin, floor: proportions in [0, 1]."""
    change = comparison.change
    bound = stats.crossed(change, policy.alpha)
    if comparison.binary and change.shape[1] == 1:
        lost, gained = int((change < 0).sum()), int((change > 0).sum())
        pvalue = stats.exact_pvalue(lost, gained, len(change), margin, "REGRESSED") if margin < 1 else 1.0
    else:
        pvalue = stats.crossed_pvalue(change, margin) if margin < 1 else 1.0
    verdict = _verdict(comparison, bound, margin, floor, pvalue)
    if verdict.verdict == INCONCLUSIVE and not _on_the_floor(verdict):
        words = _what_would_decide(change, abs(bound.estimate + margin), policy)
        verdict = replace(verdict, reason=f"{verdict.reason}; {words}")
    return replace(verdict, detectable=_detectable(bound, len(change), policy))


def judge_early(comparison: Comparison, planned: int, margin: float, floor: float, policy: Policy) -> Verdict:
    """Verdict on the items seen so far, in the order in which they were drawn; valid whenever one stops.

    planned: items of the whole benchmark. About the mean of these items, or that of the population, as the policy says;
    in both cases under these seeds. The base itself must be shown to be above the floor by more than the margin.
    """
    change = comparison.change.mean(axis=1)
    population = planned if policy.estimand == "benchmark" else None
    bound = stats.betting_bounds(change, policy.alpha, population)
    verdict = _verdict(comparison, bound, margin, floor, 1.0)
    verdict = replace(verdict, planned=planned, detectable=min(1.0, bound.estimate - bound.low))
    if _on_the_floor(verdict):
        return verdict
    side, pvalue = None, 1.0
    room = np.maximum(comparison.base.mean(axis=1) - floor - margin, -1.0)
    if stats.betting_bounds(room, policy.alpha, population).low > 0:
        _, side = stats.stopping_time(change, margin, policy.alpha, population)
        evidence = stats.betting_evalues(change, margin, "REGRESSED", population).max()
        pvalue = float(1 / max(1.0, evidence))
    reason = _early_reason(side, bound, margin, len(change), planned, population is not None)
    if side is None and len(change) == planned:
        reason = f"{reason}; {_what_would_decide(change[:, None], abs(bound.estimate + margin), policy)}"
    return replace(verdict, pvalue=pvalue, verdict=side or INCONCLUSIVE, reason=reason)


def _early_reason(side: str | None, bound, margin: float, seen: int, planned: int, finite: bool) -> str:
    words = {PASS: "the loss is below", REGRESSED: "the loss is above", None: "it is not shown yet on which side of"}[
        side
    ]
    about = f"all {planned} items" if finite else "the population of such items"
    return f"{words} {points(margin)} points: change {interval(bound)}, for {about}, after {seen} of them"


def judge_recipe(comparisons: Sequence[Comparison], margin: float, floor: float, policy: Policy) -> Verdict:
    """Verdict of a recipe from several training runs on the same items.

    Three or more runs are a random factor, and the verdict is about the recipe's next run; two are averaged, and the
    verdict is about these two.
    """
    change = np.stack([c.change for c in comparisons])  # [runs, items, seeds]
    mean = replace(comparisons[0], candidate=np.mean([c.candidate for c in comparisons], axis=0))
    if len(comparisons) < 3:
        verdict = judge(mean, margin, floor, policy)
        return replace(
            verdict, reason=f"{verdict.reason}; about these {len(comparisons)} runs, as a recipe needs three"
        )
    bound = stats.crossed_recipe(change, policy.alpha)
    pvalue = stats.smallest_level(lambda alpha: stats.crossed_recipe(change, alpha).high < -margin)
    verdict = _verdict(mean, bound, margin, floor, pvalue)
    if not _on_the_floor(verdict):
        about = f"about the recipe, from {len(comparisons)} training runs"
        if verdict.verdict == INCONCLUSIVE:
            needed = _what_would_decide(mean.change, abs(bound.estimate + margin), policy)
            about = f"{about}; {needed}, or more training runs"
        verdict = replace(verdict, reason=f"{verdict.reason}; {about}")
    return replace(verdict, detectable=_detectable(bound, change.shape[1], policy))


def _verdict(comparison: Comparison, bound, margin: float, floor: float, pvalue: float) -> Verdict:
    """The rule itself: the floor first, then both bounds against the margin."""
    base = float(comparison.base.mean())
    if base - floor <= margin:
        kind, reason = INCONCLUSIVE, (
            f"the base ({points(base)}) is within the margin of the floor ({points(floor)}), so no loss of"
            f" {points(margin)} could show; decide by a metric that still moves"
        )  # fmt: skip
    elif bound.low > -margin:
        kind, reason = PASS, f"the loss is below {points(margin)} points: change {interval(bound)}"
    elif bound.high < -margin:
        kind, reason = REGRESSED, f"the loss is above {points(margin)} points: change {interval(bound)}"
    else:
        kind, reason = INCONCLUSIVE, f"change {interval(bound)} lies on both sides of {signed(-margin)}"
    return Verdict(
        name=comparison.name,
        metric=comparison.metric,
        items=len(comparison.items),
        planned=len(comparison.items),
        seeds=comparison.seeds,
        base=base,
        candidate=float(comparison.candidate.mean()),
        change=bound.estimate,
        low=bound.low,
        high=bound.high,
        lost=comparison.lost,
        gained=comparison.gained,
        flips=comparison.flips,
        margin=margin,
        floor=floor,
        detectable=1.0,
        pvalue=pvalue,
        verdict=kind,
        reason=reason,
    )


def _on_the_floor(verdict: Verdict) -> bool:
    return verdict.base - verdict.floor <= verdict.margin


def _detectable(bound, items: int, policy: Policy) -> float:
    """The smallest margin that this many items pass at no change with 80% power, at the spread seen."""
    reach = (float(student.isf(policy.alpha, bound.df)) + float(norm.ppf(POWER))) * bound.se
    return min(1.0, max(reach, stats.zero_flip_bound(items, policy.alpha)))


def _what_would_decide(change: np.ndarray, distance: float, policy: Policy) -> str:
    """In words: how many items, or else seeds, would probably tell, at the change and the spread seen."""
    items, seeds = change.shape
    if distance == 0:
        return "the change seen is the margin itself, so no number of items would tell"
    if items < 2:
        return "one item tells nothing"
    parts = stats.components(change)
    allowed = (distance / (float(norm.isf(policy.alpha)) + float(norm.ppf(POWER)))) ** 2  # variance of the mean
    left = allowed - parts.seed / seeds  # what the items may contribute
    if left > 0:
        needed = max(items + 1, math.ceil((parts.item + parts.error / seeds) / left))
        if needed <= 100 * items:
            return f"about {needed} items instead of {items} would probably decide it"
    left = allowed - parts.item / items
    if left > 0 and seeds > 1:
        needed = max(seeds + 1, math.ceil((parts.seed + parts.error / items) / left))
        if needed <= 100 * seeds:
            return f"about {needed} seeds instead of {seeds} would probably decide it"
    or_seeds = f", or {100 * seeds} seeds," if seeds > 1 else ""
    return f"at the change and the spread seen, more than {100 * items} items{or_seeds} would be needed"


def decide(verdicts: Sequence[Verdict]) -> tuple[str, int]:
    """(SHIP or BLOCKED, exit status 0, 1 or 10) of all verdicts of a basket; no verdicts decide nothing."""
    if not verdicts:
        raise ValueError("no benchmark was judged, so there is nothing to decide; put at least one into the basket")
    kinds = {v.verdict for v in verdicts}
    if kinds == {PASS}:
        return SHIP, 0
    return BLOCKED, 1 if REGRESSED in kinds else 10


def largest_regression(verdicts: Sequence[Verdict]) -> Verdict | None:
    """The regressed benchmark that lost most, or None if none regressed."""
    regressed = [v for v in verdicts if v.verdict == REGRESSED]
    return min(regressed, key=lambda v: v.change) if regressed else None


def adjusted(verdicts: Sequence[Verdict], policy: Policy) -> list[float]:
    """The p-value of each verdict's regression, adjusted over all of them as the policy says."""
    pvalues = [v.pvalue for v in verdicts]
    return [float(p) for p in stats.holm(pvalues)] if policy.multiplicity == "holm" else pvalues
