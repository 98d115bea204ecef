"""Crossed bounds: against the textbook formulas, by simulated coverage, and at the edges where variance is missing."""

import numpy as np
import pytest
from scipy.stats import t as student

from harness.stats import (
    CrossedInterval,
    components,
    crossed,
    crossed_pvalue,
    crossed_recipe,
    paired_interval,
    with_floor,
    zero_flip_bound,
)


def simulate(rng, items, seeds, change=0.0, item_sd=0.25, seed_sd=0.0, noise=0.2):
    """Normal crossed effects: [items, seeds]."""
    effects = rng.normal(0, item_sd, (items, 1)) + rng.normal(0, seed_sd, (1, seeds))
    return np.clip(change + effects + rng.normal(0, noise, (items, seeds)), -1, 1)


def test_the_bound_is_the_textbook_formula():
    d = simulate(np.random.default_rng(0), 12, 4, seed_sd=0.1)
    n, k = d.shape
    rows, columns, mean = d.mean(axis=1), d.mean(axis=0), d.mean()
    item = k * ((rows - mean) ** 2).sum() / (n - 1)
    seed = n * ((columns - mean) ** 2).sum() / (k - 1)
    error = ((d - rows[:, None] - columns + mean) ** 2).sum() / ((n - 1) * (k - 1))
    total = item + seed - error
    df = total**2 / (item**2 / (n - 1) + seed**2 / (k - 1) + error**2 / ((n - 1) * (k - 1)))
    se = np.sqrt(total / (n * k))
    reach = student.isf(0.05, df) * se
    assert crossed(d, floor=False) == pytest.approx((mean, mean - reach, mean + reach, se, df))


def test_three_factors_recover_their_variance():
    """The mean of 400 estimated variances of the mean is the true one: se^2 = .04/4 + .09/30 + .01/3 + .04/360."""
    rng = np.random.default_rng(1)
    squares = []
    for _ in range(400):
        runs, items, seeds = (
            rng.normal(0, 0.02, (4, 1, 1)),
            rng.normal(0, 0.03, (1, 30, 1)),
            rng.normal(0, 0.01, (1, 1, 3)),
        )
        d = runs + items + seeds + rng.normal(0, 0.02, (4, 30, 3))
        squares.append(crossed_recipe(d, floor=False).se ** 2)
    truth = 0.02**2 / 4 + 0.03**2 / 30 + 0.01**2 / 3 + 0.02**2 / 360
    assert np.mean(squares) == pytest.approx(truth, rel=0.12)


@pytest.mark.parametrize(("seeds", "seed_sd"), [(3, 0.0), (3, 0.02), (5, 0.0), (5, 0.02)])
def test_coverage_at_300_items(seeds, seed_sd):
    """Two-sided 95%, so each bound at 2.5%: 94 to 97%; pooling all scores as independent covers far less."""
    rng = np.random.default_rng(2)
    hits = pooled = 0
    for _ in range(1000):
        d = simulate(rng, 300, seeds, change=-0.03, seed_sd=seed_sd)
        bound = crossed(d, alpha=0.025, floor=False)
        hits += bound.low <= -0.03 <= bound.high
        pooled += abs(d.mean() + 0.03) <= 1.96 * d.std() / np.sqrt(d.size)
    assert 0.935 <= hits / 1000 <= 0.975
    assert pooled / 1000 < 0.90


def test_rare_losses_under_every_seed_are_not_waved_through():
    """n = 200, 3% of items lost whatever the seed, margin 3: the bare t bound passes 15%, the gate about 6% at most."""
    rng = np.random.default_rng(3)
    bare = gate = 0
    for _ in range(1500):
        d = np.repeat(-(rng.random((200, 1)) < 0.03).astype(float), 3, axis=1)
        bare += crossed(d, floor=False).low > -0.03
        gate += crossed(d).low > -0.03
    assert bare / 1500 > 0.12
    assert gate / 1500 < 0.075


def test_two_seeds_that_look_alike_by_chance_are_not_waved_through():
    """Worst where seeds shift the mean about as much as items do; 8.4% pass with Satterthwaite's degrees alone."""
    rng, n, passed = np.random.default_rng(8), 200, 0
    for _ in range(1500):
        item, error = rng.normal(0, 0.15, (n, 1)), rng.normal(0, 0.1, (n, 2))
        seed = rng.normal(0, np.sqrt(2 * 1.5 * (0.15**2 / n + 0.1**2 / (2 * n))), (1, 2))
        passed += crossed(np.clip(item + seed + error, -1, 1), floor=False).low > 0
    assert passed < 0.06 * 1500


def test_identical_seeds_count_once():
    rng = np.random.default_rng(4)
    d = rng.choice([-1.0, 0.0, 1.0], p=[0.08, 0.86, 0.06], size=(300, 1))
    once, thrice = crossed(d), crossed(np.repeat(d, 3, axis=1))
    assert thrice.se == pytest.approx(once.se)
    assert thrice.low == pytest.approx(once.low, abs=0.002)


def test_a_sample_without_variance_is_not_certainty():
    for n in (2, 4, 100):
        bound = crossed(np.zeros((n, 3)))
        assert bound.low == pytest.approx(-zero_flip_bound(n))
        assert bound.high == pytest.approx(zero_flip_bound(n))
    half = crossed(np.full((10, 2), 0.5))
    assert half.low == pytest.approx(0.5 - 1.5 * zero_flip_bound(10))  # a tenth of the items may lie at -1
    assert half.high == pytest.approx(0.5 + 0.5 * zero_flip_bound(10))
    assert crossed(np.zeros((4, 3)), floor=False)[:3] == (0, 0, 0)


def test_negative_components_do_not_shrink_the_bound():
    d = np.tile([[0.2, -0.2], [-0.2, 0.2]], (5, 1))  # all interaction: no item effect, no seed effect
    bound = crossed(d)
    assert bound.se >= 0
    assert bound.low <= -zero_flip_bound(10) * 0.999


def test_one_seed_right_or_wrong_is_the_exact_paired_bound():
    d = np.array([-1] * 3 + [1] * 5 + [0] * 92)[:, None]
    assert crossed(d)[:3] == paired_interval(3, 5, 100)


def test_one_seed_fractional_and_one_item():
    d = np.random.default_rng(5).uniform(-0.1, 0.1, (200, 1))
    bound = crossed(d)
    assert bound.df == 199
    assert with_floor(d.mean(), 200).low - 2 * bound.se < bound.low < with_floor(d.mean(), 200).low
    lonely = crossed([[0.1, 0.3]])
    assert isinstance(lonely, CrossedInterval)
    assert lonely.se == 1
    assert lonely.low < -0.9


def test_bounds_stay_within_the_range_of_a_change():
    bare = crossed([[1.0, 0.0], [-1.0, 0.0]], floor=False)
    assert (bare.low, bare.high) == (-1, 1)
    assert crossed(-np.ones((5, 2)))[:2] == (-1, -1)


def test_a_recipe_is_wider_than_its_runs():
    rng = np.random.default_rng(6)
    d = np.stack([simulate(rng, 200, 2, change=shift) for shift in (-0.06, 0.0, 0.06)])
    recipe = crossed_recipe(d)
    assert recipe.df < 5
    assert recipe.se > 2 * max(crossed(run).se for run in d)
    single = crossed_recipe(d[:, :, :1])
    assert single[3:] == pytest.approx(crossed(d[:, :, 0].T, floor=False)[3:])


def test_with_floor_is_symmetric():
    assert with_floor(0.2, 30).low == -with_floor(-0.2, 30).high


@pytest.mark.parametrize(
    ("call", "text"),
    [
        (lambda: crossed(np.zeros((0, 3))), r"d is empty \(shape \(0, 3\)\), and no data give no bound"),
        (lambda: crossed([[0.0, np.nan]]), r"d is nan at \(0, 1\), but every score must be finite"),
        (lambda: crossed([[3.0, 1.0]]), r"d is 3.0 at \(0, 0\), but a change of scores in \[0, 1\] lies in \[-1, 1\]"),
        (lambda: crossed([0.0, 1.0]), "d has 1 axes"),
        (
            lambda: crossed_recipe(np.zeros((2, 9, 3))),
            "d has 2 candidates, but a recipe is judged on three or more training seeds; train more of them, or judge",
        ),
        (lambda: crossed_recipe(np.zeros((3, 1, 3))), "d has 1 item, but the spread of items needs two or more"),
    ],
)
def test_errors(call, text):
    with pytest.raises(ValueError, match=text):
        call()


@pytest.mark.parametrize("margin", [0.0, 0.03, 0.05])
def test_the_pvalue_is_the_level_at_which_the_bound_decides(margin):
    d = simulate(np.random.default_rng(5), 80, 3, change=-0.08)
    p = crossed_pvalue(d, margin)
    assert crossed(d, p * 1.01).high < -margin
    assert not crossed(d, p / 1.01).high < -margin


def test_no_loss_has_no_evidence():
    assert crossed_pvalue(np.zeros((50, 3)), 0.03) == 1.0


def test_components_are_recovered():
    rng = np.random.default_rng(6)
    found = np.mean(
        [components(simulate(rng, 60, 4, item_sd=0.1, seed_sd=0.05, noise=0.08)) for _ in range(300)], axis=0
    )
    assert found == pytest.approx((0.1**2, 0.05**2, 0.08**2), rel=0.15)


def test_components_say_what_more_items_or_seeds_would_give():
    parts = components(simulate(np.random.default_rng(7), 60, 4, seed_sd=0.05))
    assert parts.of_mean(60, 4) == pytest.approx(
        crossed(simulate(np.random.default_rng(7), 60, 4, seed_sd=0.05)).se ** 2
    )
