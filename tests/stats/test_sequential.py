"""Early stopping: the formula by hand, wrong verdicts within alpha at the margin, and the items that it saves."""

from collections import Counter

import numpy as np
import pytest

from harness.stats import betting_bounds, betting_evalues, stopping_time
from harness.stats.sequential import LAMBDAS


def benchmark(theta, psi, n=1000):
    lost, gained = round(n * (psi - theta) / 2), round(n * (psi + theta) / 2)
    return np.repeat([-1.0, 1.0, 0.0], [lost, gained, n - lost - gained])


def outcomes(theta, psi, population, runs=500, margin=0.03):
    rng = np.random.default_rng(0)
    items, used, verdicts = benchmark(theta, psi), [], Counter()
    for _ in range(runs):
        d = rng.permutation(items) if population else rng.choice(items, len(items))
        n, verdict = stopping_time(d, margin, population=population)
        used.append(n)
        verdicts[verdict] += 1
    return np.mean(used), verdicts


def evalue_by_hand(d, margin, side, population):
    wealth, seen = np.ones(len(LAMBDAS)), 0.0
    for i, value in enumerate(d):
        mean = -margin if population is None else (population * -margin - seen) / (population - i)
        wealth *= 1 + LAMBDAS * (value - mean) * (1 if side == "PASS" else -1)
        seen += value
    return wealth.mean()


@pytest.mark.parametrize("side", ["PASS", "REGRESSED"])
@pytest.mark.parametrize("population", [None, 60])
def test_the_evidence_is_the_formula(side, population):
    d = np.random.default_rng(1).choice([-1.0, 0.0, 0.5], size=30, p=[0.1, 0.8, 0.1])
    evidence = betting_evalues(d, 0.05, side, population)
    expected = [evalue_by_hand(d[: i + 1], 0.05, side, population) for i in range(30)]
    assert evidence == pytest.approx(expected)


@pytest.mark.parametrize("population", [None, 12])
def test_under_the_null_wealth_does_not_grow_on_average(population):
    """All orders of 12 items whose mean is the margin, sampled; with replacement from the same items otherwise."""
    rng = np.random.default_rng(2)
    items = np.array([-1.0] * 4 + [1.0] + [0.0] * 7)
    draws = [rng.permutation(items) if population else rng.choice(items, 12) for _ in range(4000)]
    for side in ("PASS", "REGRESSED"):
        evidence = np.array([betting_evalues(d, 0.25, side, population)[:9] for d in draws])
        assert evidence.mean(axis=0) == pytest.approx(np.ones(9), abs=0.05)


def test_no_change_saves_half_of_the_items_and_a_large_loss_four_fifths():
    """Figures of our statistics page: 425 and 153 of 1000 items on average, margin 3, psi .10, without replacement."""
    mean, verdicts = outcomes(0.0, 0.10, population=1000)
    assert verdicts == {"PASS": 500}
    assert mean == pytest.approx(425, abs=25)
    mean, verdicts = outcomes(-0.10, 0.10, population=1000)
    assert verdicts == {"REGRESSED": 500}
    assert mean == pytest.approx(153, abs=15)
    assert outcomes(-0.10, 0.15, population=1000)[0] < 200


@pytest.mark.parametrize("population", [None, 1000])
def test_wrong_verdicts_at_the_margin_are_rare(population):
    _, verdicts = outcomes(-0.03, 0.10, population)
    assert verdicts["PASS"] / 500 <= 0.05
    assert verdicts["REGRESSED"] / 500 <= 0.05


def test_a_benchmark_seen_whole_is_decided():
    d = np.array([-1.0, 0.0, 0.0, 0.0])
    assert stopping_time(d, 0.30, population=4) == (4, "PASS")
    assert stopping_time(d, 0.20, population=4) == (4, "REGRESSED")
    assert stopping_time(d, 0.25, population=4) == (4, None)  # exactly the margin: neither smaller nor larger
    assert stopping_time(d, 0.30) == (4, None)
    assert betting_evalues(d, 0.30, "PASS", 4)[-1] == np.inf


def test_it_is_decided_when_the_rest_cannot_undo_it():
    assert stopping_time([1.0, 1.0], 0.5, population=3) == (1, "PASS")  # even two losses to come are -1/3
    assert stopping_time([-1.0] * 20, 0.05, population=20)[1] == "REGRESSED"
    assert stopping_time([1.0] * 20, 0.05, population=20)[1] == "PASS"


def test_equal_models_pass():
    assert stopping_time(np.zeros(1000), 0.03, population=1000)[1] == "PASS"
    assert stopping_time([0.0], 0.03, population=1) == (1, "PASS")


@pytest.mark.parametrize(
    ("call", "text"),
    [
        (lambda: stopping_time([], 0.03), "d is empty"),
        (lambda: betting_evalues([0.0], 0.03, "FAIL"), "side is 'FAIL', but evidence is for 'PASS' or for 'REGRESSED'"),
        (lambda: betting_evalues([0.0] * 3, 0.03, "PASS", 2), "population is 2, but 3 items were seen; pass the size"),
        (lambda: betting_evalues([0.0], 3, "PASS"), "margin is 3, but a margin is a proportion"),
    ],
)
def test_errors(call, text):
    with pytest.raises(ValueError, match=text):
        call()


@pytest.mark.parametrize("population", [None, 1000])
def test_the_bounds_agree_with_the_verdict_at_every_item(population):
    rng = np.random.default_rng(3)
    d = rng.permutation(benchmark(-0.06, 0.2))[:400]
    for n in (50, 150, 400):
        low, high = betting_bounds(d[:n], population=population)[1:]
        for margin in (0.01, 0.03, 0.05, 0.1):
            _, side = stopping_time(d[:n], margin, population=population)
            assert (low > -margin) == (betting_evalues(d[:n], margin, "PASS", population).max() >= 20)
            assert (high < -margin) == (betting_evalues(d[:n], margin, "REGRESSED", population).max() >= 20)
            assert side is None or {"PASS": low > -margin, "REGRESSED": high < -margin}[side]


def test_the_bounds_hold_whenever_one_stops():
    rng, misses = np.random.default_rng(4), 0
    for _ in range(200):
        d = rng.permutation(benchmark(-0.03, 0.10, 400))
        misses += any(betting_bounds(d[:n], population=400).low > -0.03 + 1e-5 for n in (50, 100, 200, 400))
    assert misses <= 0.05 * 200


def test_a_benchmark_that_was_seen_whole_is_known():
    d = benchmark(-0.03, 0.10, 200)
    low, high = betting_bounds(np.random.default_rng(5).permutation(d), population=200)[1:]
    assert low == pytest.approx(d.mean(), abs=1e-5)
    assert high == pytest.approx(d.mean(), abs=1e-5)
