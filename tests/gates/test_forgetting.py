"""What a fine-tune must satisfy before release: on no benchmark may it have lost more than the margin.

pytest -m forgetting --base SPEC --candidate SPEC [--basket FILE]
"""

import allure
import pytest

from harness.report.allure import (
    BENCHMARKS,
    DECISION_FEATURE,
    EVALUATION,
    INSTRUMENT,
    MITIGATIONS,
    SUMMARY,
    TRIED,
)
from harness.report.mitigations import why_open
from harness.report.terminal import decision_line

pytestmark = pytest.mark.forgetting


@allure.epic(EVALUATION)
@allure.severity("minor")
def test_evaluation(evaluate, cell, audit):
    """Every model answers every item that is judged, under every seed."""
    side, benchmark, seed = cell
    scores = evaluate(side, benchmark, seed)
    assert len(scores) == len(audit.items(benchmark))


@allure.epic(INSTRUMENT)
@allure.severity("normal")
def test_canary(canary, audit):
    """The instrument works: equal models do not differ, a damaged one regresses, an adapter acts."""
    assert audit.canary(canary)["name"] == canary


@allure.epic(BENCHMARKS)
@allure.severity("critical")
def test_regression(verdict):
    """The loss on a benchmark is shown to be smaller than its margin."""
    if verdict.verdict != "PASS":
        pytest.fail(f"{verdict.verdict}: {verdict.name}: {verdict.reason}", pytrace=False)


@allure.epic(MITIGATIONS)
@allure.feature(TRIED)
@allure.severity("normal")
def test_mitigation(mitigation, mitigate, audit):
    """What was lost can be brought back: judged on items that did not choose how.

    Where nothing is shown to have regressed there is nothing to try, and this says nothing of the candidate.
    """
    if (found := mitigate(mitigation)) is not None and (reason := why_open(audit, found)):
        pytest.fail(f"{mitigation}: {reason}", pytrace=False)


@allure.epic(SUMMARY)
@allure.feature(DECISION_FEATURE)
@allure.severity("blocker")
def test_decision(decision):
    """A candidate ships only if every benchmark of the basket passed."""
    if decision["decision"] != "SHIP":
        pytest.fail(decision_line(decision), pytrace=False)
