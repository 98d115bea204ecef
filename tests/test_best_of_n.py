"""Best-of-n: a reward that knows what raters like wins, one that only counts length is longer and does not."""

from __future__ import annotations

import numpy as np
import pytest

from fixtures.simulated_raters import RATERS, worth
from harness.pairs import Pair
from harness.reward.best_of_n import best_of_n

RNG = np.random.default_rng(0)
PROMPTS, N = 60, 4
TOKENS = RNG.integers(10, 90, (PROMPTS, N))
WORTH = RNG.normal(size=(PROMPTS, N, 3))


def test_a_reward_that_is_the_raters_own_mind_wins_and_is_no_longer():
    found = best_of_n(WORTH.mean(axis=2)[:, :, None], WORTH, TOKENS)
    assert found.win.low > 0.55
    assert found.longer.low < 0 < found.longer.high
    assert not found.runs_away


def test_a_reward_that_counts_length_runs_away_with_it():
    found = best_of_n(TOKENS[:, :, None], WORTH, TOKENS)
    assert found.longer.low > 0.2
    assert found.win.low < 0.5
    assert found.runs_away


def test_a_random_pick_wins_half_and_its_bounds_hold_that():
    held = 0
    for seed in range(200):
        rng = np.random.default_rng(seed)
        found = best_of_n(rng.normal(size=(PROMPTS, N, 1)), rng.normal(size=(PROMPTS, N, 3)), TOKENS)
        held += found.win.low <= 0.5
    assert held >= 180  # 95% in the long run


def test_two_answers_by_hand():
    found = best_of_n([[[1.0], [0.0]]] * 2, [[[1.0], [0.0]]] * 2, [[30, 10]] * 2)
    assert found.win.estimate == pytest.approx(0.75)  # beats the other, and ties with itself
    assert found.longer.estimate == pytest.approx(0.5)  # 30 tokens over a mean of 20


def test_shapes_that_do_not_fit_are_named():
    with pytest.raises(ValueError, match="are not of 60 prompts x 4 answers"):
        best_of_n(np.zeros((PROMPTS, N, 1)), WORTH[:9], TOKENS)


def test_simulated_raters_want_the_right_answer_briefly():
    pair = Pair("1", "How long does a refund take?", "A refund takes 9 days.", "A refund takes 4 weeks.")
    right, wrong = worth("It takes 9 days.", pair), worth("It takes 4 weeks.", pair)
    padded, nothing = worth("It takes 9 days." + " And so on." * 40, pair), worth("", pair)
    for n in range(len(RATERS)):
        assert right[n] > wrong[n]
        assert right[n] > padded[n]
        assert wrong[n] > nothing[n]
