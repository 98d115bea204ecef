"""A share against its target: the bound decides, and the reason says so in words."""

import numpy as np
import pytest

from harness.target import judge


def answers(right: int, wrong: int):
    return np.array([1.0] * right + [0.0] * wrong)[:, None]


@pytest.mark.parametrize(
    ("right", "verdict", "reason"),
    [
        (240, "PASS", "80.0% of 300 pairs, at 95% more than 75.8%: above the target of 68%."),
        (180, "MISSED", "60.0% of 300 pairs, at 95% less than 64.7%: below the target of 68%."),
        (
            216,
            "INCONCLUSIVE",
            "72.0% of 300 pairs; the bounds 67.4% and 76.3% enclose the target of 68%, and about",
        ),
        (192, "INCONCLUSIVE", "64.0% of 300 pairs; the bounds"),  # below the target, and not shown to be
        (204, "INCONCLUSIVE", "so near it no number of pairs would tell."),
    ],
)
def test_the_verdict_is_the_bounds(right, verdict, reason):
    found = judge("accuracy", answers(right, 300 - right), 0.68)
    assert found.verdict == verdict
    assert reason in found.reason


def test_a_point_above_the_target_is_not_enough():
    found = judge("accuracy", answers(216, 84), 0.68)
    assert (found.share, found.low) == (0.72, pytest.approx(0.674, abs=1e-3))
    assert found.share > found.target > found.low


def test_training_runs_are_named_and_blamed():
    runs = np.column_stack([answers(n, 300 - n)[:, 0] for n in (190, 240, 290)])
    found = judge("accuracy", runs, 0.75)
    assert (found.verdict, found.runs) == ("INCONCLUSIVE", 3)
    assert judge("accuracy", runs[:, 1:2], 0.75).verdict == "PASS"  # that run alone
    assert "of 300 pairs over 3 training runs" in found.reason
    assert "train more of them" in found.reason


def test_all_right_and_all_wrong_are_judged_too():
    assert judge("accuracy", answers(300, 0), 0.68).verdict == "PASS"
    assert judge("accuracy", answers(0, 300), 0.68).verdict == "MISSED"
    assert judge("accuracy", answers(3, 0), 0.68).verdict == "INCONCLUSIVE"


def test_pairs_of_one_prompt_are_counted_as_one_and_no_run_is_blamed():
    right = np.repeat(np.arange(100) < 59, 3).astype(float)[:, None]
    found = judge("accuracy", right, 0.62, sources=np.repeat(np.arange(100), 3))
    assert found.reason.startswith("59.0% of 300 pairs of 100 prompts, each prompt counted once; the bounds")
    assert "prompts instead of 100 would probably decide it" in found.reason
    two = judge("accuracy", np.repeat((np.arange(300) < 200).astype(float)[:, None], 2, axis=1), 0.7)
    assert two.reason.endswith("two training runs tell little about a further one; train a third.")
