"""Pairing: by item and seed, never by order, and never with fewer items than there must be."""

from __future__ import annotations

import numpy as np
import pytest

from harness.compare import Unpaired, compare
from tests.scored import cells, comparison, flips

ITEMS = [(f"t:{n}", "t") for n in range(4)]
RIGHT = [[1, 1], [1, 0], [0, 0], [1, 1]]


def test_scores_are_paired_by_name_whatever_their_order():
    base, candidate = cells(RIGHT), cells(RIGHT)
    backwards = {seed: dict(reversed(scores.items())) for seed, scores in reversed(candidate.items())}
    found = compare("mmlu", "acc", ITEMS, base, backwards)
    assert found.flips == 0
    assert found.base.tolist() == RIGHT


def test_a_change_is_candidate_minus_base():
    found = comparison([1, 1, 0, 0], [0, 1, 1, 0])
    assert found.change[:, 0].tolist() == [-1, 0, 1, 0]
    assert (found.lost, found.gained, found.flips, found.discordance) == (1, 1, 2, 0.5)


def test_lost_and_gained_count_items_and_not_cells():
    found = comparison([[1, 1], [0, 1], [1, 0]], [[0, 0], [1, 0], [1, 1]])
    assert (found.lost, found.gained, found.flips) == (1, 1, 5)


@pytest.mark.parametrize("side", ["base", "candidate"])
def test_a_missing_item_is_an_error_and_never_a_smaller_n(side):
    given = {"base": cells(RIGHT), "candidate": cells(RIGHT)}
    del given[side][1]["t:2"]
    with pytest.raises(Unpaired, match=rf"mmlu: the {side} lacks 1 of 4 items under seed 1 \(t:2 is the first\)"):
        compare("mmlu", "acc", ITEMS, **given)


@pytest.mark.parametrize("candidate", [{}, {0: cells(RIGHT)[0]}])
def test_a_missing_seed_is_an_error(candidate):
    with pytest.raises(Unpaired, match="evaluate both on the same"):
        compare("mmlu", "acc", ITEMS, cells(RIGHT), candidate)


def test_different_prompts_are_no_pair():
    with pytest.raises(Unpaired, match="different prompts on item t:3 under seed 0"):
        compare("mmlu", "acc", ITEMS, cells(RIGHT), cells(RIGHT, prompts={3: "q"}))


def test_a_metric_that_was_not_stored_is_an_error():
    with pytest.raises(Unpaired, match="elo"):
        compare("mmlu", "elo", ITEMS, cells(RIGHT), cells(RIGHT))


@pytest.mark.parametrize("value", [np.nan, np.inf, 1.5, -0.1])
def test_a_score_outside_0_to_1_is_an_error(value):
    with pytest.raises(Unpaired):
        compare("mmlu", "acc", ITEMS, cells(RIGHT), cells([[value, 1], *RIGHT[1:]]))


def test_binary_scores_are_recognised():
    assert flips(40, 3, 2).binary
    assert not comparison([1, 0.5, 0], [1, 1, 0]).binary
