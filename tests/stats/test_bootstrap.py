"""The paired bootstrap: against scipy's, the t interval, and its own promises about seeds and undefined resamples."""

import numpy as np
import pytest
from scipy.stats import bootstrap as scipy_bootstrap

from harness.stats import bootstrap


def ratio(x, y):
    return x.mean() / y.mean()


def pairs(n=250):
    rng = np.random.default_rng(0)
    y = rng.exponential(1, n)
    return 0.7 * y + rng.normal(0, 0.3, n), y


@pytest.mark.parametrize("method", ["bca", "percentile"])
def test_it_agrees_with_scipy_on_a_paired_ratio(method):
    x, y = pairs()
    ours = bootstrap(ratio, (x, y), np.random.default_rng(1), 4000, method=method)
    theirs = scipy_bootstrap(
        (x, y), ratio, paired=True, vectorized=False, confidence_level=0.9, n_resamples=4000, method=method, rng=2
    ).confidence_interval
    width = theirs.high - theirs.low
    assert ours.estimate == pytest.approx(ratio(x, y))
    assert ours[1:] == pytest.approx((theirs.low, theirs.high), abs=0.06 * width)


def test_a_seed_fixes_the_result_and_no_global_generator_is_touched():
    x, y = pairs(60)
    before = np.random.get_state()[1].copy()
    first, again = (bootstrap(ratio, [x, y], np.random.default_rng(3), 300) for _ in range(2))
    assert first == again
    assert first != bootstrap(ratio, [x, y], np.random.default_rng(4), 300)
    assert (np.random.get_state()[1] == before).all()


def test_one_array_or_rows_of_one():
    x = np.random.default_rng(5).normal(0, 1, (300, 3))
    bound = bootstrap(lambda a: a.mean(), x, np.random.default_rng(6))
    assert bound.high - bound.low == pytest.approx(2 * 1.645 * x.mean(axis=1).std() / np.sqrt(300), rel=0.1)


def test_all_equal_gives_a_point():
    assert bootstrap(np.mean, np.full(10, 0.3), np.random.default_rng(0), 200) == pytest.approx((0.3, 0.3, 0.3))


def test_undefined_resamples_count_against_us():
    losses = np.array([1.0] + [0.0] * 30)  # a third of the resamples hold no loss at all: 0 / 0

    def closure(fixed, lost):
        return fixed.sum() / lost.sum() if lost.sum() else float("nan")

    bound = bootstrap(closure, (losses, losses), np.random.default_rng(0), 300, method="percentile")
    assert (bound.low, bound.high) == (-np.inf, np.inf)


@pytest.mark.parametrize(
    ("arrays", "options", "text"),
    [
        ([], {}, "arrays hold 0 items, but resampling needs two or more"),
        ([1.0], {}, "arrays hold 1 items, but resampling needs two or more; add items"),
        (([1.0, 2.0], [1.0]), {}, r"arrays have lengths \[2, 1\], but they are paired item by item; align them first"),
        ([1.0, 2.0], {"method": "basic"}, "method is 'basic', but the bootstrap knows 'bca' and 'percentile'"),
        ([1.0, 2.0], {"resamples": 10}, "resamples is 10, but a 5% tail needs at least 100"),
        ([1.0, np.nan], {}, "the statistic of the data is nan; check that it divides by no zero"),
    ],
)
def test_errors(arrays, options, text):
    with pytest.raises(ValueError, match=text):
        bootstrap(np.mean, arrays, np.random.default_rng(0), **options)
