"""Early stopping: one order for all, the same end whoever looks, and verdicts about what the policy says."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest

from harness.benchmarks import Item
from harness.early import in_order, items_needed, looks
from harness.specs import Policy
from harness.verdict import judge, judge_early
from tests.scored import comparison, flips

ITEMS = [Item(f"t:{n}", "t", {}) for n in range(100)]


def test_the_order_is_one_for_all_and_not_that_of_the_draw():
    ordered = in_order(ITEMS)
    assert ordered == in_order(list(reversed(ITEMS)))
    assert list(ordered) != ITEMS
    assert set(ordered) == set(ITEMS)


@pytest.mark.parametrize(("enough", "used"), [(1, 30), (30, 30), (31, 60), (90, 90), (95, 100), (1000, 100)])
def test_looks_come_after_each_batch_until_it_is_decided(enough, used):
    asked = []

    def decided(items):
        asked.append(len(items))
        return len(items) >= enough

    assert items_needed(ITEMS, 30, decided) == in_order(ITEMS)[:used]
    assert asked == [n for n in (30, 60, 90, 100) if n <= used]


def test_looks_grow_rarer_so_that_hundreds_of_them_do_not_cost_more_than_they_save():
    assert list(looks(171, 50)) == [50, 100, 150, 171]
    many = list(looks(14042, 50))
    assert len(many) < 40
    assert many[-1] == 14042
    assert all(later <= max(earlier + 50, 1.2 * earlier) for earlier, later in pairwise(many))


def shuffled(items: int, lost: int, gained: int, seen: int, seed: int = 0):
    whole = flips(items, lost, gained)
    order = np.random.default_rng(seed).permutation(items)[:seen]
    return comparison(whole.base[order], whole.candidate[order])


def test_equal_models_pass_long_before_the_end():
    found = judge_early(shuffled(1000, 0, 0, 250), 1000, 0.03, 0.0, Policy())
    assert (found.verdict, found.items, found.planned) == ("PASS", 250, 1000)
    assert found.low > -0.03
    assert "for all 1000 items, after 250 of them" in found.reason


def test_a_large_loss_is_found_long_before_the_end():
    found = judge_early(shuffled(1000, 150, 5, 200), 1000, 0.03, 0.0, Policy())
    assert found.verdict == "REGRESSED"
    assert found.high < -0.03
    assert found.pvalue < 0.05


def test_a_few_items_decide_nothing():
    assert judge_early(shuffled(1000, 30, 30, 20), 1000, 0.03, 0.0, Policy()).verdict == "INCONCLUSIVE"


def test_the_whole_benchmark_is_its_own_certainty_and_no_sample_is():
    whole = shuffled(1000, 40, 20, 1000)
    assert judge_early(whole, 1000, 0.03, 0.0, Policy()).verdict == "PASS"
    assert judge_early(whole, 1000, 0.03, 0.0, Policy(estimand="population")).verdict == "INCONCLUSIVE"
    assert judge(whole, 0.03, 0.0, Policy()).verdict == "INCONCLUSIVE"


def test_a_base_on_the_floor_is_never_passed_early():
    base = np.zeros(400)
    assert judge_early(comparison(base, base), 1000, 0.03, 0.0, Policy()).verdict == "INCONCLUSIVE"


@pytest.mark.parametrize("rate", [0.02, 0.025])
def test_a_base_that_looks_better_for_a_while_is_not_passed_either(rate):
    """At 2.5% right and a margin of 3 points some looks see more than 3% right; none of them may end it."""
    for seed in range(20):
        base = np.random.default_rng(seed).permutation(np.arange(1000) < 1000 * rate)
        for seen in range(100, 1001, 100):
            found = judge_early(comparison(base[:seen], base[:seen]), 1000, 0.03, 0.0, Policy())
            assert found.verdict == "INCONCLUSIVE", (seed, seen)


def test_a_margin_of_everything_is_never_passed_early():
    assert judge_early(shuffled(1000, 0, 0, 300), 1000, 1.0, 0.0, Policy()).verdict == "INCONCLUSIVE"
