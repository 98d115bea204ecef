"""Bounds on a share of right answers when ties count half, and when several training runs answer the same items.

One run: Gaffke's bound on values in [0, 1], which is Clopper and Pearson's exact one where nothing is tied. Several
runs and items are crossed random factors, as seeds and items are in `crossed`, and with right = +1, wrong = -1 the
bound is literally that one: Tango's score at full discordance is Wilson's, so this is Wilson's interval at the
effective sample size (Korn and Graubard 1998, Survey Methodology 24:193-201), or the t bound, whichever is wider.
"""

import math
from collections.abc import Hashable, Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.stats import norm

from harness.stats.bounded import bounded_interval
from harness.stats.crossed import crossed
from harness.stats.interval import Interval, check_alpha, finite, share_of


def share_interval(right: ArrayLike, alpha: float = 0.05) -> Interval:
    """Share of right answers with two one-sided bounds, in [0, 1].

    right: [items, runs], 1, 0, or between them for a tie; a run is one training of a recipe, and with several the
    bounds speak about a further run too. Raises ValueError on no items, NaN, or values outside [0, 1].
    """
    right = finite(right, "right", axes=2)
    check_alpha(alpha)
    if right.min() < 0 or right.max() > 1:
        raise ValueError(f"right ranges over [{right.min()}, {right.max()}], outside [0, 1]; count a tie as 0.5")
    if right.shape[1] == 1:
        return bounded_interval(right[:, 0], alpha, 0.0, 1.0)
    found = crossed(2 * right - 1, alpha)
    return share_of(Interval(found.estimate, found.low, found.high))


def by_source(values: ArrayLike, sources: Sequence[Hashable]) -> NDArray[np.float64]:
    """values [items, runs] -> [sources, runs]: the mean of each source's items, in the order of their first ones.

    Items of one source (pairs of one prompt, one pair judged by several editors) rise and fall together, so the source
    is the independent unit, and counts once. ValueError on another number of sources than items.
    """
    values = np.asarray(values, float)
    if len(sources) != len(values):
        raise ValueError(f"sources names {len(sources)} items, but there are {len(values)}; name one for each")
    numbers: dict[Hashable, int] = {}
    at = np.array([numbers.setdefault(source, len(numbers)) for source in sources], int)
    if len(numbers) == len(values):
        return values
    sums = np.zeros((len(numbers), *values.shape[1:]))
    np.add.at(sums, at, values)
    return sums / np.bincount(at).reshape(-1, *[1] * (values.ndim - 1))


def needed_for_share(share: float, target: float, alpha: float = 0.05, power: float = 0.8) -> int | None:
    """Items of one run that would put `share` on its side of `target` with probability `power`; None at the target.

    n = (z(1 - alpha) + z(power))^2 share (1 - share) / (share - target)^2: the normal approximation of one proportion.
    """
    for name, value in (("share", share), ("target", target)):
        if not 0 < value < 1:
            raise ValueError(f"{name} is {value}, but a share lies between 0 and 1; write 68 points as 0.68")
    if math.isclose(share, target):
        return None
    variance, reach = share * (1 - share), abs(share - target)
    return math.ceil((norm.isf(alpha) + norm.ppf(power)) ** 2 * variance / reach**2)
