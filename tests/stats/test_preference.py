"""Win rates of a head-to-head: planning figures that are quoted, bounds against their formulas, simulated coverage."""

import numpy as np
import pytest
from scipy.stats import t as student

from harness.stats import (
    editor_rate,
    position_bias,
    prompts_to_settle,
    vote_correlation,
    win_power,
    win_rate,
    zero_flip_bound,
)


def voted(rng, prompts, editors, rate, icc, ties=0.0):
    """Votes whose prompts have win rates of a beta distribution with this mean and intra-prompt correlation."""
    concentration = (1 - icc) / icc
    of_prompt = rng.beta(rate * concentration, (1 - rate) * concentration, (prompts, 1))
    votes = (rng.random((prompts, editors)) < of_prompt).astype(float)
    return np.where(rng.random(votes.shape) < ties, 0.5, votes)


def t_bound(votes, alpha=0.05):
    """The textbook lower bound over prompts."""
    means = votes.mean(axis=-1)
    return means.mean(axis=-1) - student.isf(alpha, means.shape[-1] - 1) * means.std(axis=-1, ddof=1) / np.sqrt(
        means.shape[-1]
    )


def test_every_vote_cast_gives_the_t_interval_of_the_prompts_means_or_a_wider_one():
    votes = voted(np.random.default_rng(0), 50, 3, 0.6, 0.3)
    bound = win_rate(votes)
    assert bound.estimate == pytest.approx(votes.mean())
    assert t_bound(votes) - 0.02 < bound.low <= t_bound(votes) + 1e-12
    assert 1 - win_rate(1 - votes).high == pytest.approx(bound.low)


def test_a_tie_is_half_a_win():
    assert win_rate([[1, 0.5], [0.5, 0.5], [0, 0.5]]).estimate == 0.5
    assert editor_rate([1, 0.5, 0.5, 0]).estimate == 0.5


def test_votes_on_one_prompt_are_not_independent():
    once = voted(np.random.default_rng(1), 50, 1, 0.6, 0.3)
    thrice = np.repeat(once, 3, axis=1)
    assert win_rate(thrice) == pytest.approx(win_rate(once), abs=1e-9)
    assert win_rate(thrice.reshape(150, 1)).low > win_rate(thrice).low + 0.03


def test_unanimity_is_not_certainty():
    assert win_rate(np.ones((50, 3))).low == pytest.approx(1 - zero_flip_bound(50))
    assert editor_rate(np.ones(50)).low == pytest.approx(1 - zero_flip_bound(50), abs=1e-3)


def test_a_missing_vote_takes_nothing_from_the_others():
    votes = voted(np.random.default_rng(2), 40, 3, 0.7, 0.2)
    votes[3, 1] = np.nan
    assert win_rate(votes).estimate == pytest.approx(np.nanmean(votes))


@pytest.mark.parametrize(("icc", "quoted"), [(0.1, 0.72), (0.3, 0.61), (0.5, 0.53)])
def test_the_quoted_power_of_50_prompts_and_3_editors(icc, quoted):
    rng = np.random.default_rng(int(10 * icc))
    votes = np.array([voted(rng, 50, 3, 0.6, icc) for _ in range(4000)])
    assert (t_bound(votes) > 0.5).mean() == pytest.approx(quoted, abs=0.02)
    assert win_power(50, 3, 0.6, icc) == pytest.approx(quoted, abs=0.01)
    assert win_power(50, 3, 0.6, icc) == pytest.approx(
        np.mean([win_rate(one).low > 0.5 for one in votes[:400]]), abs=0.06
    )


def test_proving_more_than_60_at_a_true_65_takes_about_300_prompts():
    needed = prompts_to_settle(0.65, 0.6, icc=0.24, editors=3)
    assert needed == 288
    assert win_power(needed, 3, 0.65, 0.24, target=0.6) == pytest.approx(0.8, abs=0.003)
    assert prompts_to_settle(0.55, 0.6, icc=0.24, editors=3) == pytest.approx(needed, abs=20)
    assert prompts_to_settle(0.6, 0.6, icc=0.24, editors=3) is None


def test_more_editors_help_less_the_more_they_agree():
    assert win_power(50, 9, 0.6, 0.1) > win_power(50, 3, 0.6, 0.1) + 0.1
    assert win_power(50, 9, 0.6, 1.0) == pytest.approx(win_power(50, 1, 0.6, 1.0))
    assert win_power(50, 3, 0.6, 0.3, ties=0.3) > win_power(50, 3, 0.6, 0.3)
    assert win_power(50, 3, 0.5, 0.3) == 0


@pytest.mark.parametrize(("rate", "icc", "ties"), [(0.6, 0.1, 0.0), (0.6, 0.5, 0.2), (0.8, 0.3, 0.0)])
def test_coverage(rate, icc, ties):
    rng = np.random.default_rng(7)
    truth = (1 - ties) * rate + ties / 2
    bounds = [win_rate(voted(rng, 50, 3, rate, icc, ties)) for _ in range(1200)]
    missed = [sum(b.low > truth for b in bounds) / 1200, sum(b.high < truth for b in bounds) / 1200]
    assert max(missed) < 0.05 + 3 * np.sqrt(0.05 * 0.95 / 1200)
    assert min(missed) > 0.015, "nor so wide that they say nothing"


def test_pooling_would_not_cover():
    rng = np.random.default_rng(8)
    pooled = [t_bound(voted(rng, 50, 3, 0.6, 0.5).reshape(150, 1)) > 0.6 for _ in range(1000)]
    assert np.mean(pooled) > 0.09


def test_the_correlation_of_votes_comes_back():
    votes = voted(np.random.default_rng(9), 3000, 3, 0.6, 0.3)
    assert vote_correlation(votes) == pytest.approx(0.3, abs=0.03)
    leaning = votes.copy()
    leaning[:, 0] = np.where(np.random.default_rng(10).random(3000) < 0.5, 1.0, votes[:, 0])
    assert vote_correlation(leaning) < 0.3, "an editor of his own taste agrees less"
    assert vote_correlation(np.ones((5, 2))) == 0


@pytest.mark.parametrize("lazy", [0.0, 0.3])
def test_position_bias_comes_back_whatever_the_model_is_worth(lazy):
    rng, inside = np.random.default_rng(11), 0
    first = np.array([[True, False, True], [False, True, False]] * 50)
    for _ in range(200):
        votes = np.where(rng.random(first.shape) < lazy, first, voted(rng, 100, 3, 0.8, 0.2))
        bound = position_bias(votes, first)
        inside += bound.low <= lazy / 2 <= bound.high
    assert inside / 200 > 0.9 - 3 * np.sqrt(0.09 / 200)
    assert bound.high - bound.low < 0.2


@pytest.mark.parametrize(
    ("call", "text"),
    [
        (lambda: win_rate([1, 0]), r"votes have the shape \(2,\), but prompts and editors are needed"),
        (lambda: win_rate([[1, 0.7]]), "votes hold a value that is neither 1"),
        (lambda: win_rate([[1, 1], [np.nan, np.nan]]), "prompt 1 has no vote; leave it out"),
        (lambda: win_rate([[1, np.nan], [0, np.nan]]), "editor 1 has no vote; leave it out"),
        (lambda: win_rate([[1, 1]]), "clusters names 1 source"),
        (lambda: position_bias([[1], [0]], [True, False]), r"shown_first has shape \(2,\), but votes have \(2, 1\)"),
        (lambda: vote_correlation([[1, 0], [1, np.nan]]), "votes lack some or have one editor"),
        (lambda: win_power(50, 3, 60, 0.3), "rate is 60 and target 0.5, but win rates are proportions"),
        (lambda: win_power(50, 3, 0.6, 1.3), "icc is 1.3 and ties is 0.0, but both lie from 0 to 1"),
        (lambda: win_power(50, 0, 0.6, 0.3), "n is 0, but a rate"),
        (lambda: prompts_to_settle(0.7, 0.6, 0.3, 3, power=80), "power is 80, but it lies between alpha = 0.05 and 1"),
    ],
)
def test_errors(call, text):
    with pytest.raises(ValueError, match=text):
        call()
