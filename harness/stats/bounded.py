"""Bounds on the mean of fractional paired differences, safe at small n and with ties: Gaffke's bound.

The lower bound is the alpha-quantile of the mean under random Dirichlet(1, ..., 1) weights on the n values and on one
more value at the lowest possible score: a Bayesian bootstrap that has seen, once, the worst that can happen. On
two-valued data it is Clopper and Pearson's exact bound; with all values equal at 0 it is the bound of zero flips; at
large n it approaches Student's t. Its coverage is proved for two-valued data and for some further cases; for others it
is a conjecture without a known counterexample, so our tests simulate the distributions that break the t bound. The
proved alternative, betting (Waudby-Smith and Ramdas 2024), is half as wide again and depends on the order of the items.

The quantile is computed, not simulated: the weighted mean is below m when a sum of exponentials times (value - m) is
below 0, whose probability is one integral of its characteristic function (Imhof 1961).
Sources: Gaffke 2005, Statistics & Risk Modeling 23:143-163 (three test statistics for a nonparametric one-sided
hypothesis on the mean of a nonnegative variable); Learned-Miller and Thomas 2019, arXiv:1905.06208; Imhof 1961,
Biometrika 48:419-426.
"""

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.optimize import brentq
from scipy.stats import norm

from harness.stats.interval import Interval, check_alpha, finite, zero_flip_bound

FAR = 12.0  # standard deviations from the mean at which a probability counts as 0 or 1
NODES = 200  # of the integral; 2000 change the bound by less than 1e-9 where its wave is followed
SMALL = 1e-9  # of the integrand, beyond which it does not count
TURN = 1.5  # radians by which the wave may turn from node to node: values all alike turn it hundreds of times
MOST_NODES, MOST_NUMBERS = 2**15, 2**22  # of the integral, and of nodes times different values


def bounded_interval(x: ArrayLike, alpha: float = 0.05, low: float = -1.0, high: float = 1.0) -> Interval:
    """Bounds on the mean of independent values in [low, high], in their unit, from one value up.

    x: [n], for instance each item's change of gold probability. Raises ValueError on no values, NaN, or values
    outside [low, high].
    """
    x = finite(x, "x", axes=1)
    check_alpha(alpha)
    if not low < high:
        raise ValueError(f"low is {low} and high is {high}, but low must be below high; pass the range of the score")
    if x.min() < low - 1e-9 or x.max() > high + 1e-9:
        raise ValueError(f"x ranges over [{x.min()}, {x.max()}], outside [{low}, {high}]; pass the range of the score")
    return Interval(float(x.mean()), _lower(x, alpha, low), -_lower(-x, alpha, -high))


def _lower(x: NDArray[np.float64], alpha: float, low: float) -> float:
    """Gaffke's bound, and never above that of values all alike, which is known: alpha^(1/n) of the way from `low`."""
    alike = x.mean() - zero_flip_bound(len(x), alpha) * (x.mean() - low)
    return float(min(_gaffke_lower(x, alpha, low), alike))


def _gaffke_lower(x: NDArray[np.float64], alpha: float, low: float) -> float:
    values, counts = np.unique(np.append(x, low), return_counts=True)
    if values[-1] - low < 1e-12:
        return float(low)
    edge = 1e-12 * (values[-1] - low)

    def excess(mean: float) -> float:
        return _below(values - mean, counts) - alpha

    # the root lies near the normal approximation's, and far from it the integral takes long
    mean, n = float(counts @ values) / counts.sum(), int(counts.sum())
    spread = float(np.sqrt(counts @ (values - mean) ** 2)) / n
    first, last = max(low + edge, mean - (norm.isf(alpha) + 4) * spread), min(mean + spread, values[-1] - edge)
    if excess(first) > 0:
        first = low + edge
        if excess(first) > 0:  # alpha is below what the integral resolves
            return float(low)
    if excess(last) < 0:
        last = values[-1] - edge
    return float(brentq(excess, first, last, xtol=1e-10))


def _below(scales: NDArray[np.float64], counts: NDArray[np.int64]) -> float:
    """P(sum of scale * exponential <= 0), each scale `counts` times: 1/2 - 1/pi * integral of Im(cf) dlog(t)."""
    unit = np.sqrt((counts * scales**2).sum())
    if abs(counts @ scales) > FAR * unit:
        return float(counts @ scales < 0)

    def log_modulus(t: NDArray[np.float64]) -> NDArray[np.float64]:
        return -0.5 * np.log1p(np.multiply.outer(t, scales) ** 2) @ counts

    reach = np.logspace(0, 12, 49) / unit
    last = reach[np.argmax(log_modulus(reach) < -30)] if log_modulus(reach[-1:])[0] < -30 else reach[-1]
    nodes, most = NODES, max(NODES, min(MOST_NODES, MOST_NUMBERS // len(scales)))
    while True:
        log_t = np.linspace(np.log(1e-8 / unit), np.log(last), nodes)
        t = np.exp(log_t)
        phase, modulus = np.arctan(np.multiply.outer(t, scales)) @ counts, np.exp(log_modulus(t))
        turn = (np.abs(np.diff(phase)) * (modulus[:-1] > SMALL)).max()
        if turn <= TURN or nodes == most:
            break
        nodes = min(most, int(nodes * turn / TURN) + 1)
    integrand = np.sin(phase) * modulus
    return 0.5 - float(np.trapezoid(integrand, log_t)) / np.pi
