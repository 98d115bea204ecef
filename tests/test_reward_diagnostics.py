"""Each planted fault of a reward model is blocked by the check that is made for it, and a sound model by none."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from harness.reward.calibration import reliability
from harness.reward.checks import BLOCK, BLOCKING, NOT_ASKED, OK, WARN, WARNING, Figure, Question, answer
from harness.reward.diagnostics import diagnose
from harness.reward.policy import Diagnostics, Policy
from harness.reward.scores import BLIND, TRUNCATED
from tests import planted_rewards as planted

POLICY = Policy()
UNREAD = {"blind", "truncated"}  # warn of faults that change scores but not the planted probes


def diagnosed(found, policy=POLICY):
    return {check.name: check for check in diagnose(found, policy)}


def blocked(found) -> set[str]:
    return {name for name, check in diagnosed(found).items() if check.verdict == BLOCK}


def warned(found) -> set[str]:
    return {name for name, check in diagnosed(found).items() if check.verdict == WARN}


def test_a_sound_model_is_blocked_by_nothing_in_20_repeats():
    for seed in range(20):
        found = diagnosed(planted.sound(seed, (500, 1000)[seed % 2]))
        assert {name: check.verdict for name, check in found.items() if check.verdict != OK} == {}


@pytest.mark.parametrize(
    ("fault", "check", "others"),
    [  # others: blocks that follow from the same fault, and must follow too
        (planted.constant, "spread", {"distinct", "near-ties", "separation", "agreement"}),
        (planted.length_only, "length-only", set()),
        (planted.saturated, "saturated", set()),
        (planted.one_reversed, "reversed", set()),
        (planted.broken_weights, "finite", set()),
        (planted.shuffled, "separation", {"agreement"}),
        (planted.one_value_for, "category-value", set()),
        (planted.same_margin, "constant-margin", set()),
        (planted.by_batch, "reordered", set()),
    ],
    ids=lambda value: value.__name__ if callable(value) else None,
)
def test_a_planted_fault_is_blocked_by_its_check(fault, check, others):
    for seed in (0, 1):
        assert blocked(fault(seed)) == {check} | others


@pytest.mark.parametrize(
    ("fault", "check", "said"),
    [
        (planted.length_only, "length-only", "the rank correlation of margin and length difference is 0.99, "),
        (planted.length_only, "length-only", ": add pairs whose answers are equally long"),
        (planted.one_reversed, "reversed", "% of the pairs of tone are right, at 99.67% less than "),
        (planted.broken_weights, "finite", "In the worst run, seed1, 2,800 of 2,800 scores are NaN or infinite"),
        (planted.one_value_for, "category-value", "the standard deviation of the scores of refusals is 0.0"),
        (planted.by_batch, "reordered", "In the worst run, seed2, in another order a score changes by 0.05"),
    ],
    ids=lambda value: value.__name__ if callable(value) else None,
)
def test_a_reason_names_the_worst_run_its_figures_and_the_remedy(fault, check, said):
    assert said in diagnosed(fault(0))[check].reason


def test_length_that_is_inherent_is_not_held_against_a_model():
    found = planted.length_only(0)
    brief = replace(found, pairs=tuple(replace(pair, category="brevity") for pair in found.pairs))
    check = diagnosed(brief)["length-only"]
    assert check.verdict == NOT_ASKED
    assert "too few pairs of other categories than brevity" in check.reason


def test_a_model_that_follows_length_and_is_right_without_it_is_warned_of_and_not_blocked():
    found = planted.sound(3, 1000)
    scores = found.scores + 60 * np.log(found.tokens)[:, None, :]
    third = np.arange(1000) % 3 == 0
    equal = np.where(third[:, None], found.tokens[:, :1], found.tokens)
    kept = np.where(third[:, None, None], found.scores, scores)
    policy = Policy(diagnostics=Diagnostics(length_only=0.8))
    check = diagnosed(replace(found, scores=kept, tokens=equal), policy)
    assert check["length-correlation"].value > 0.8
    assert (check["length-only"].verdict, check["length-only"].value) == (OK, 0.8)
    assert check["length-gap"].verdict == WARN


def test_margins_ten_times_too_large_are_warned_of_as_no_probabilities():
    found = planted.sound(1)
    assert "calibration" in warned(replace(found, scores=found.scores * 3))
    assert diagnosed(found)["calibration"].verdict == OK


def test_a_model_that_scores_answers_without_their_conversation_is_warned_of():
    found = planted.sound(2)
    same = {**found.probes, BLIND: np.where(np.isnan(found.probes[BLIND]), np.nan, found.scores)}
    assert warned(replace(found, probes=same)) == {"blind"}


def test_sides_that_turn_when_the_conversation_is_cut_are_warned_of():
    found = planted.sound(2)
    turned = found.probes[TRUNCATED].copy()
    turned[::4] = turned[::4, :, ::-1]
    assert warned(replace(found, probes={**found.probes, TRUNCATED: turned})) == {"truncated"}


def test_what_was_not_asked_is_not_ok():
    found = planted.sound(0, runs=("alone",))
    checks = diagnosed(replace(found, probes={}))
    unasked = {name: check for name, check in checks.items() if check.verdict == NOT_ASKED}
    assert set(unasked) == {"agreement", "reordered", "truncated", "blind"}
    assert "it takes two training runs" in unasked["agreement"].reason
    assert "the answers without their conversation were not scored" in unasked["blind"].reason
    nothing = diagnosed(replace(found, scores=np.full_like(found.scores, np.nan)))
    assert {check.verdict for name, check in nothing.items() if name != "finite"} == {NOT_ASKED}


def test_every_check_is_answered_once_and_those_that_block_come_first():
    checks = diagnose(planted.sound(0, 60), POLICY)
    assert sorted(check.name for check in checks) == sorted([*BLOCKING, *WARNING])
    assert [check.blocks for check in checks] == sorted((check.blocks for check in checks), reverse=True)


def test_one_bad_run_of_three_is_enough():
    found = planted.sound(4)
    scores = found.scores.copy()
    scores[:, 2] *= 0.01
    check = diagnosed(replace(found, scores=scores))["spread"]
    assert (check.verdict, check.run) == (BLOCK, "seed2")


# ---- reliability -----------------------------------------------------------------------------------------------------


def test_the_curve_is_that_of_a_hand_computation():
    margin = np.log([0.6 / 0.4, 0.6 / 0.4, 0.9 / 0.1, 0.9 / 0.1]) * [1, -1, 1, 1]
    found = reliability(margin, [1, 0, 1, 1], bins=2)
    assert [(own.confidence, own.accuracy, own.pairs) for own in found.bins] == [
        (pytest.approx(0.6), 0.5, 2),
        (pytest.approx(0.9), 1.0, 2),
    ]
    assert found.error == pytest.approx((0.1 + 0.1) / 2)


def test_exact_probabilities_give_the_error_that_chance_gives_and_bounds_that_hold():
    rng = np.random.default_rng(0)
    errors, chance, inside = [], [], []
    for _ in range(20):
        apart = np.abs(rng.normal(0, 2, 400))
        right = rng.random(400) < 1 / (1 + np.exp(-apart))
        found = reliability(np.where(right, apart, -apart), right)
        errors.append(found.error)
        chance.append(found.by_chance)
        inside += [own.low <= own.confidence <= own.high for own in found.bins]
    assert np.mean(errors) == pytest.approx(np.mean(chance), rel=0.1)
    assert np.mean(inside) >= 0.88  # both sides: 90% are stated


def test_no_pairs_are_no_curve():
    with pytest.raises(ValueError, match="no pairs give no curve"):
        reliability([], [])


def test_a_figure_that_is_no_number_is_never_in_order():
    question = Question("spread", 0.05, True, "it must be 0.05 or more", "look at it")
    figures = {"seed0": Figure(1.0, "fine"), "seed1": Figure(float("nan"), "no number")}
    found = answer(question, figures)
    assert (found.verdict, found.run) == ("BLOCK", "seed1")


def test_a_probe_that_gives_no_number_where_it_was_asked_blocks():
    found = planted.sound(0)
    probed = np.isfinite(found.probes[BLIND]).all(axis=(1, 2))
    broken = found.probes[BLIND].copy()
    broken[np.flatnonzero(probed)[1:]] = np.nan
    found = replace(found, probes={**found.probes, BLIND: broken}, probed=probed)
    assert {check.name: check.verdict for check in diagnose(found, Policy())}["finite"] == BLOCK
