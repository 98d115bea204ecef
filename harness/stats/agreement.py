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
    return _alpha(counts(ratings))


def agreement(ratings: ArrayLike, rng: np.random.Generator, resamples: int = 2000, alpha: float = 0.05) -> Interval:
    """Krippendorff's alpha with percentile bounds over units, each one-sided at 1 - `alpha`.

    Raises ValueError where the estimate has no meaning (see `krippendorff_alpha`).
    """
    table = counts(ratings)
    if np.isnan(_alpha(table)):
        raise ValueError("all ratings are alike or no unit has two, so agreement beyond chance has no meaning")
    return bootstrap(_alpha, table, rng, resamples, alpha, "percentile")


def counts(ratings: ArrayLike) -> NDArray[np.float64]:
    """[units, raters] -> [units, categories]: how many raters gave each category."""
    ratings = np.asarray(ratings, dtype=float)
    if ratings.ndim != 2 or ratings.size == 0:
        raise ValueError(f"ratings have the shape {ratings.shape}, but units and raters are needed; reshape them")
    categories = np.unique(ratings[~np.isnan(ratings)])
    return (ratings[:, :, None] == categories).sum(axis=1).astype(float)


def _alpha(table: NDArray[np.float64]) -> float:
    table = table[table.sum(axis=1) >= 2]  # a value that is alone in its unit pairs with none
    if not len(table):
        return float("nan")
    size, total = table.sum(axis=1), table.sum(axis=0)
    n = total.sum()
    observed = ((size**2 - (table**2).sum(axis=1)) / (size - 1)).sum() / n
    expected = (n**2 - (total**2).sum()) / (n * (n - 1))
    return float(1 - observed / expected) if expected > 0 else float("nan")
