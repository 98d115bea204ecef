"""Krippendorff's alpha against the worked examples of its author and another implementation; bounds by simulation."""

import numpy as np
import pytest

from harness.stats import agreement, krippendorff_alpha

NONE = np.nan

# Krippendorff 2011, Computing Krippendorff's Alpha-Reliability, sections A and C
BINARY = [[0, 1, 0, 0, 0, 0, 0, 0, 1, 0], [1, 1, 1, 0, 0, 1, 0, 0, 0, 0]]
WITH_MISSING = [
    [1, 2, 3, 3, 2, 1, 4, 1, 2, NONE, NONE, NONE],
    [1, 2, 3, 3, 2, 2, 4, 1, 2, 5, NONE, 3],
    [NONE, 3, 3, 3, 2, 3, 4, 2, 2, 5, 1, NONE],
    [1, 2, 3, 3, 2, 4, 4, 1, 2, 5, 1, NONE],
]


def rated(rng, units, raters, share):
    """Three categories; each rater takes the unit's own with probability `share`, else any: alpha is share^2."""
    own = rng.choice(3, (units, 1), p=(0.5, 0.3, 0.2))
    return np.where(rng.random((units, raters)) < share, own, rng.choice(3, (units, raters), p=(0.5, 0.3, 0.2)))


def test_two_raters_and_two_categories_as_published():
    assert krippendorff_alpha(np.transpose(BINARY)) == pytest.approx(0.095, abs=5e-4)


def test_four_raters_with_missing_values_as_published():
    assert krippendorff_alpha(np.transpose(WITH_MISSING)) == pytest.approx(0.743, abs=5e-4)


def test_another_implementation():
    """krippendorff 0.9.0 on these ratings; it is no dependency, as its licence is the GPL."""
    rng = np.random.default_rng(0)
    ratings = rng.integers(0, 3, (40, 3)).astype(float)
    ratings[rng.random(ratings.shape) < 0.15] = NONE
    ratings[:20, 1] = ratings[:20, 0]
    assert krippendorff_alpha(ratings) == pytest.approx(0.1334227287965135)


def test_perfect_chance_and_contrary():
    assert krippendorff_alpha([[1, 1], [2, 2]]) == 1
    assert krippendorff_alpha([[0, 1], [1, 0], [0, 1]]) < -0.5
    assert abs(krippendorff_alpha(rated(np.random.default_rng(1), 20000, 3, 0.0))) < 0.01


def test_where_chance_would_agree_as_well_there_is_no_alpha():
    assert np.isnan(krippendorff_alpha(np.ones((9, 3))))
    assert np.isnan(krippendorff_alpha([[1, NONE], [NONE, 2]]))
    with pytest.raises(ValueError, match="all ratings are alike or no unit has two"):
        agreement(np.ones((9, 3)), np.random.default_rng(0))


def test_planted_agreement_lies_within_the_bounds():
    rng, inside = np.random.default_rng(2), 0
    for _ in range(100):
        bound = agreement(rated(rng, 50, 3, 0.7), rng, resamples=200)
        inside += bound.low <= 0.49 <= bound.high
    assert inside >= 82, "two bounds at 95% cover 90 in 100"
    assert bound.high - bound.low < 0.45


def test_errors():
    with pytest.raises(ValueError, match=r"ratings have the shape \(3,\), but units and raters are needed"):
        krippendorff_alpha([1, 2, 3])


def test_where_many_resamples_have_no_alpha_a_bound_is_the_end_of_its_range():
    ratings = np.ones((50, 3))
    ratings[0, 0] = 0
    bound = agreement(ratings, np.random.default_rng(0))
    assert (bound.low, bound.high) == (-1.0, 1.0)
