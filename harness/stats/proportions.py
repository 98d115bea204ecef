"""Bounds on one proportion: held-out accuracy, win rate without ties, share of broken answers.

Sources: Wilson 1927, JASA 22:209-212 (close to nominal on average); Clopper and Pearson 1934, Biometrika 26:404-413
(never below nominal).
"""

import numpy as np
from scipy.special import betainccinv, betaincinv
from scipy.stats import norm

from harness.stats.interval import Interval, check_alpha, check_items


def wilson(k: int, n: int, alpha: float = 0.05) -> Interval:
    """Wilson's score bounds for k successes in n, in [0, 1]; each is one-sided at 1 - alpha. Raises on n = 0."""
    _check_successes(k, n)
    check_alpha(alpha)
    p, z = k / n, float(norm.isf(alpha))
    centre = (p + z**2 / (2 * n)) / (1 + z**2 / n)
    reach = z / (1 + z**2 / n) * np.sqrt(p * (1 - p) / n + z**2 / (4 * n**2))
    low = 0.0 if k == 0 else float(centre - reach)
    high = 1.0 if k == n else float(centre + reach)
    return Interval(p, low, high)


def clopper_pearson(k: int, n: int, alpha: float = 0.05) -> Interval:
    """Exact bounds for k successes in n, in [0, 1]; each holds with at least 1 - alpha. Raises on n = 0."""
    _check_successes(k, n)
    check_alpha(alpha)
    low = float(betaincinv(k, n - k + 1, alpha)) if k > 0 else 0.0
    high = float(betainccinv(k + 1, n - k, alpha)) if k < n else 1.0
    return Interval(k / n, low, high)


def _check_successes(k: int, n: int) -> None:
    check_items(n)
    if not 0 <= k <= n or k != int(k):
        raise ValueError(f"k is {k}, but it counts successes among n = {n}; pass a whole number from 0 to n")
