"""The true error rate of a pass rule, by adding up every possible outcome; nothing is simulated.

A rule is a table of True and False over (lost, gained), shape [n + 1, n + 1], or a function that fills it. Its size is
the probability of a pass when the true loss is exactly the margin, and it depends on the discordance psi: an honest
rule stays within alpha for all of them. `exact_pass` is the gate's own rule; the others are the rivals it is compared
with (Wald, "not significantly worse", Tango at its nominal level).
"""

from collections.abc import Callable

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import gammaln, xlog1py, xlogy
from scipy.stats import binom, norm

from harness.stats.interval import check_alpha, check_items, check_margin
from harness.stats.paired import DOUBT, at_least_as_good, plausible_psi, tango_z, worst_probability

Rule = Callable[[NDArray[np.int64], NDArray[np.int64], int, float], NDArray[np.bool_]]


def enumerated_size(
    n: int, margin: float, rule: Rule | NDArray[np.bool_], psis: ArrayLike | None = None
) -> NDArray[np.float64]:
    """False-pass probability of `rule` at a true change of -margin, one value in [0, 1] for each psi.

    rule: a table [lost, gained] or a function of (lost, gained, n, margin). psis: at least the margin; by default 120
    of them from the margin to 0.4, even in their square root. Raises ValueError on a psi below the margin or above 1.
    """
    check_items(n)
    check_margin(margin)
    psis = psi_grid(margin) if psis is None else psis
    return pass_probability(rule_table(rule, n, margin) if callable(rule) else rule, -margin, psis)


def psi_grid(margin: float, top: float = 0.4, count: int = 120) -> NDArray[np.float64]:
    """Discordances from the margin (its least possible value) to `top`, even in their square root."""
    return np.clip(np.linspace(np.sqrt(margin), np.sqrt(max(top, margin)), count) ** 2, margin, 1)


def rule_table(rule: Rule, n: int, margin: float) -> NDArray[np.bool_]:
    """`rule` over all outcomes, [lost, gained]; outcomes with lost + gained > n are False."""
    lost, gained = np.ogrid[: n + 1, : n + 1]
    possible = lost + gained <= n
    return np.asarray(rule(lost, np.minimum(gained, n - lost), n, margin), dtype=bool) & possible


def pass_probability(table: NDArray[np.bool_], theta: float, psis: ArrayLike) -> NDArray[np.float64]:
    """Probability that an outcome of `table` occurs under change theta, for each psi, shape [P]: a rule's power."""
    n = len(table) - 1
    psis = np.atleast_1d(np.asarray(psis, dtype=float))
    if (psis < abs(theta) - 1e-12).any() or (psis > 1).any():
        raise ValueError(
            f"psis span [{psis.min()}, {psis.max()}], but psi is at least the change {abs(theta)} and at most 1"
        )
    log_factorial = gammaln(np.arange(n + 1) + 1.0)
    return np.array([_sum_over(table, theta, float(psi), log_factorial) for psi in psis])


def _sum_over(table: NDArray[np.bool_], theta: float, psi: float, log_factorial: NDArray[np.float64]) -> float:
    n = len(table) - 1
    p_lost, p_gained = max((psi - theta) / 2, 0.0), max((psi + theta) / 2, 0.0)
    rows, columns = _window(n, p_lost), _window(n, p_gained)
    lost, gained = rows[:, None], columns[None, :]
    rest = n - lost - gained
    log_p = log_factorial[n] - log_factorial[lost] - log_factorial[gained] - log_factorial[np.maximum(rest, 0)]
    log_p = log_p + xlogy(lost, p_lost) + xlogy(gained, p_gained) + xlog1py(np.maximum(rest, 0), -psi)
    return float(np.exp(log_p)[table[np.ix_(rows, columns)] & (rest >= 0)].sum())


def _window(n: int, p: float) -> NDArray[np.int64]:
    """The counts of a binomial(n, p) that hold all but 1e-12 of it."""
    reach = 7.5 * np.sqrt(n * p * (1 - p)) + 8
    return np.arange(max(0, int(n * p - reach)), min(n, int(n * p + reach)) + 1)


def exact_pass(n: int, margin: float, alpha: float = 0.05, psi_max: float = 1.0) -> NDArray[np.bool_]:
    """The gate's rule, `paired_interval(...).low > -margin`, as a table [lost, gained].

    Outcomes with more flips than psi_max makes likely are not computed and count as passes, so that an enumerated
    size at psi <= psi_max can only come out too large. With psi_max = 0.4 about 2 seconds at n = 500, 12 at n = 2,000.
    """
    check_margin(margin)
    check_alpha(alpha)
    table = np.add.outer(np.arange(n + 1), np.arange(n + 1)) <= n
    gained = 0
    for flips in range(_window(n, psi_max)[-1] + 1):  # for a number of flips, the more gains the better
        while gained <= flips and not _passes(flips - gained, gained, n, margin, alpha):
            gained += 1
        while gained > 0 and _passes(flips - gained + 1, gained - 1, n, margin, alpha):
            gained -= 1
        few = np.arange(gained)
        table[flips - few, few] = False
    return table


def _passes(lost: int, gained: int, n: int, margin: float, alpha: float) -> bool:
    if lost - gained >= n * margin or lost < 0:
        return lost < 0
    psi = plausible_psi(lost + gained, n, DOUBT * alpha)
    return worst_probability(at_least_as_good(lost, gained, n, alpha), -margin, psi) + DOUBT * alpha < alpha


def tango_pass(lost: ArrayLike, gained: ArrayLike, n: int, margin: float, alpha: float = 0.05) -> NDArray[np.bool_]:
    """Pass when Tango's lower bound at nominal alpha is above -margin. Broadcasts."""
    return tango_z(lost, gained, n, -margin) > norm.isf(alpha)


def wald_pass(lost: ArrayLike, gained: ArrayLike, n: int, margin: float, alpha: float = 0.05) -> NDArray[np.bool_]:
    """Pass when the textbook (CLT) bound is above -margin: the change minus z times its sample standard error."""
    lost, gained = np.asarray(lost), np.asarray(gained)
    change = (gained - lost) / n
    se = np.sqrt(np.maximum((lost + gained) / n - change**2, 0) / n)
    return change - norm.isf(alpha) * se > -margin


def mcnemar_pass(lost: ArrayLike, gained: ArrayLike, n: int, margin: float, alpha: float = 0.05) -> NDArray[np.bool_]:
    """Pass unless the candidate is significantly worse: exact two-sided McNemar p < alpha and more lost than gained.

    Absence of evidence read as evidence of absence; the margin plays no part. At n = 200 and psi = .15 it passes 63%
    of candidates that lost 5 points.
    """
    lost, gained = np.asarray(lost), np.asarray(gained)
    pvalue = 2 * binom.cdf(np.minimum(lost, gained), lost + gained, 0.5)
    return ~((pvalue < alpha) & (lost > gained))
