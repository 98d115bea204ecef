"""Stopping early with an honest error rate: betting e-processes on the change, one for each verdict.

Start with 1, and before each item bet against the null that the loss is (for PASS) at least the margin, or (for
REGRESSED) at most the margin. Under the null the wealth E is expected never to grow, so it ever reaches 1 / alpha with
probability at most alpha (Ville), at whatever item one looks and stops. Items must come in random order.

    E = average over lambda of prod(1 +- lambda (d_i - m_i))

m_i is -margin when items are a sample of a population without end. When they are drawn without replacement from a
benchmark of N items, m_i is the mean that the remaining items would have under the null, and the verdict is about that
benchmark: it is certain at the latest when all N are seen.
Sources: Waudby-Smith and Ramdas 2024, JRSS B 86:1-27, sections 4 and 5; Ville 1939.
"""

import numpy as np
from numpy.typing import ArrayLike, NDArray

from harness.stats.interval import Interval, Side, changes, check_alpha, check_margin, check_side

LAMBDAS = np.linspace(0.05, 0.5, 10)  # above 0.5 an item of -1 against a null mean of 1 would take more than all


def betting_evalues(d: ArrayLike, margin: float, side: Side, population: int | None = None) -> NDArray[np.float64]:
    """Evidence for `side` after each item, shape [n], in [0, inf]; 1 / alpha or more decides at any time.

    d: [n] changes in [-1, 1], in the random order in which they were seen. population: the number N of items of the
    benchmark, if they are drawn from it without replacement; None for a sample of a population. Infinite once the items
    still to come cannot undo the verdict. Raises ValueError on NaN, n > N, an unknown side.
    """
    d = _seen(d, population)
    check_margin(margin)
    check_side(side)
    sign = 1.0 if side == "PASS" else -1.0
    return _evidence_above(sign * d, -sign * margin, population)


def betting_bounds(d: ArrayLike, alpha: float = 0.05, population: int | None = None) -> Interval:
    """Bounds on the mean change that hold at whatever item one stops, each with confidence 1 - alpha.

    They are the means that no evidence so far speaks against; so PASS was reached when low is above minus the margin,
    and REGRESSED when high is below it. The estimate is the mean of the items seen. Arguments as for `betting_evalues`.
    """
    d = _seen(d, population)
    check_alpha(alpha)
    low, high = (_highest_rejected(sign * d, alpha, population) for sign in (1, -1))
    return Interval(float(d.mean()), low, -high)


def _highest_rejected(gains: NDArray[np.float64], alpha: float, population: int | None) -> float:
    """The largest null mean that the evidence for a higher one has rejected; -1 if none."""
    low, high = -1.0, 1.0  # the evidence falls as the null mean rises
    while high - low > 1e-6:
        null = (low + high) / 2
        rejected = (_evidence_above(gains, null, population) >= 1 / alpha).any()
        low, high = (null, high) if rejected else (low, null)
    return low


def _seen(d: ArrayLike, population: int | None) -> NDArray[np.float64]:
    d = changes(d, "d", axes=1)
    if population is not None and population < len(d):
        raise ValueError(f"population is {population}, but {len(d)} items were seen; pass the size of the benchmark")
    return d


def _evidence_above(gains: NDArray[np.float64], null: float, population: int | None) -> NDArray[np.float64]:
    """Wealth after each item of betting that the mean is above `null`."""
    means, certain = _null_means(gains, null, population)
    with np.errstate(over="ignore", divide="ignore"):  # wealth may overflow, or be lost whole: log(0)
        growth = np.log1p(np.multiply.outer(LAMBDAS, gains - means)).cumsum(axis=1)  # [lambdas, n]
        evidence = np.exp(growth).mean(axis=0)
    return np.where(certain, np.inf, evidence)


def _null_means(
    gains: NDArray[np.float64], null: float, population: int | None
) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """For each item its mean under the null given those before it, and whether the verdict is certain after it."""
    if population is None:
        return np.full(len(gains), null), np.zeros(len(gains), dtype=bool)
    seen, total = np.arange(len(gains)), np.cumsum(gains)
    before = np.concatenate([[0.0], total[:-1]])
    means = np.clip((population * null - before) / (population - seen), -1, 1)
    certain = total - (population - seen - 1) > population * null + 1e-9
    return means, np.maximum.accumulate(certain)


def stopping_time(
    d: ArrayLike, margin: float, alpha: float = 0.05, population: int | None = None
) -> tuple[int, Side | None]:
    """Number of items used and the verdict: the first side whose evidence reaches 1 / alpha, or (n, None) if none did.

    Each verdict is wrong with probability at most alpha. Arguments as for `betting_evalues`.
    """
    check_alpha(alpha)
    first: list[tuple[int, Side]] = []
    for side in ("PASS", "REGRESSED"):
        decided = betting_evalues(d, margin, side, population) >= 1 / alpha
        if decided.any():
            first.append((int(np.argmax(decided)) + 1, side))
    return min(first) if first else (len(np.asarray(d)), None)
