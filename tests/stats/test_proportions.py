"""Bounds of one proportion, against scipy's own, and against their definitions."""

import pytest
from scipy.stats import binomtest

from harness.stats import clopper_pearson, wilson

CASES = [(0, 1), (1, 1), (1, 2), (0, 20), (20, 20), (3, 20), (72, 100), (431, 600)]


@pytest.mark.parametrize(("k", "n"), CASES)
@pytest.mark.parametrize(("function", "method"), [(wilson, "wilson"), (clopper_pearson, "exact")])
def test_both_agree_with_scipy(function, method, k, n):
    theirs = binomtest(k, n).proportion_ci(confidence_level=0.9, method=method)
    assert function(k, n, alpha=0.05) == pytest.approx((k / n, theirs.low, theirs.high), abs=1e-9)


@pytest.mark.parametrize(("k", "n"), CASES)
def test_clopper_pearson_bounds_have_tails_of_alpha(k, n):
    interval = clopper_pearson(k, n)
    assert k == 0 or binomtest(k, n, interval.low, "greater").pvalue == pytest.approx(0.05)
    assert k == n or binomtest(k, n, interval.high, "less").pvalue == pytest.approx(0.05)


@pytest.mark.parametrize("function", [wilson, clopper_pearson])
@pytest.mark.parametrize(
    ("k", "n", "text"),
    [(0, 0, "n is 0, but a rate"), (5, 4, "k is 5, but it counts successes among n = 4"), (-1, 4, "k is -1")],
)
def test_errors(function, k, n, text):
    with pytest.raises(ValueError, match=text):
        function(k, n)
