"""Verdicts and the decision: what an interval and a margin must lead to."""

from __future__ import annotations

import numpy as np
import pytest

from harness.specs import Policy
from harness.verdict import decide, judge, largest_regression
from tests.scored import comparison, flips

POLICY = Policy()


@pytest.mark.parametrize(
    ("items", "lost", "gained", "expected"),
    [
        (687, 0, 0, "PASS"),
        (687, 34, 34, "PASS"),
        (300, 60, 5, "REGRESSED"),
        (100, 5, 3, "INCONCLUSIVE"),
        (100, 0, 0, "PASS"),  # 2.95 points at n = 100: just below the margin of 3
        (90, 0, 0, "INCONCLUSIVE"),  # and just above it
    ],
)
def test_the_whole_interval_decides(items, lost, gained, expected):
    found = judge(flips(items, lost, gained), 0.03, 0.0, POLICY)
    assert found.verdict == expected, found
    assert (found.low > -0.03) == (expected == "PASS")
    assert (found.high < -0.03) == (expected == "REGRESSED")
    assert (found.lost, found.gained) == (lost, gained)


def test_a_loss_that_is_not_significant_is_no_pass():
    """A McNemar rule would let 6 lost and 1 won of 200 go; the gate says that it cannot tell."""
    assert judge(flips(200, 6, 1), 0.03, 0.0, POLICY).verdict == "INCONCLUSIVE"


def test_a_real_loss_within_the_margin_passes():
    found = judge(flips(2000, 30, 5), 0.03, 0.0, POLICY)
    assert found.verdict == "PASS"
    assert found.change < 0


@pytest.mark.parametrize("candidate", ["same", "lost"])
def test_a_base_within_the_margin_of_the_floor_is_inconclusive(candidate):
    base = np.zeros(1000)
    base[:40] = 1
    found = judge(comparison(base, base if candidate == "same" else np.zeros(1000)), 0.05, 0.0, POLICY)
    assert found.verdict == "INCONCLUSIVE"
    assert "within the margin of the floor" in found.reason


def test_the_floor_is_chance_where_chance_is_above_zero():
    assert judge(flips(1000, 0, 0, right=290), 0.05, 0.25, POLICY).verdict == "INCONCLUSIVE"
    assert judge(flips(1000, 0, 0, right=310), 0.05, 0.25, POLICY).verdict == "PASS"


def test_an_inconclusive_verdict_says_what_would_decide_it():
    assert "items instead of 100 would probably decide it" in judge(flips(100, 5, 3), 0.03, 0.0, POLICY).reason


def test_seeds_are_not_items():
    """Three seeds of the same 60 flips carry no more evidence than one."""
    base = np.tile((np.arange(200) < 100)[:, None], (1, 3)).astype(float)
    candidate = base.copy()
    candidate[:12], candidate[100:110] = 0, 1
    one, three = (judge(comparison(base[:, :k], candidate[:, :k]), 0.05, 0.0, POLICY) for k in (1, 3))
    assert three.low == pytest.approx(one.low, abs=0.006)
    assert three.verdict == one.verdict == "INCONCLUSIVE"


def verdicts(*kinds: str):
    made = {"PASS": flips(687, 0, 0), "REGRESSED": flips(300, 60, 5), "INCONCLUSIVE": flips(100, 5, 3)}
    return [judge(made[kind], 0.03, 0.0, POLICY) for kind in kinds]


@pytest.mark.parametrize(
    ("kinds", "expected"),
    [
        (("PASS", "PASS"), ("SHIP", 0)),
        (("PASS", "REGRESSED"), ("BLOCKED", 1)),
        (("PASS", "INCONCLUSIVE"), ("BLOCKED", 10)),
        (("INCONCLUSIVE", "REGRESSED"), ("BLOCKED", 1)),
    ],
)
def test_shipping_needs_every_pass(kinds, expected):
    assert decide(verdicts(*kinds)) == expected


def test_nothing_judged_is_nothing_decided():
    with pytest.raises(ValueError, match="no benchmark was judged"):
        decide([])


def test_the_largest_regression_is_one_that_was_shown():
    assert largest_regression(verdicts("PASS", "INCONCLUSIVE")) is None
    small, large = judge(flips(300, 60, 5), 0.03, 0.0, POLICY), judge(flips(300, 90, 5), 0.03, 0.0, POLICY)
    assert largest_regression([small, large]) is large
