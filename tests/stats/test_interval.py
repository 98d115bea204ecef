"""Input rules of the intervals: every error names the value, the rule and the remedy."""

import numpy as np
import pytest

from harness.stats import zero_flip_bound
from harness.stats.interval import changes, check_alpha, check_counts, check_margin, finite


@pytest.mark.parametrize(("n", "points"), [(1, 95.0), (2, 77.64), (100, 2.95), (500, 0.60), (687, 0.44)])
def test_zero_flip_bound(n, points):
    assert 100 * zero_flip_bound(n) == pytest.approx(points, abs=0.005)


@pytest.mark.parametrize(
    ("call", "text"),
    [
        (
            lambda: zero_flip_bound(0),
            "n is 0, but a rate needs at least one whole item; check that the benchmark has scores",
        ),
        (lambda: zero_flip_bound(2.5), "n is 2.5, but"),
        (lambda: check_alpha(0.95), "alpha is 0.95, but an error rate lies between 0 and 0.5; use 0.05 for 95% bounds"),
        (lambda: check_margin(3), "margin is 3, but a margin is a proportion between 0 and 1; write 3 points as 0.03"),
        (lambda: check_margin(float("nan")), "margin is nan, but"),
        (lambda: check_counts(-1, 0, 5), "lost is -1, but it counts items; pass a whole number from 0 to n = 5"),
        (lambda: check_counts(0, 0.5, 5), "gained is 0.5, but it counts items"),
        (lambda: check_counts(3, 3, 5), r"lost \+ gained is 6, more than the n = 5 shared items; count each item once"),
        (lambda: finite([], "x", 1), r"x is empty \(shape \(0,\)\), and no data give no bound; check the scores"),
        (lambda: finite([1.0], "x", 2), r"x has 1 axes \(shape \(1,\)\), but 2 are needed; reshape it"),
        (
            lambda: finite([0, np.nan], "x", 1),
            r"x is nan at \(1,\), but every score must be finite; score that item again",
        ),
        (lambda: changes([[0.0, -3.0]], "d", 2), r"d is -3.0 at \(0, 1\), but a change .* divide points by 100"),
    ],
)
def test_errors_name_the_value_the_rule_and_the_remedy(call, text):
    with pytest.raises(ValueError, match=text):
        call()
