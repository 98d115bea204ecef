"""The drawings of a reward model: what they show, that names are text, and that they are the same every time."""

from __future__ import annotations

import xml.etree.ElementTree as ElementTree
from dataclasses import replace

import numpy as np
import pytest

from harness.report import reward_plots as plots
from harness.reward.accuracy import reward_accuracy
from harness.reward.policy import Policy
from tests import planted_rewards as planted

SVG = "{http://www.w3.org/2000/svg}"
FOUND = planted.sound(0)


def texts(svg: bytes) -> list[str]:
    return ["".join(found.itertext()) for found in ElementTree.fromstring(svg).iter(f"{SVG}text")]


def accuracy(found, **changed):
    return plots.accuracy(reward_accuracy(found, replace(Policy(), **changed)))


DRAWINGS = [plots.scores_by_category, plots.margins, plots.reliability_curve, accuracy]


@pytest.mark.parametrize("draw", DRAWINGS, ids=lambda draw: draw.__name__)
def test_the_same_scores_give_the_same_bytes_and_others_do_not(draw):
    assert draw(FOUND) == draw(planted.sound(0)) != draw(planted.sound(1))


@pytest.mark.parametrize("draw", DRAWINGS, ids=lambda draw: draw.__name__)
@pytest.mark.parametrize("fault", [planted.constant, planted.broken_weights, planted.saturated])
def test_a_fault_is_drawn_too(draw, fault):
    assert len(texts(draw(fault(0)))) > 5


def test_each_target_is_shown_with_its_bounds_and_runs():
    judged = reward_accuracy(FOUND, Policy()).categories["tone"]
    found = texts(accuracy(FOUND))
    share, low, high = (f"{100 * value:.1f}" for value in (judged.share, judged.low, judged.high))
    assert {"overall", *planted.SPREADS, *planted.RUNS, f"{share}% [{low}, {high}]"} <= set(found)
    assert accuracy(FOUND) != accuracy(FOUND, category=0.7)
    assert accuracy(FOUND) != accuracy(FOUND, overall=0.8)


def test_the_curve_is_of_the_run_that_is_calibrated_worst():
    scores = FOUND.scores.copy()
    scores[:, 2] *= 4
    title = next(text for text in texts(plots.reliability_curve(replace(FOUND, scores=scores))) if "error" in text)
    assert title.startswith("seed2: calibration error ")


def test_scores_are_those_of_the_run_that_is_named_and_missing_ones_are_counted():
    scores = FOUND.scores.copy()
    scores[:7, 1] = np.nan
    broken = replace(FOUND, scores=scores)
    assert any(
        text == "Score in run seed0; the white line is the median" for text in texts(plots.scores_by_category(broken))
    )
    assert any(
        "run seed1" in text and "7 pairs without numbers" in text
        for text in texts(plots.scores_by_category(broken, "seed1"))
    )


def test_a_run_without_numbers_is_named_and_one_cannot_be_drawn():
    assert "seed1: no numbers" in texts(plots.margins(planted.broken_weights(0)))
    with pytest.raises(ValueError, match="run 'seed1' has no scores that are numbers; draw one of seed0, seed2"):
        plots.scores_by_category(planted.broken_weights(0), "seed1")
    nothing = replace(FOUND, scores=np.full_like(FOUND.scores, np.nan))
    with pytest.raises(ValueError, match="no run has scores that are numbers"):
        plots.margins(nothing)


@pytest.mark.parametrize("name", ["<script>alert(1)</script>", "$x^2$ & $y$", "中文阅读", "W" * 200])
def test_a_name_is_text_and_no_markup(name):
    one = planted.sound(0, runs=(name,))
    odd = replace(one, pairs=tuple(replace(pair, category=name) for pair in one.pairs))
    for draw in DRAWINGS:
        svg = draw(odd)
        assert not list(ElementTree.fromstring(svg).iter(f"{SVG}script"))
        assert any(name[:5] in text for text in texts(svg))
