"""What a reward model must satisfy before it steers anything: right often enough, in every category, with sound scores.

pytest -m reward [--base SPEC] [--pairs FILE] [--candidate SPEC …] [--seeds 0,1,2] [--target NAME=POINTS]
"""

import allure
import pytest

from harness.report.allure import DECISION_FEATURE, SUMMARY
from harness.report.reward_document import DIAGNOSTICS, TARGETS, TRAINING, decision_line
from harness.reward.verdict import is_open

pytestmark = pytest.mark.reward


@allure.epic(TRAINING)
@allure.severity("minor")
def test_reward_training(reward_run, release):
    """Every run of the recipe is a model of its own; how its training went is reported and decides nothing."""
    assert reward_run["digest"] != release.base.digest


@allure.epic(TARGETS)
@allure.severity("critical")
def test_target(target):
    """The chosen answer scores higher in more pairs than the target asks for, overall and in every category."""
    if target.verdict != "PASS":
        pytest.fail(f"{target.verdict}: {target.name}: {target.reason}", pytrace=False)


@allure.epic(TARGETS)
@allure.severity("minor")
def test_target_of_run(run, target_name, scored):
    """Each training run alone answered every pair that fits; the verdict over all of them decides."""
    column = scored.scores.right[:, scored.runs.index(run)]
    assert len(column) + scored.too_long == len(scored.material.held_out)


@allure.epic(DIAGNOSTICS)
@allure.severity("critical")
def test_diagnostic(diagnostic, release):
    """Scores that are degenerate, wrong way round, or about something else than the answers, block any accuracy."""
    if diagnostic.verdict == "BLOCK" or is_open(diagnostic, release.policy):
        pytest.fail(f"{diagnostic.verdict}: {diagnostic.title}: {diagnostic.reason}", pytrace=False)


@allure.epic(SUMMARY)
@allure.feature(DECISION_FEATURE)
@allure.severity("blocker")
def test_decision(reward_decision):
    """A reward model ships only if all its targets pass and no diagnostic blocks."""
    if reward_decision["decision"] != "SHIP":
        pytest.fail(decision_line(reward_decision), pytrace=False)
