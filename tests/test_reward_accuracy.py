"""Planted accuracy comes back, within bounds that cover it as often as they say; and the decision made of it."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from scipy.stats import binom, norm

from harness.pairs import Pair
from harness.reward.accuracy import reward_accuracy
from harness.reward.checks import BLOCK, NOT_ASKED, OK, WARN, Check
from harness.reward.diagnostics import diagnose
from harness.reward.policy import Policy
from harness.reward.scores import RewardScores, read_scores, write_scores
from harness.reward.verdict import decide
from harness.shortcuts import Rule
from harness.specs import Unusable
from tests import planted_rewards as planted

POLICY = Policy()
SHARES = {"brevity": 0.9, "hallucination": 0.7, "tone": 0.8}


def of_known_accuracy(rng: np.random.Generator, each: int, runs: int = 3) -> RewardScores:
    """Right where a normal level of the category, a pair's own, a run's and noise add up to more than 0.

    So a new run is right on a new pair of a category with just its share. Runs agree on most pairs, as trainings do,
    and differ by 1.4 points or so; a single run is asked about itself.
    """
    own, run, noise = 0.8, 0.05 if runs > 1 else 0.0, 0.6
    level = norm.ppf(list(SHARES.values())).repeat(each) * np.sqrt(own**2 + run**2 + noise**2)
    margin = (level + rng.normal(0, own, len(level)))[:, None] + rng.normal(0, run, runs)
    margin = margin + rng.normal(0, noise, margin.shape)
    scores = np.stack([margin / 2, -margin / 2], axis=-1)
    return RewardScores(of_each(each), tuple(map(str, range(runs))), scores, np.ones((len(level), 2)))


def of_each(each: int) -> tuple[Pair, ...]:
    return tuple(Pair(f"{name}{n}", f"{name} {n}", "a", "b", category=name) for name in SHARES for n in range(each))


@pytest.mark.parametrize(("runs", "repeats"), [(3, 300), (1, 100)])
def test_bounds_cover_the_planted_accuracy_as_often_as_they_say_and_are_no_wider_than_they_must(runs, repeats):
    """Each bound holds with 95%: at least what 95% gives in 999 of 1,000 such tests."""
    rng = np.random.default_rng(runs)
    truth = {"overall": float(np.mean(list(SHARES.values()))), **SHARES}
    found = [reward_accuracy(of_known_accuracy(rng, 120, runs), POLICY).judged for _ in range(repeats)]
    least = binom.ppf(0.001, repeats, 0.95)
    for judged in zip(*found, strict=True):
        share = truth[judged[0].name]
        assert sum(one.low <= share for one in judged) >= least
        assert sum(one.high >= share for one in judged) >= least
        needed = norm.ppf(0.95) * np.std([one.share for one in judged])
        assert np.mean([one.high - one.low for one in judged]) / 2 < 1.4 * needed


def test_overall_and_each_category_have_their_target_and_runs_are_told_apart():
    found = planted.sound(0, 1000)
    judged = reward_accuracy(found, replace(POLICY, categories={"tone": 0.9}))
    assert judged.overall.target == 0.72
    assert {name: own.target for name, own in judged.categories.items()} == dict.fromkeys(planted.SPREADS, 0.65) | {
        "tone": 0.9
    }
    assert [run.overall for run in judged.runs] == found.right.mean(axis=0).tolist()
    assert judged.worst.overall == min(found.right.mean(axis=0))
    assert judged.spread == pytest.approx(np.std(found.right.mean(axis=0), ddof=1))
    assert judged.mean == pytest.approx(np.mean([run.overall for run in judged.runs]))
    own = found.categories()["tone"]
    assert judged.runs[2].categories["tone"] == found.right[own, 2].mean()


def test_one_category_that_misses_is_not_made_up_for_by_the_others():
    judged = reward_accuracy(planted.one_reversed(0), replace(POLICY, overall=0.5))
    assert judged.overall.verdict == "PASS"
    assert judged.categories["tone"].verdict == judged.verdict == "MISSED"
    both = reward_accuracy(planted.one_reversed(0), POLICY)
    assert (both.overall.verdict, both.verdict) == ("INCONCLUSIVE", "MISSED")


def test_a_category_of_few_pairs_is_inconclusive_and_says_how_many_would_do():
    judged = reward_accuracy(planted.sound(0, 200), POLICY)
    assert judged.verdict == judged.categories["hallucination"].verdict == "INCONCLUSIVE"
    assert "about 141 pairs instead of 40 would probably decide it" in judged.categories["hallucination"].reason


def test_trivial_rules_stand_beside_the_model_overall_with_its_lead_and_by_category():
    found = planted.sound(0)
    rights = np.arange(len(found.pairs)) % 2
    rules = [Rule("half", tuple(rights.tolist()), {}, {}), Rule("all", (1.0,) * len(rights), {}, {})]
    judged = reward_accuracy(found, POLICY, rules)
    assert [rule.name for rule in judged.rules] == ["half", "all"]
    assert judged.lead.lead.high < 0 < judged.rules[0].lead.low
    assert judged.rules_by_category["half"]["tone"] == rights[found.categories()["tone"]].mean()
    with pytest.raises(ValueError, match="rule 'r' answered 2 pairs, the model 500; match them"):
        reward_accuracy(found, POLICY, [Rule("r", (1.0, 0.0), {}, {})])


def test_pairs_without_a_category_cannot_be_judged_by_category():
    found = planted.sound(0, 50)
    bare = replace(found, pairs=tuple(replace(pair, category=None) for pair in found.pairs))
    with pytest.raises(Unusable, match="no held-out pair has a category"):
        reward_accuracy(bare, POLICY)


# ---- the decision ----------------------------------------------------------------------------------------------------


def decided(found, policy=POLICY):
    return decide(reward_accuracy(found, policy), diagnose(found, policy), policy)


@pytest.mark.parametrize(
    ("found", "line"),
    [
        (planted.sound(0, 1000), "SHIP (exit 0): 6 of 6 targets passed; 17 of 17 diagnostics in order"),
        (
            planted.sound(0, 200),
            "BLOCKED (exit 10): hallucination inconclusive; 5 of 6 targets passed; 17 of 17 diagnostics in order",
        ),
        (
            planted.saturated(0),
            "BLOCKED (exit 1): saturated blocks; calibration warned; 6 of 6 targets passed; 15 of 17 diagnostics in"
            " order",
        ),
        (
            planted.sound(1, 1000, ("alone",)),
            "BLOCKED (exit 10): agreement not asked; 6 of 6 targets passed; 16 of 17 diagnostics in order",
        ),
    ],
)
def test_the_line_names_what_stands_against_it(found, line):
    assert decided(found).line == line


@pytest.mark.parametrize(
    ("target", "check", "blocks", "decision"),
    [
        (0.72, OK, True, ("SHIP", 0)),
        (0.72, WARN, False, ("SHIP", 0)),
        (0.72, NOT_ASKED, False, ("SHIP", 0)),
        (0.72, NOT_ASKED, True, ("BLOCKED", 10)),
        (0.72, BLOCK, True, ("BLOCKED", 1)),
        (0.83, OK, True, ("BLOCKED", 10)),
        (0.83, BLOCK, True, ("BLOCKED", 1)),
        (0.95, OK, True, ("BLOCKED", 1)),
        (0.95, NOT_ASKED, True, ("BLOCKED", 1)),
    ],
)
def test_what_is_shown_blocks_with_1_and_what_is_open_with_10(target, check, blocks, decision):
    policy = replace(POLICY, overall=target)
    accuracy = reward_accuracy(planted.sound(0, 1000), policy)
    found = decide(accuracy, [Check("agreement", "", blocks, check, None, 0.6, "")], policy)
    assert (found.decision, found.exit) == decision


def test_a_check_that_may_be_skipped_leaves_nothing_open():
    found = decided(planted.sound(1, 1000, ("alone",)), replace(POLICY, may_skip=("agreement",)))
    assert found.line == "SHIP (exit 0): agreement not asked; 6 of 6 targets passed; 16 of 17 diagnostics in order"


# ---- scores in a file ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("made", [planted.sound, planted.broken_weights])
def test_scores_come_back_as_they_were_written_with_what_is_no_number(tmp_path, made):
    found = made(0)
    found.scores[3, 0] = [np.inf, -np.inf]
    assert found.right[3, 0] == 0  # a score that is no number is wrong, whatever its sign
    write_scores(found, tmp_path / "scores.jsonl")
    back = read_scores(tmp_path / "scores.jsonl", found.pairs)
    assert (back.pairs, back.runs, list(back.probes)) == (found.pairs, found.runs, list(found.probes))
    for name in found.probes:
        assert np.array_equal(back.probes[name], found.probes[name], equal_nan=True)
    assert np.array_equal(back.scores, found.scores, equal_nan=True)
    assert np.array_equal(back.tokens, found.tokens)


def test_scores_that_lack_a_pair_are_refused(tmp_path):
    found = planted.sound(0, 10)
    write_scores(found, tmp_path / "scores.jsonl")
    lines = (tmp_path / "scores.jsonl").read_text().splitlines()
    (tmp_path / "scores.jsonl").write_text("\n".join(lines[:-1]))
    with pytest.raises(
        Unusable, match=r"scores.jsonl has no score of pair 'p9' by run 'seed2' \(1 in all\); score every"
    ):
        read_scores(tmp_path / "scores.jsonl", found.pairs)
