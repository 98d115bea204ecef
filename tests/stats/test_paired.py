"""Tango's interval and the gate's exact one, against published figures and a second implementation of each."""

import numpy as np
import pytest
from scipy.optimize import minimize_scalar
from scipy.stats import binom, multinomial, norm

from harness.stats import (
    clopper_pearson,
    exact_lower,
    exact_pvalue,
    paired_interval,
    pass_probability,
    tango,
    tango_z,
    zero_flip_bound,
)

TABLES = [(7, 1, 21), (16, 6, 161), (20, 40, 160), (0, 9, 30), (3, 0, 10), (1, 1, 2), (20, 14, 687), (2, 0, 5)]


# --- Tango ---


@pytest.mark.parametrize(
    ("lost", "gained", "n", "low", "high"),
    [
        # two-sided 95%, as printed in Fagerland, Lydersen and Laake, Statistical Analysis of Contingency Tables (2017),
        # chapter 8: airway hyper-responsiveness (Bentur 2009), complete response (Cavo 2012)
        (7, 1, 21, -0.517, -0.026),
        (16, 6, 161, -0.1240, -0.0054),
    ],
)
def test_tango_gives_the_published_intervals(lost, gained, n, low, high):
    interval = tango(lost, gained, n, alpha=0.025)
    assert interval.low == pytest.approx(low, abs=10 ** -(len(str(low)) - 3) / 2)
    assert interval.high == pytest.approx(high, abs=10 ** -(len(str(low)) - 3) / 2)


def score_by_search(lost, gained, n, theta0):
    """The score statistic with its constrained rates found by maximising the likelihood numerically."""

    def minus_log_likelihood(q):
        rates = np.array([q, q + theta0, 1 - 2 * q - theta0])
        counts = np.array([lost, gained, n - lost - gained])
        used = counts > 0
        return -(counts[used] * np.log(np.maximum(rates[used], 1e-300))).sum()

    ends = max(0.0, -theta0), (1 - theta0) / 2
    q = minimize_scalar(minus_log_likelihood, bounds=ends, method="bounded", options={"xatol": 1e-12}).x
    return (gained - lost - n * theta0) / np.sqrt(n * (2 * q + theta0 - theta0**2))


@pytest.mark.parametrize("table", TABLES)
@pytest.mark.parametrize("theta0", [-0.6, -0.05, 0.02, 0.4])
def test_the_closed_form_is_the_constrained_maximum_likelihood(table, theta0):
    assert tango_z(*table, theta0) == pytest.approx(score_by_search(*table, theta0), rel=1e-4, abs=1e-4)


@pytest.mark.parametrize("table", TABLES)
def test_tango_bounds_are_where_the_score_reaches_z(table):
    grid = np.linspace(-0.9999, 0.9999, 400_001)
    inside = grid[np.abs(tango_z(*table, grid)) < norm.isf(0.05)]
    interval = tango(*table)
    assert interval.low == pytest.approx(inside[0], abs=1e-5)
    assert interval.high == pytest.approx(inside[-1], abs=1e-5)


def test_tango_at_the_edges():
    z2 = norm.isf(0.05) ** 2
    assert tango(0, 0, 50) == pytest.approx((0, -z2 / (50 + z2), z2 / (50 + z2)))  # no flips: closed form
    assert tango(50, 0, 50)[:2] == (-1, -1)
    assert tango(0, 50, 50)[::2] == (1, 1)
    assert tango(1, 0, 1).high < 1
    assert tango(2, 2, 4) == pytest.approx((0, -tango(2, 2, 4).high, tango(2, 2, 4).high))
    assert tango_z(0, 0, 10, 0.0) == 0
    assert tango_z(10, 0, 10, -1.0) == 0
    assert tango_z(9, 0, 10, -1.0) == np.inf


# --- exact ---


def buehler_by_brute_force(lost, gained, n, alpha):
    """The exact bound from its definition: all outcomes in a list, a fine grid of psi, bisection."""
    outcomes = [(b, c) for b in range(n + 1) for c in range(n + 1 - b)]
    own = tango(lost, gained, n, alpha).low
    good = np.array([(b, c) for b, c in outcomes if tango(b, c, n, alpha).low >= own - 1e-9])
    good = np.column_stack([good, n - good.sum(axis=1)])
    flips, doubt = lost + gained, alpha / 1000
    grid = np.linspace(0, 1, 4001)
    plausible = grid[(binom.sf(flips - 1, n, grid) > doubt / 2) & (binom.cdf(flips, n, grid) > doubt / 2)]

    def worst(theta):
        psis = plausible[plausible >= abs(theta)]
        rates = np.column_stack([(psis - theta) / 2, (psis + theta) / 2, 1 - psis])
        return max((multinomial.pmf(good, n, rate).sum() for rate in rates[::8]), default=0)

    low, high = -1.0, (gained - lost) / n
    for _ in range(22):
        middle = (low + high) / 2
        low, high = (low, middle) if worst(middle) + doubt > alpha else (middle, high)
    return low


@pytest.mark.parametrize("table", [(1, 3, 12), (0, 1, 9), (4, 2, 10)])
def test_the_exact_bound_agrees_with_its_definition(table):
    assert exact_lower(*table) == pytest.approx(buehler_by_brute_force(*table, 0.05), abs=2e-3)


def test_both_exact_bounds_hold_for_every_change_and_discordance():
    n = 30
    lows, highs = np.full((n + 1, n + 1), -2.0), np.full((n + 1, n + 1), 2.0)
    for lost in range(n + 1):
        for gained in range(n + 1 - lost):
            _, lows[lost, gained], highs[lost, gained] = paired_interval(lost, gained, n)
    for theta in (-0.5, -0.11, -0.05, -0.03, 0.0, 0.02, 0.3):
        psis = np.linspace(abs(theta), 1, 60)
        assert pass_probability(lows > theta, theta, psis).max() <= 0.05
        assert pass_probability(highs < theta, theta, psis).max() <= 0.05


def test_the_exact_bound_is_consistent():
    n = 40
    lows = np.array([[exact_lower(b, c, n) for c in range(10)] for b in range(10)])
    assert (np.diff(lows, axis=1) > -1e-9).all()  # more gains: higher
    assert (np.diff(lows, axis=0) < 1e-9).all()  # more losses: lower
    assert paired_interval(3, 8, n).low == pytest.approx(-paired_interval(8, 3, n).high, abs=0)
    assert exact_lower(3, 8, n, alpha=0.01) < exact_lower(3, 8, n, alpha=0.05)


@pytest.mark.parametrize("n", [1, 2, 10, 59, 100, 500, 2000])
def test_zero_flips_never_claim_less_loss_than_is_exact(n):
    bound = zero_flip_bound(n)
    assert -bound * 1.005 <= paired_interval(0, 0, n).low <= -bound


def test_exact_bounds_at_the_edges():
    assert paired_interval(0, 0, 1) == pytest.approx((0, -0.95, 0.95), abs=1e-3)
    assert paired_interval(1, 0, 1) == pytest.approx((-1, -1, 0.9), abs=1e-3)
    assert paired_interval(0, 1, 1) == pytest.approx((1, -0.9, 1), abs=1e-3)
    assert paired_interval(1, 1, 2).low == -paired_interval(1, 1, 2).high
    assert paired_interval(100, 0, 100).low == -1
    assert paired_interval(0, 100, 100).high == 1


def test_the_exact_bound_costs_little_against_tango():
    for table in [(10, 10, 200), (12, 8, 200), (34, 34, 687), (100, 100, 2000)]:
        assert exact_lower(*table) == pytest.approx(tango(*table).low, abs=0.0004)


def test_the_p_value_is_the_worst_tail():
    n, lost, gained, margin = 15, 1, 3, 0.2
    outcomes = np.array([(b, c, n - b - c) for b in range(n + 1) for c in range(n + 1 - b)])
    good = outcomes[tango_z(outcomes[:, 0], outcomes[:, 1], n, -margin) >= tango_z(lost, gained, n, -margin) - 1e-9]
    psis = np.linspace(margin, clopper_pearson(lost + gained, n, 0.5e-6).high, 300)
    tails = [multinomial.pmf(good, n, [(p + margin) / 2, (p - margin) / 2, 1 - p]).sum() for p in psis]
    assert exact_pvalue(lost, gained, n, margin) == pytest.approx(max(tails) + 1e-6, abs=1e-5)


def test_p_values_agree_with_the_bounds():
    low = exact_lower(9, 12, 300)
    assert exact_pvalue(9, 12, 300, -low + 0.002) < 0.05 < exact_pvalue(9, 12, 300, -low - 0.002)
    high = paired_interval(40, 5, 300).high
    assert exact_pvalue(40, 5, 300, -high - 0.002, "REGRESSED") < 0.05
    assert exact_pvalue(40, 5, 300, -high + 0.002, "REGRESSED") > 0.05
    assert exact_pvalue(90, 5, 300, 0.03, "REGRESSED") < 1e-5
    assert exact_pvalue(0, 0, 100, 0.03) == pytest.approx(0.97**100, abs=2e-3)


@pytest.mark.parametrize("function", [tango, paired_interval, exact_lower])
def test_no_items_give_no_bound(function):
    with pytest.raises(ValueError, match="n is 0, but a rate needs at least one whole item"):
        function(0, 0, 0)
