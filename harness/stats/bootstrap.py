"""Paired bootstrap bounds for statistics without a formula: closure and retention of a mitigation, agreement.

Whole items are drawn, each with all its values, so that the pairing of base, candidate and mitigated model is kept.
Sources: Efron 1987, JASA 82:171-185 (BCa); Efron and Tibshirani 1993, An Introduction to the Bootstrap, chapter 14.
"""

from collections.abc import Callable, Sequence
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.stats import norm

from harness.stats.interval import Interval, check_alpha

Statistic = Callable[..., float]


def bootstrap(
    statistic: Statistic,
    arrays: ArrayLike | Sequence[ArrayLike],
    rng: np.random.Generator,
    resamples: int = 2000,
    alpha: float = 0.05,
    method: Literal["bca", "percentile"] = "bca",
) -> Interval:
    """Bounds on statistic(*arrays), in its unit; items are drawn along the first axis of all arrays at once.

    arrays: one array, or a tuple or list of arrays of one length. BCa corrects bias and skewness and wants n > 200;
    below, use "percentile". A resample without a value (NaN, say 0/0) counts as the worst on each side, so a statistic
    that is often undefined gets an infinite bound. Raises ValueError on no items, unequal lengths, an undefined
    statistic on the data themselves, an unknown method.
    """
    check_alpha(alpha)
    arrays = _aligned(arrays)
    if method not in ("bca", "percentile"):
        raise ValueError(f"method is {method!r}, but the bootstrap knows 'bca' and 'percentile'; choose one of them")
    if resamples < 100:
        raise ValueError(f"resamples is {resamples}, but a 5% tail needs at least 100; 2000 is usual")
    estimate, n = float(statistic(*arrays)), len(arrays[0])
    if not np.isfinite(estimate):
        raise ValueError(f"the statistic of the data is {estimate}; check that it divides by no zero")
    draws = np.array([float(statistic(*_take(arrays, rng.integers(n, size=n)))) for _ in range(resamples)])
    levels = (alpha, 1 - alpha) if method == "percentile" else _bca_levels(statistic, arrays, estimate, draws, alpha)
    missing = np.isnan(draws)
    low, high = np.sort(np.where(missing, -np.inf, draws)), np.sort(np.where(missing, np.inf, draws))
    return Interval(
        estimate,
        float(low[int(np.floor(levels[0] * (resamples - 1)))]),
        float(high[int(np.ceil(levels[1] * (resamples - 1)))]),
    )


def _aligned(arrays: ArrayLike | Sequence[ArrayLike]) -> list[NDArray]:
    several = isinstance(arrays, (tuple, list)) and len(arrays) > 0 and np.ndim(arrays[0]) > 0
    aligned = [np.asarray(a) for a in (arrays if several else [arrays])]
    lengths = [len(a) for a in aligned]
    if len(set(lengths)) > 1:
        raise ValueError(f"arrays have lengths {lengths}, but they are paired item by item; align them first")
    if lengths[0] < 2:
        raise ValueError(f"arrays hold {lengths[0]} items, but resampling needs two or more; add items")
    return aligned


def _take(arrays: list[NDArray], index: NDArray[np.int64]) -> list[NDArray]:
    return [a[index] for a in arrays]


def _bca_levels(
    statistic: Statistic, arrays: list[NDArray], estimate: float, draws: NDArray, alpha: float
) -> tuple[float, float]:
    """The two percentiles to read: shifted by the bias z0 and the acceleration a (from the jackknife)."""
    n, known = len(arrays[0]), draws[~np.isnan(draws)]
    below = ((known < estimate).sum() + 0.5 * (known == estimate).sum()) / max(len(known), 1)
    z0 = norm.ppf(np.clip(below, 1 / (2 * len(draws)), 1 - 1 / (2 * len(draws))))
    jackknife = np.array([float(statistic(*[np.delete(a, i, axis=0) for a in arrays])) for i in range(n)])
    spread = jackknife[np.isfinite(jackknife)]
    spread = spread.mean() - spread if len(spread) else np.zeros(1)
    size = (spread**2).sum() ** 1.5
    acceleration = (spread**3).sum() / (6 * size) if size > 0 else 0.0
    z = norm.ppf([alpha, 1 - alpha])
    low, high = norm.cdf(z0 + (z0 + z) / (1 - acceleration * (z0 + z)))
    return float(low), float(high)
