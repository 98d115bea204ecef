"""Shares with ties and over training runs: against Clopper-Pearson, Wilson, a hand-made tie, and by simulation."""

import math

import numpy as np
import pytest

from harness.stats import by_source, clopper_pearson, needed_for_share, share_interval, wilson


def column(right: int, wrong: int, ties: int = 0):
    return np.array([1.0] * right + [0.0] * wrong + [0.5] * ties)[:, None]


@pytest.mark.parametrize(("right", "n"), [(240, 300), (0, 20), (20, 20), (1, 1), (37, 50)])
def test_one_run_without_ties_is_clopper_and_pearsons(right, n):
    assert share_interval(column(right, n - right)) == pytest.approx(clopper_pearson(right, n), abs=1e-6)


def test_ties_count_half_and_are_surer_than_flips():
    tied = share_interval(column(20, 20, ties=60))
    assert tied.estimate == 0.5
    flipped = share_interval(column(50, 50))
    assert flipped.low < tied.low < 0.5 < tied.high < flipped.high


def test_runs_that_agree_everywhere_are_no_more_evidence_than_one():
    one = column(240, 60)
    many = share_interval(np.repeat(one, 3, axis=1))
    assert tuple(many) == pytest.approx(tuple(wilson(240, 300)), abs=4e-3)
    assert many.low <= wilson(240, 300).low + 1e-9


def test_items_of_one_source_count_once():
    values = [[1.0, 0.0], [0.0, 0.0], [1.0, 1.0]]
    assert by_source(values, ["a", "b", "a"]).tolist() == [[1.0, 0.5], [0.0, 0.0]]
    assert by_source(values, ["a", "b", "c"]).tolist() == values
    with pytest.raises(ValueError, match="sources names 2 items, but there are 3"):
        by_source(values, ["a", "b"])


def test_pairs_of_one_prompt_that_rise_and_fall_together_pass_at_the_target_no_more_often_than_others():
    rng, passed = np.random.default_rng(3), [0, 0]
    prompts = np.repeat(np.arange(50), 6)
    for _ in range(400):
        alike = np.repeat(rng.random(50) < 0.68, 6)
        right = np.where(rng.random(300) < 0.55, alike, rng.random(300) < 0.68).astype(float)[:, None]
        passed[0] += share_interval(by_source(right, prompts)).low > 0.68
        passed[1] += share_interval(right).low > 0.68
    assert passed[0] <= 0.075 * 400
    assert passed[1] > 0.12 * 400  # counted as if they were independent


def test_runs_that_differ_as_wholes_widen_the_interval():
    rng = np.random.default_rng(0)
    same = np.column_stack([rng.random(300) < 0.8 for _ in range(3)]).astype(float)
    apart = np.column_stack([rng.random(300) < p for p in (0.7, 0.8, 0.9)]).astype(float)
    widths = [found.high - found.low for found in map(share_interval, (same, apart))]
    assert widths[1] > 2 * widths[0]


def test_the_bounds_hold_their_error_rate_with_item_and_run_effects():
    """True share 0.8 over items and runs: each one-sided 95% bound may fail in one of twenty."""
    rng = np.random.default_rng(1)
    low = high = 0
    repeats, n, k = 400, 150, 4
    for _ in range(repeats):
        easy = rng.beta(3.2, 0.8, size=n)[:, None]  # the chance that an item is answered rightly; mean 0.8
        run = rng.normal(0, 0.015, size=k)[None, :]
        right = (rng.random((n, k)) < np.clip(easy + run, 0, 1)).astype(float)
        found = share_interval(right)
        low += found.low > 0.8
        high += found.high < 0.8
    for misses in (low, high):
        assert misses / repeats < 0.05 + 3 * math.sqrt(0.05 * 0.95 / repeats)
    assert low + high > 0  # and they are not so wide that they never miss


def test_the_number_of_items_is_that_of_the_formula_and_decides_as_often_as_said():
    # (1.6449 + 0.8416)^2 * 0.75 * 0.25 / 0.07^2 = 236.6
    assert needed_for_share(0.75, 0.68) == 237
    assert needed_for_share(0.61, 0.68) == needed_for_share(0.39, 0.32)
    assert needed_for_share(0.68, 0.68) is None
    rng = np.random.default_rng(2)
    passes = np.mean([clopper_pearson(int(k), 237).low > 0.68 for k in rng.binomial(237, 0.75, size=2000)])
    assert 0.70 < passes < 0.85  # exact bounds are a little wider than the formula's normal ones


@pytest.mark.parametrize(
    ("right", "message"),
    [
        (np.ones(3), "reshape"),
        (np.ones((0, 1)), "is empty"),
        (np.full((3, 1), 1.2), "outside"),
        ([[math.nan]], "finite"),
    ],
)
def test_what_is_no_share_is_refused(right, message):
    with pytest.raises(ValueError, match=message):
        share_interval(right)


def test_a_share_in_points_is_refused():
    with pytest.raises(ValueError, match="target is 68, but a share lies between 0 and 1; write 68 points as"):
        needed_for_share(0.7, 68)
