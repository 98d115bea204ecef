"""Closure and retention: what they say of plain cases, what they refuse, and that halves never change."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from harness.benchmarks import Item
from harness.closure import CONFIRMATION, SELECTION, closure, half_of, halves, retention
from harness.compare import Comparison, Unpaired


def comparison(change: np.ndarray, base: float = 0.5) -> Comparison:
    """A benchmark on which each item changed by so much under two seeds."""
    sides = np.full((len(change), 2), base)
    names = tuple(f"t:{n}" for n in range(len(change)))
    return Comparison("b", "m", names, ("t",) * len(names), (0, 1), sides, sides + change[:, None])


@pytest.fixture
def lost() -> np.ndarray:
    return np.random.default_rng(1).normal(-0.1, 0.1, 150)


@pytest.mark.parametrize("kept", [0.0, 0.25, 1.0, -0.1, 1.3])
def test_closure_is_the_share_of_the_loss_that_is_gone(lost, kept):
    found = closure(comparison(lost), comparison(kept * lost))
    assert found.estimate == pytest.approx(1 - kept)
    assert found.low == pytest.approx(1 - kept)  # every item keeps the same share, so nothing is uncertain
    assert found.high == pytest.approx(1 - kept)


def test_the_bounds_grow_with_the_noise_and_hold_the_estimate(lost):
    noise = np.random.default_rng(2).normal(0, 0.1, len(lost))
    found = closure(comparison(lost), comparison(0.2 * lost + noise))
    assert found.low < found.estimate < found.high
    assert found.high - found.low > 0.1
    assert found == closure(comparison(lost), comparison(0.2 * lost + noise))


def test_retention_is_the_share_of_the_gain_that_is_kept(lost):
    assert retention(comparison(-lost), comparison(-0.9 * lost)).estimate == pytest.approx(0.9)


def test_a_loss_that_may_be_none_gives_no_certain_closure():
    weak = np.random.default_rng(3).normal(-0.005, 0.1, 60)
    found = closure(comparison(weak), comparison(np.zeros(60) + 0.01))
    assert found.high - found.low > 1


def test_a_candidate_that_equals_its_base_has_nothing_to_close():
    with pytest.raises(ValueError, match="nothing to close"):
        closure(comparison(np.zeros(40)), comparison(np.zeros(40)))


def test_other_items_or_seeds_are_no_pair(lost):
    with pytest.raises(Unpaired):
        closure(comparison(lost), replace(comparison(lost), seeds=(0, 2)))


def test_halves_are_disjoint_stable_and_about_equal():
    items = [Item(f"task:{n}", "task", {}) for n in range(2000)]
    split = halves(items)
    assert {*split[SELECTION], *split[CONFIRMATION]} == set(items)
    assert not {*split[SELECTION]} & {*split[CONFIRMATION]}
    assert 0.45 < len(split[SELECTION]) / len(items) < 0.55
    assert half_of("task:0") == half_of("task:0")
    assert halves(items[::-1])[SELECTION] == split[SELECTION][::-1]
