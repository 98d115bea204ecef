"""Bounds on a mean change when items meet seeds, and several training runs: crossed random effects.

Each seed meets every item, so items and seeds are crossed and n * K scores are not n * K independent ones: pooling them
covers 71 to 77% instead of 95%. With the mean squares MS of the analysis of variance and Satterthwaite's df,

    Var(mean) = (MS_item + MS_seed - MS_error) / (n K),    df = (sum of MS)^2 / sum of (MS^2 / its df)

and with training runs as a third factor: main effects minus two-way plus three-way mean squares.

The t bound from it ignores skewness. Where few items flip, and flip under every seed, it passes 15% of candidates at
the margin (n = 200, 3 points), just as the CLT does for one seed. So each bound is the more careful of t and Tango's
score bound at the effective sample size, at which one right-or-wrong seed would have this variance.

Sources: Searle, Casella and McCulloch 1992, Variance Components, chapter 4; Satterthwaite 1946, Biometrics Bulletin
2:110-114; effective sample size as in Korn and Graubard 1998, Survey Methodology 24:193-201; Miller 2024,
arXiv:2411.00640 (seeds and clusters in evaluations).
"""

from itertools import combinations
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.stats import t as student

from harness.stats.bounded import bounded_interval
from harness.stats.interval import Interval, changes, check_alpha, smallest_level, zero_flip_bound
from harness.stats.paired import paired_interval, score_lower

# Degrees of freedom at most where a factor has two levels, which look alike by chance alone and then show no spread:
# without it 8.4% of candidates at the margin would pass (simulated; 5.5% with it, 6.2% at three levels, 5.4% at five).
TWO = 2.0


class CrossedInterval(NamedTuple):
    """An `Interval` with the standard error of the estimate and its Satterthwaite degrees of freedom."""

    estimate: float
    low: float
    high: float
    se: float
    df: float


def crossed(d: ArrayLike, alpha: float = 0.05, floor: bool = True) -> CrossedInterval:
    """Bounds on the mean change over items and seeds, both taken as samples; values in [-1, 1].

    d: [items, seeds], the paired difference of each item under each seed, in [-1, 1]. A variance component that comes
    out negative counts as zero. floor=False gives the bare t bound, for comparison only. One seed: `paired_interval`
    when every difference is -1, 0 or 1, else `bounded_interval`. One item: `bounded_interval`.
    Raises ValueError on no items, no seeds, NaN, or values outside [-1, 1].
    """
    d = changes(d, "d", axes=2)
    check_alpha(alpha)
    if min(d.shape) == 1:
        return _without_replicates(d, alpha)
    se, df = crossed_error(d)
    return CrossedInterval(*mean_interval(d.mean(axis=1), se, df, alpha, len(d) if floor else None), se, df)


def crossed_pvalue(d: ArrayLike, margin: float) -> float:
    """Smallest level at which `crossed` shows a loss of more than the margin, for Holm and Benjamini-Hochberg.

    d as for `crossed`; margin: a proportion in [0, 1), 0 for "any loss at all". 1.0 where no level below one half shows
    it. Raises ValueError as `crossed` does, and on a margin outside [0, 1).
    """
    if not 0 <= margin < 1:
        raise ValueError(f"margin is {margin}, but a loss is a proportion from 0 to 1; write 3 points as 0.03")
    return smallest_level(lambda alpha: crossed(d, alpha).high < -margin)


class Components(NamedTuple):
    """Variances of one score of an items-by-seeds design that stem from the item, the seed, and their meeting."""

    item: float
    seed: float
    error: float

    def of_mean(self, items: float, seeds: float) -> float:
        """Variance of the mean over so many items and seeds."""
        return self.item / items + self.seed / seeds + self.error / (items * seeds)


def components(d: ArrayLike) -> Components:
    """Variance components of d [items, seeds] by the analysis of variance; negative ones count as zero.

    One seed: all variance is the items'. Raises ValueError on fewer than two items, NaN, or values outside [-1, 1].
    """
    d = changes(d, "d", axes=2)
    n, k = d.shape
    if n < 2:
        raise ValueError(f"d has {n} item, but the spread of items needs two or more; add items")
    if k == 1:
        return Components(float(d.var(ddof=1)), 0.0, 0.0)
    table = mean_squares(d)
    error = table[(0, 1)][0]
    return Components(max(0.0, (table[(0,)][0] - error) / k), max(0.0, (table[(1,)][0] - error) / n), error)


def crossed_recipe(d: ArrayLike, alpha: float = 0.05, floor: bool = True) -> CrossedInterval:
    """Bounds on the mean change of a training recipe: candidates (training seeds), items and seeds all random.

    d: [candidates, items, seeds], in [-1, 1]. Speaks about the next run of the recipe, not about one candidate; a
    single evaluation seed is allowed. Raises ValueError on fewer than three candidates, fewer than two items, NaN.
    """
    d = changes(d, "d", axes=3)
    check_alpha(alpha)
    if len(d) < 3:
        raise ValueError(
            f"d has {len(d)} candidates, but a recipe is judged on three or more training seeds; "
            "train more of them, or judge each candidate alone with `crossed`"
        )
    if d.shape[1] < 2:
        raise ValueError(f"d has {d.shape[1]} item, but the spread of items needs two or more; add items")
    se, df = crossed_error(d[:, :, 0] if d.shape[2] == 1 else d)
    units = d.shape[1] if floor else None
    return CrossedInterval(*mean_interval(d.mean(axis=(0, 2)), se, df, alpha, units), se, df)


def crossed_error(d: NDArray[np.float64]) -> tuple[float, float]:
    """Standard error of the mean of d, all of whose axes (two or more each) are crossed random factors, and its df."""
    table = mean_squares(d)
    total = sum(ms if len(axes) % 2 else -ms for axes, (ms, _) in table.items())
    largest, largest_df = max(table[(axis,)] for axis in range(d.ndim))
    if total <= largest:  # the other components came out negative: what is left is the largest main effect alone
        total, df = largest, largest_df
    else:
        df = total**2 / sum(ms**2 / df for ms, df in table.values())
    return float(np.sqrt(total / d.size)), float(min(df, TWO) if 2 in d.shape else df)


def mean_squares(d: NDArray[np.float64]) -> dict[tuple[int, ...], tuple[float, int]]:
    """Mean square and degrees of freedom of every effect of a full factorial without replicates, keyed by its axes."""
    table = {}
    for size in range(1, d.ndim + 1):
        for axes in combinations(range(d.ndim), size):
            effect = d
            for axis in range(d.ndim):
                mean = effect.mean(axis=axis, keepdims=True)
                effect = effect - mean if axis in axes else mean
            df = int(np.prod([d.shape[axis] - 1 for axis in axes]))
            repeats = d.size / effect.size
            table[axes] = float((effect**2).sum() * repeats / df), df
    return table


def mean_interval(x: NDArray[np.float64], se: float, df: float, alpha: float, units: int | None) -> Interval:
    """Bounds on the mean of item means x [n], given the standard error and df that the design calls for.

    units: the number of independent units (items, clusters); None gives the bare t bound.
    """
    mean, t = float(x.mean()), float(student.isf(alpha, df))
    low, high = mean - t * se, mean + t * se
    if units is not None:
        score, floor = _score_interval(x, se, t), with_floor(mean, units, alpha)
        low, high = min(low, score.low, floor.low), max(high, score.high, floor.high)
    return Interval(mean, max(low, -1.0), min(high, 1.0))


def with_floor(mean: float, units: int, alpha: float = 0.05) -> Interval:
    """What unseen items allow at the least: a share f = 1 - alpha^(1/units) of them lost, or won, whole.

    The mean would then be (1 - f) mean -+ f. At mean 0 this is the bound of zero flips.
    """
    f = zero_flip_bound(units, alpha)
    return Interval(mean, (1 - f) * mean - f, (1 - f) * mean + f)


def _score_interval(x: NDArray[np.float64], se: float, t: float) -> Interval:
    """Tango's score bounds with t for z and the sample size at which its variance (psi - mean^2) / n is se^2."""
    mean, lost, gained = float(x.mean()), -np.minimum(x, 0).mean(), np.maximum(x, 0).mean()
    variance = lost + gained - mean**2
    if se < 1e-9 or variance <= 0:  # nothing varies but rounding: only the floor can speak
        return Interval(mean, mean, mean)
    n = variance / se**2
    return Interval(mean, score_lower(n * lost, n * gained, n, t), -score_lower(n * gained, n * lost, n, t))


def _without_replicates(d: NDArray[np.float64], alpha: float) -> CrossedInterval:
    """One seed or one item: the spread over items (none for a single item, where se is 1, the largest it can be)."""
    x = d.mean(axis=1)
    n = len(x)
    if d.shape[1] == 1 and np.isin(x, (-1, 0, 1)).all():
        interval = paired_interval(int((x < 0).sum()), int((x > 0).sum()), n, alpha)
    else:
        interval = bounded_interval(x, alpha)
    se = float(x.std(ddof=1) / np.sqrt(n)) if n > 1 else 1.0
    return CrossedInterval(*interval, se, float(max(n - 1, 1)))
