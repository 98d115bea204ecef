"""Bounds on the change of a right-or-wrong benchmark, from its flips: Tango's score interval, and the gate's exact one.

On n shared items, `lost` were right under the base and wrong under the candidate, `gained` the reverse, and
theta = (gained - lost) / n is the change. The nuisance is psi, the rate of items that flip either way.

`tango` is the best approximate interval, but its true error at nominal 5% reaches 6 to 7% (few flips are worst).
`paired_interval` is what the gate uses; its error is at most alpha whatever n, psi and the margin. Its lower bound is
the smallest theta under which an outcome at least as good as ours has probability alpha for some plausible psi:

- "at least as good" means a Tango bound at least as high (Buehler 1957). That set does not depend on theta, so its
  probability rises with theta and one interval serves all margins: low > -margin if and only if the margin is passed.
- "plausible" means inside a confidence interval of psi that errs with probability alpha / 1000, which is taken off
  alpha (Berger and Boos 1994). Without it the bound pays for psi near 1, where the two models disagree on every item:
  7 points of power at n = 200.

Sources: Tango 1998, Statistics in Medicine 17:891-908; Buehler 1957, JASA 52:482-493; Berger and Boos 1994, JASA
89:1012-1016; Hsueh, Liu and Chen 2001, Biometrics 57:478-483 (exact unconditional test of paired non-inferiority).
"""

from functools import lru_cache

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.optimize import brentq
from scipy.special import betainc, betainccinv, betaincinv, gammaln
from scipy.stats import norm

from harness.stats.interval import Interval, Side, check_alpha, check_counts, check_margin, check_side

TIE = 1e-9  # outcomes whose score statistics differ by less are equally good: rounding must not drop our own outcome
DOUBT = 1e-3  # share of alpha spent on the confidence interval of psi
PVALUE_DOUBT = 1e-6  # the same for a p-value, small enough for 57 of them
SPREAD = 7.5  # standard deviations of the count of losses that are summed; the rest holds less than 1e-12


def tango_z(lost: ArrayLike, gained: ArrayLike, n: int, theta0: ArrayLike) -> NDArray[np.float64]:
    """Tango's score statistic of H0: theta = theta0; large = the change is above theta0. Broadcasts.

    The variance uses q, the rate of losses that is most likely given theta0 (closed form). Where the variance is 0
    (theta0 = -1 or 1, or theta0 = 0 without flips) the statistic is 0 if the data agree with theta0, else infinite.
    Source: Tango 1998, equations 8 to 10.
    """
    b, c, t = (np.asarray(x, dtype=float) for x in (lost, gained, theta0))
    minus_b = b + c - (2 * n - c + b) * t
    root = np.sqrt(np.maximum(minus_b**2 + 8 * n * b * t * (1 - t), 0))
    q = (minus_b + root) / (4 * n)
    variance = n * np.maximum(2 * q + t * (1 - t), 0)
    excess = c - b - n * t
    with np.errstate(divide="ignore", invalid="ignore"):
        z = excess / np.sqrt(variance)
    return np.where(np.abs(excess) < TIE, 0.0, z)


def tango(lost: int, gained: int, n: int, alpha: float = 0.05) -> Interval:
    """Tango's score interval for the change: each bound solves tango_z = +-z(1 - alpha). Values in [-1, 1].

    Approximate: nominal 5% is 5 to 7% in truth. Use `paired_interval` where an error rate is promised.
    Raises ValueError on n < 1 or impossible counts.
    """
    check_counts(lost, gained, n)
    check_alpha(alpha)
    z = float(norm.isf(alpha))
    return Interval((gained - lost) / n, score_lower(lost, gained, n, z), -score_lower(gained, lost, n, z))


def score_lower(lost: float, gained: float, n: float, z: float) -> float:
    """The theta below the estimate at which tango_z is z > 0, in [-1, 1]. Counts may be fractions (see `crossed`)."""
    estimate = (gained - lost) / n
    if estimate <= -1 + 1e-12:
        return -1.0
    near = estimate - 1e-13  # at the estimate itself the statistic is 0
    return brentq(lambda t: float(tango_z(lost, gained, n, t)) - z, -1 + 1e-12, near, xtol=1e-14)


def exact_pvalue(lost: int, gained: int, n: int, margin: float, side: Side = "PASS") -> float:
    """Exact one-sided p-value in (0, 1]; small is evidence for `side`, for Holm and Benjamini-Hochberg.

    PASS tests H0: theta <= -margin (the loss is the margin or more), REGRESSED H0: theta >= -margin. It is the largest
    probability, over the plausible psi, of a Tango statistic at least as extreme as ours, plus `PVALUE_DOUBT`.
    Milliseconds at n = 2,000; cached. It orders the outcomes anew for each margin, so that it need not fall evenly from
    one margin to the next; verdicts come from `paired_interval`, which is consistent.
    Raises ValueError on n < 1, impossible counts, a margin outside (0, 1), an unknown side. Source: Hsueh et al. 2001.
    """
    check_counts(lost, gained, n)
    check_margin(margin)
    check_side(side)
    if side == "PASS":
        return _exact_pvalue(int(lost), int(gained), int(n), -float(margin))
    return _exact_pvalue(int(gained), int(lost), int(n), float(margin))  # mirrored: the gain of base over candidate


@lru_cache(maxsize=4096)
def _exact_pvalue(lost: int, gained: int, n: int, theta: float) -> float:
    least = least_gained(n, theta, float(tango_z(lost, gained, n, theta)))
    return min(1.0, worst_probability(least, theta, plausible_psi(lost + gained, n, PVALUE_DOUBT)) + PVALUE_DOUBT)


def exact_lower(lost: int, gained: int, n: int, alpha: float = 0.05) -> float:
    """Exact lower bound of theta, in [-1, 1]: P(bound > theta) <= alpha for every theta and psi.

    Milliseconds at n = 2,000; cached. Without losses or gains it is minus `zero_flip_bound`, a hair lower.
    Raises ValueError on n < 1 or impossible counts.
    """
    check_counts(lost, gained, n)
    check_alpha(alpha)
    return _exact_lower(int(lost), int(gained), int(n), float(alpha))


@lru_cache(maxsize=4096)
def _exact_lower(lost: int, gained: int, n: int, alpha: float) -> float:
    if lost == n:
        return -1.0
    least, doubt = at_least_as_good(lost, gained, n, alpha), DOUBT * alpha
    psi = plausible_psi(lost + gained, n, doubt)

    def excess(theta: float) -> float:
        return worst_probability(least, theta, psi) + doubt - alpha

    high = (gained - lost) / n
    low, step = high, 0.5 * (high - score_lower(lost, gained, n, norm.isf(alpha))) + 1e-6
    while excess(low) > 0:  # ends at -psi[1]: there no plausible psi is left
        high, low, step = low, max(low - step, -1.0), 1.5 * step
    return brentq(excess, low, high, xtol=1e-9)


def paired_interval(lost: int, gained: int, n: int, alpha: float = 0.05) -> Interval:
    """The gate's interval for the change of a right-or-wrong benchmark, with exact bounds; values in [-1, 1].

    For every n, psi and margin: P(low > -margin) <= alpha when the true loss is the margin or more, and
    P(high < -margin) <= alpha when it is the margin or less. Raises ValueError on n < 1 or impossible counts.
    """
    low, high = exact_lower(lost, gained, n, alpha), -exact_lower(gained, lost, n, alpha)
    return Interval((gained - lost) / n, low, high)


def at_least_as_good(lost: int, gained: int, n: int, alpha: float) -> NDArray[np.int64]:
    """The outcomes whose Tango bound is at least that of this one, as `least_gained` writes them, shape [n + 1]."""
    z = float(norm.isf(alpha))
    return least_gained(n, score_lower(lost, gained, n, z), z)


def plausible_psi(flips: int, n: int, doubt: float) -> tuple[float, float]:
    """Clopper-Pearson interval of the discordance psi at confidence 1 - doubt, in [0, 1]."""
    low = betaincinv(flips, n - flips + 1, doubt / 2) if flips > 0 else 0.0
    high = betainccinv(flips + 1, n - flips, doubt / 2) if flips < n else 1.0
    return float(low), float(high)


def least_gained(n: int, theta0: float, z: float) -> NDArray[np.int64]:
    """For each number of losses 0..n the least number of gains with tango_z >= z, shape [n + 1]; n - lost + 1 if none.

    The whole set of outcomes at least as good, in one row: the statistic rises with gains (Barnard's convexity).
    """
    lost = np.arange(n + 1)
    low, high = np.zeros(n + 1, dtype=np.int64), n - lost + 1  # the answer lies in [low, high]
    while (low < high).any():
        middle = (low + high) // 2
        good = tango_z(lost, np.minimum(middle, n - lost), n, theta0) >= z - TIE
        high = np.where(good & (low < high), middle, high)
        low = np.where(good | (low >= high), low, middle + 1)
    return low


def worst_probability(least: NDArray[np.int64], theta: float, psi: tuple[float, float] = (0.0, 1.0)) -> float:
    """The largest probability that gained >= least[lost] under change theta, over the psi in a range; 0 if it is empty.

    A grid even in sqrt(psi), a quarter of a standard deviation of the number of flips apart (the finest scale on which
    the probability can turn), then a zoom around its three best points.
    """
    n = len(least) - 1
    low, high = np.sqrt(max(psi[0], abs(theta))), np.sqrt(psi[1])
    if low > high:
        return 0.0
    roots, step = np.linspace(low, high, 8 + int(4 * np.sqrt(n) * (high - low)), retstep=True)
    values = region_probability(least, theta, roots**2)
    best = roots[np.argsort(values)[-3:], None]
    zoom = np.clip(best + step * np.linspace(-0.75, 0.75, 7), low, high)
    return float(max(values.max(), region_probability(least, theta, zoom.ravel() ** 2).max()))


def region_probability(least: NDArray[np.int64], theta: float, psi: ArrayLike) -> NDArray[np.float64]:
    """P(gained >= least[lost]) for each of `psi`, shape [P]: a sum over losses of the binomial tail of gains."""
    n = len(least) - 1
    psi = np.atleast_1d(np.asarray(psi, dtype=float))[:, None]
    p_lost, p_gained = np.clip((psi - theta) / 2, 0, 1), np.clip((psi + theta) / 2, 0, 1)
    reach = np.ceil(SPREAD * np.sqrt(n * p_lost * (1 - p_lost))) + 8
    offsets = np.arange(2 * int(reach.max()) + 1)
    lost = np.floor(n * p_lost) - reach + offsets  # [P, L]
    inside = (lost >= 0) & (lost <= n) & (offsets <= 2 * reach)
    rows, columns = np.nonzero(inside)
    k = lost[rows, columns].astype(np.int64)
    p, rest = p_lost[rows, 0], 1 - p_lost[rows, 0]
    share = np.divide(p_gained[rows, 0], rest, out=np.zeros_like(rest), where=rest > 0)
    terms = np.exp(_log_binomial(k, n, p)) * _upper_tail(least[k], n - k, np.minimum(share, 1))
    return np.bincount(rows, weights=terms, minlength=len(psi))


def _log_binomial(k: NDArray, n: int, p: NDArray) -> NDArray:
    with np.errstate(divide="ignore", invalid="ignore"):
        hits = np.where(k > 0, k * np.log(p), 0.0)
        misses = np.where(n > k, (n - k) * np.log1p(-p), 0.0)
    return gammaln(n + 1) - gammaln(k + 1) - gammaln(n - k + 1) + hits + misses


def _upper_tail(least: NDArray, n: NDArray, p: NDArray) -> NDArray:
    """P(X >= least) for X binomial(n, p): 1 where least <= 0, 0 where least > n."""
    some = (least > 0) & (least <= n)
    tail = (least <= 0).astype(float)
    tail[some] = betainc(least[some], n[some] - least[some] + 1, p[some])
    return tail
