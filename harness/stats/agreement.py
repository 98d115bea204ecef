"""Krippendorff's alpha: how far editors agree beyond what their habits alone would give. 1 is perfect, 0 is chance.

alpha = 1 - observed disagreement / expected disagreement, over all pairs of values of one unit; values are categories
(nominal), any of them may be missing, and a unit with a single value says nothing. Below zero is disagreement by rule.
Source: Krippendorff 2011, Computing Krippendorff's Alpha-Reliability (whose worked examples are our tests); bounds by
drawing whole units, as in Zapf et al. 2016, BMC Medical Research Methodology 16:93.
"""

import numpy as np
from numpy.typing import ArrayLike, NDArray

from harness.stats.bootstrap import bootstrap
from harness.stats.interval import Interval


def krippendorff_alpha(ratings: ArrayLike) -> float:
    """alpha of ratings [units, raters] with NaN where one is missing; categories are any numbers.

    NaN where it has no meaning: no unit has two values, or all values are alike, so that chance would agree as well.
    """
    return _alpha(_units(ratings))


def agreement(ratings: ArrayLike, rng: np.random.Generator, resamples: int = 2000, alpha: float = 0.05) -> Interval:
    """Krippendorff's alpha with percentile bounds over units, each one-sided at 1 - `alpha`.

    Where many resamples have all ratings alike, and so no alpha, a bound is the end of alpha's range, which excludes
    nothing. Raises ValueError where the estimate has no meaning (see `krippendorff_alpha`), and on a single unit.
    """
    units = _units(ratings)
    if np.isnan(_alpha(units)):
        raise ValueError("all ratings are alike or no unit has two, so agreement beyond chance has no meaning")
    found = bootstrap(_alpha, units, rng, resamples, alpha, "percentile")
    return Interval(found.estimate, max(found.low, -1.0), min(found.high, 1.0))


def _units(ratings: ArrayLike) -> NDArray[np.float64]:
    """[units, raters] -> [units that pair, 1 + categories]: a unit's disagreement, and how often it has each value."""
    ratings = np.asarray(ratings, dtype=float)
    if ratings.ndim != 2 or ratings.size == 0:
        raise ValueError(f"ratings have the shape {ratings.shape}, but units and raters are needed; reshape them")
    categories = np.unique(ratings[~np.isnan(ratings)])
    table = (ratings[:, :, None] == categories).sum(axis=1).astype(float)
    table = table[table.sum(axis=1) >= 2]  # a value that is alone in its unit pairs with none
    size = table.sum(axis=1)
    return np.column_stack([(size**2 - (table**2).sum(axis=1)) / (size - 1), table])


def _alpha(units: NDArray[np.float64]) -> float:
    """From sums over units alone, so that thousands of resamples take no time."""
    disagreement, *total = units.sum(axis=0).tolist()
    n = sum(total)
    by_chance = n**2 - sum(t**2 for t in total)  # pairs of unlike values
    return 1 - disagreement * (n - 1) / by_chance if by_chance > 0 else float("nan")
