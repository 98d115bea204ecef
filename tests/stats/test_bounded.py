"""Gaffke's bound: exact on two-valued data, equal to its simulation, safe where the t bound breaks."""

import numpy as np
import pytest
from scipy.stats import t as student

from harness.stats import bounded_interval, clopper_pearson, zero_flip_bound


@pytest.mark.parametrize(("k", "n"), [(0, 1), (1, 1), (1, 2), (0, 10), (3, 10), (10, 10), (5, 300), (150, 300)])
def test_two_valued_data_give_the_exact_binomial_bound(k, n):
    assert bounded_interval([1.0] * k + [0.0] * (n - k), low=0) == pytest.approx(clopper_pearson(k, n), abs=1e-7)


@pytest.mark.parametrize("n", [200, 1000, 1658, 10000])
@pytest.mark.parametrize("alpha", [0.05, 1e-3, 1e-6])
def test_no_number_of_equal_values_promises_less_than_zero_flips(n, alpha):
    low = bounded_interval(np.zeros(n), alpha).low
    assert low == pytest.approx(-zero_flip_bound(n, alpha), rel=5e-3)
    assert low <= -zero_flip_bound(n, alpha)


def test_equal_values_give_the_bound_of_zero_flips():
    assert bounded_interval(np.zeros(100)) == pytest.approx((0, -zero_flip_bound(100), zero_flip_bound(100)), abs=1e-7)
    assert bounded_interval([-1.0, -1.0]).low == -1


@pytest.mark.parametrize("n", [1, 2, 7, 40])
def test_the_integral_is_the_quantile_of_the_dirichlet_mean(n):
    rng = np.random.default_rng(n)
    x = np.round(rng.beta(0.5, 2, n) * rng.choice([-1, 1], n), 1)  # with ties
    means = rng.dirichlet(np.ones(n + 1), 100_000) @ np.append(x, -1)
    assert bounded_interval(x, 0.05).low == pytest.approx(np.quantile(means, 0.05), abs=0.012)


def test_large_samples_approach_students_t():
    x = np.random.default_rng(0).uniform(-0.2, 0.3, 14_000)
    reach = student.isf(0.05, 13_999) * x.std(ddof=1) / np.sqrt(14_000)
    assert bounded_interval(x) == pytest.approx((x.mean(), x.mean() - reach, x.mean() + reach), abs=0.0001)


@pytest.mark.parametrize("n", [5, 30])
@pytest.mark.parametrize("rare", [0.03, 0.2])
def test_rare_large_losses_do_not_break_it(n, rare):
    """Most items move a little, a few are lost whole: t misses the mean far too often, this at most 5%."""
    rng = np.random.default_rng(7)
    truth, runs = -rare * 0.75 + (1 - rare) * 0.01, 400
    misses = t_misses = 0
    for _ in range(runs):
        x = np.where(rng.random(n) < rare, -rng.uniform(0.5, 1, n), rng.uniform(0, 0.02, n))
        misses += bounded_interval(x).low > truth
        t_misses += x.mean() - student.isf(0.05, n - 1) * x.std(ddof=1) / np.sqrt(n) > truth
    assert misses / runs <= 0.05
    assert t_misses / runs > 0.10


@pytest.mark.parametrize(
    ("call", "text"),
    [
        (lambda: bounded_interval([]), "x is empty"),
        (lambda: bounded_interval([0.2, 1.5]), r"x ranges over \[0.2, 1.5\], outside \[-1.0, 1.0\]; pass the range"),
        (lambda: bounded_interval([0.2], low=1, high=0), "low is 1 and high is 0, but low must be below high"),
    ],
)
def test_errors(call, text):
    with pytest.raises(ValueError, match=text):
        call()
