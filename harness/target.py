"""A share against its target, as in "held-out accuracy above 68%": PASS, MISSED or INCONCLUSIVE, with the reason.

PASS: the lower one-sided bound clears the target. MISSED: the upper one is below it. Between, the data cannot tell, and
the reason says how many pairs would. The plain comparison of the estimate with the target decides nothing.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from harness.report.numbers import as_set, confidence, count, points
from harness.stats import Interval, by_source, clopper_pearson, needed_for_share, share_interval

PASS, MISSED, INCONCLUSIVE = "PASS", "MISSED", "INCONCLUSIVE"
WIDER = 1.5  # times the interval of one run, beyond which it is the runs that leave the question open
MOST = 100  # times as many items as there are, beyond which a number is no advice


def verdict_on(low: float, high: float, target: float) -> str:
    """PASS, MISSED or INCONCLUSIVE from the two one-sided bounds."""
    return PASS if low > target else MISSED if high < target else INCONCLUSIVE


@dataclass(frozen=True)
class Judged:
    """A share with its one-sided bounds, all in [0, 1]. runs: trainings of the recipe that answered the same items."""

    name: str
    items: int
    runs: int
    share: float
    low: float
    high: float
    target: float
    verdict: str
    reason: str


def judge(
    name: str,
    right: ArrayLike,
    target: float,
    alpha: float = 0.05,
    of: str = "pairs",
    sources: Sequence[Hashable] | None = None,
) -> Judged:
    """right: [items, runs], 1, 0, or 0.5 for a tie; target in (0, 1); of: what the items are called.

    sources: of each item, as its prompt; the items of one count together once (`by_source`).
    """
    right = np.asarray(right, float)
    items, runs = right.shape
    if sources is not None:
        right = by_source(right, sources)
    found = share_interval(right, alpha)
    verdict = verdict_on(found.low, found.high, target)
    seen = f"{points(found.estimate)}% of {count(items)} {of}"
    if len(right) < items:
        seen, of = f"{seen} of {count(len(right))} prompts, each prompt counted once", "prompts"
    seen += f" over {runs} training runs" if runs > 1 else ""
    reason = _reason(verdict, found, target, right.shape, alpha, seen, of)
    return Judged(name, items, runs, found.estimate, found.low, found.high, target, verdict, reason)


def _reason(
    verdict: str, found: Interval, target: float, shape: tuple[int, int], alpha: float, seen: str, of: str
) -> str:
    """shape: independent units, runs; of: what the units are called."""
    aim = f"the target of {as_set(round(100 * target, 6))}%"
    if verdict == PASS:
        return f"{seen}, at {confidence(alpha)} more than {points(found.low)}%: above {aim}."
    if verdict == MISSED:
        return f"{seen}, at {confidence(alpha)} less than {points(found.high)}%: below {aim}."
    bounds = f"{seen}; the bounds {points(found.low)}% and {points(found.high)}% enclose {aim}"
    return f"{bounds}, and {_remedy(found, target, *shape, alpha, of)}."


def _remedy(found: Interval, target: float, units: int, runs: int, alpha: float, of: str) -> str:
    share = min(max(found.estimate, 1e-6), 1 - 1e-6)
    alone = clopper_pearson(round(share * units), units, alpha)
    if runs > 1 and found.high - found.low > WIDER * (alone.high - alone.low):
        if runs == 2:
            return "two training runs tell little about a further one; train a third"
        return "the training runs differ too much to tell; train more of them"
    needed = needed_for_share(share, target, alpha)
    if needed is None or needed > MOST * units:
        return f"so near it no number of {of} would tell"
    return f"about {count(max(needed, units + 1))} {of} instead of {count(units)} would probably decide it"
