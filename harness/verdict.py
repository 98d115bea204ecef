"""Comparison + margin + policy -> PASS, REGRESSED or INCONCLUSIVE with its reason; many verdicts -> the decision.

PASS: the loss is shown to be smaller than the margin (the lower one-sided bound of the change is above -margin).
REGRESSED: shown to be larger (the upper one-sided bound is below -margin). INCONCLUSIVE: the data cannot tell.
Shipping needs every PASS, an intersection-union test: the chance of shipping a model that lost more than a margin
anywhere is at most alpha with no correction (Berger 1982, Technometrics 24:295-300).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

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
    """What one benchmark says of one candidate. Scores and changes are proportions, low and high one-sided bounds."""

    name: str
    metric: str
    items: int
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
    verdict: str
    reason: str


def judge(comparison: Comparison, margin: float, floor: float, policy: Policy) -> Verdict:
    """Verdict of one benchmark. margin, floor: proportions in [0, 1]."""
    bound = stats.crossed(comparison.change, policy.alpha)
    base = float(comparison.base.mean())
    if base - floor <= margin:
        verdict = INCONCLUSIVE
        reason = (
            f"the base ({points(base)}) is within the margin of the floor ({points(floor)}), so no loss of"
            f" {points(margin)} could show; decide by a metric that still moves"
        )
    elif bound.low > -margin:
        verdict = PASS
        reason = f"the loss is below {points(margin)} points: change {interval(bound)}"
    elif bound.high < -margin:
        verdict = REGRESSED
        reason = f"the loss is above {points(margin)} points: change {interval(bound)}"
    else:
        verdict = INCONCLUSIVE
        reason = (
            f"change {interval(bound)} lies on both sides of -{points(margin)};"
            f" {_what_would_decide(comparison, bound, margin, policy)}"
        )
    return Verdict(
        name=comparison.name,
        metric=comparison.metric,
        items=len(comparison.items),
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
        detectable=_detectable(bound, len(comparison.items), policy),
        verdict=verdict,
        reason=reason,
    )


def _detectable(bound, items: int, policy: Policy) -> float:
    """The smallest margin that this many items pass at no change with 80% power, at the spread seen."""
    reach = (float(student.isf(policy.alpha, bound.df)) + float(norm.ppf(POWER))) * bound.se
    return min(1.0, max(reach, stats.zero_flip_bound(items, policy.alpha)))


def _what_would_decide(comparison: Comparison, bound, margin: float, policy: Policy) -> str:
    """In words: how many items would probably tell, at the change and the spread seen."""
    distance = abs(bound.estimate + margin)
    items = len(comparison.items)
    if distance == 0:
        return "the change seen is the margin itself, so no number of items would tell"
    reach = (float(norm.isf(policy.alpha)) + float(norm.ppf(POWER))) * bound.se * math.sqrt(items)
    needed = max(items + 1, math.ceil((reach / distance) ** 2))
    if needed > 100 * items:
        return (
            f"the change seen ({signed(bound.estimate)}) is so close to it that more than {100 * items} items would be"
            " needed"
        )
    return f"about {needed} items instead of {items} would probably decide it"


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
