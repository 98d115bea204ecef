"""How many items decide a margin, and which margin a number of items can decide. Said before any model runs.

Normal approximation with variance (psi - theta^2) / n, psi the discordance and theta the true change; all proportions.
Source: Nam 1997, Biometrics 53:1422-1430; Liu, Hsueh, Hsieh and Chen 2002, Statistics in Medicine 21:231-245.
"""

import math

from scipy.stats import norm

from harness.stats.interval import check_alpha, check_items, check_margin


def sample_size(margin: float, psi: float, theta: float = 0.0, alpha: float = 0.05, power: float = 0.8) -> int:
    """The least number of items for a PASS with probability `power`: 687 for 3 points at psi = .10, 248 for 5 points.

    n = (z(1 - alpha) + z(power))^2 (psi - theta^2) / (margin + theta)^2. At psi = 0 it is the number at which zero
    flips pass. Raises ValueError if theta <= -margin, where no number of items is enough.
    """
    check_margin(margin)
    _check(psi, theta, alpha, power)
    if theta <= -margin:
        raise ValueError(
            f"theta is {theta}, a loss of the margin {margin} or more, so no number of items gives a PASS; "
            "plan with a smaller loss or a wider margin"
        )
    normal = _reach(alpha, power) ** 2 * (psi - theta**2) / (margin + theta) ** 2
    return max(math.ceil(normal - 1e-9), math.ceil(math.log(alpha) / math.log1p(-margin)))


def power_of(n: int, margin: float, psi: float, theta: float = 0.0, alpha: float = 0.05) -> float:
    """Probability in [0, 1] that n items give a PASS when the true change is theta and the discordance psi."""
    check_items(n)
    check_margin(margin)
    _check(psi, theta, alpha, 0.8)
    if (1 - margin) ** n >= alpha:
        return 0.0  # not even zero flips would pass
    sd = math.sqrt(psi - theta**2)
    if sd == 0:
        return 1.0 if theta > -margin else 0.0
    return float(norm.cdf((margin + theta) * math.sqrt(n) / sd - norm.isf(alpha)))


def detectable_margin(n: int, psi: float, alpha: float = 0.05, power: float = 0.8) -> float:
    """The smallest margin, in [0, 1], that n items PASS with probability `power` when nothing changed.

    A margin below it mostly ends INCONCLUSIVE. Never below the bound of zero flips.
    """
    check_items(n)
    _check(psi, 0.0, alpha, power)
    return min(1.0, max(_reach(alpha, power) * math.sqrt(psi / n), -math.expm1(math.log(alpha) / n)))


def _reach(alpha: float, power: float) -> float:
    return float(norm.isf(alpha) + norm.ppf(power))


def _check(psi: float, theta: float, alpha: float, power: float) -> None:
    check_alpha(alpha)
    if not abs(theta) <= psi <= 1:
        raise ValueError(f"psi is {psi}, but the share of flips is between |theta| = {abs(theta)} and 1; 0.1 is usual")
    if not alpha < power < 1:
        raise ValueError(f"power is {power}, but it lies between alpha = {alpha} and 1; 0.8 is usual")
