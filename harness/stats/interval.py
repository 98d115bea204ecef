"""What every interval of Lethe is, and the input rules that all of them share.

All values are proportions: scores and rates in [0, 1], changes (candidate minus base, negative = forgotten) in [-1, 1].
Points, that is percent, exist only in print.
"""

from collections.abc import Callable
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

Side = Literal["PASS", "REGRESSED"]  # what evidence can be for: a loss below the margin, or above it


class Interval(NamedTuple):
    """An estimate with two one-sided bounds: `low` holds with confidence 1 - alpha, and so does `high`.

    Together they are a two-sided interval at 1 - 2 alpha. A verdict uses one of them: PASS when `low` is above minus
    the margin, REGRESSED when `high` is below it.
    """

    estimate: float
    low: float
    high: float


def share_of(change: Interval) -> Interval:
    """Wins minus losses, in [-1, 1] -> the share of wins, ties as half, in [0, 1]."""
    return Interval(*((1 + value) / 2 for value in change))


def zero_flip_bound(n: int, alpha: float = 0.05) -> float:
    """The largest loss rate that n items with no loss at all still allow: 1 - alpha^(1/n), in (0, 1).

    Exact, from (1 - p)^n = alpha: 2.95 points at n = 100, 0.60 at n = 500. No bound of Lethe promises less loss.
    """
    check_items(n)
    check_alpha(alpha)
    return float(-np.expm1(np.log(alpha) / n))


def smallest_level(shown: Callable[[float], bool]) -> float:
    """The p-value behind a bound: the smallest alpha at which `shown(alpha)` is true, to one part in 500.

    `shown` must stay true as alpha grows. 1.0 where no alpha below one half will do; never below 1e-6, which the
    integral of `bounded_interval` still resolves.
    """
    low, high = 1e-6, 0.4999
    if not shown(high):
        return 1.0
    if shown(low):
        return low
    while high / low > 1.002:
        middle = (low * high) ** 0.5
        low, high = (low, middle) if shown(middle) else (middle, high)
    return high


def check_alpha(alpha: float) -> None:
    if not 0 < alpha < 0.5:
        raise ValueError(f"alpha is {alpha}, but an error rate lies between 0 and 0.5; use 0.05 for 95% bounds")


def check_items(n: int) -> None:
    if n < 1 or n != int(n):
        raise ValueError(f"n is {n}, but a rate needs at least one whole item; check that the benchmark has scores")


def check_margin(margin: float) -> None:
    if not 0 < margin < 1:
        raise ValueError(f"margin is {margin}, but a margin is a proportion between 0 and 1; write 3 points as 0.03")


def check_side(side: str) -> None:
    if side not in ("PASS", "REGRESSED"):
        raise ValueError(f"side is {side!r}, but evidence is for 'PASS' or for 'REGRESSED'; choose one of them")


def check_counts(lost: int, gained: int, n: int) -> None:
    """Raise unless lost and gained are whole numbers of items, none negative, with lost + gained <= n."""
    check_items(n)
    for name, value in (("lost", lost), ("gained", gained)):
        if value < 0 or value != int(value):
            raise ValueError(f"{name} is {value}, but it counts items; pass a whole number from 0 to n = {n}")
    if lost + gained > n:
        raise ValueError(f"lost + gained is {lost + gained}, more than the n = {n} shared items; count each item once")


def finite(values: ArrayLike, name: str, axes: int) -> NDArray[np.float64]:
    """`values` as a float array with `axes` axes; raises when it is empty, has another shape, or holds NaN or inf."""
    array = np.asarray(values, dtype=float)
    if array.ndim != axes:
        raise ValueError(f"{name} has {array.ndim} axes (shape {array.shape}), but {axes} are needed; reshape it")
    if array.size == 0:
        raise ValueError(f"{name} is empty (shape {array.shape}), and no data give no bound; check the scores")
    if not np.isfinite(array).all():
        bad = tuple(int(i) for i in np.argwhere(~np.isfinite(array))[0])
        raise ValueError(f"{name} is {array[bad]} at {bad}, but every score must be finite; score that item again")
    return array


def changes(values: ArrayLike, name: str, axes: int) -> NDArray[np.float64]:
    """`finite`, and every value a change in [-1, 1]; raises with the first value outside."""
    array = finite(values, name, axes)
    outside = np.abs(array) > 1 + 1e-9
    if outside.any():
        bad = tuple(int(i) for i in np.argwhere(outside)[0])
        raise ValueError(
            f"{name} is {array[bad]} at {bad}, but a change of scores in [0, 1] lies in [-1, 1]; "
            "divide points by 100, or map the metric to [0, 1]"
        )
    return array
