"""What a preference-tuned writer must satisfy before release: it picks what editors pick, is preferred, forgot nothing.

pytest -m dpo [--base SPEC] [--pairs FILE] [--candidate SPEC] [--votes DIR] [--basket FILE]
"""

import allure
import pytest

from harness.report.allure import DECISION_FEATURE, SUMMARY
from harness.report.dpo_document import ACCURACY, CAPABILITY, HEAD_TO_HEAD, TRAINING, decision_line
from harness.report.dpo_lines import head_to_head_failure

pytestmark = pytest.mark.dpo


@allure.epic(TRAINING)
@allure.severity("minor")
def test_training(training, run, release):
    """Every run of the recipe is a model of its own; how its chosen answers fared is reported and decides nothing."""
    assert training["digest"] != release.base.digest


@allure.epic(ACCURACY)
@allure.severity("critical")
def test_accuracy(accuracy, release):
    """The model prefers what editors chose on prompts that it has not seen, over all training runs."""
    if accuracy.verdict != "PASS":
        pytest.fail(f"{accuracy.verdict}: accuracy: {accuracy.reason}", pytrace=False)


@allure.epic(ACCURACY)
@allure.severity("minor")
def test_accuracy_of_run(run, release):
    """Each training run alone answered every pair that fits; the verdict over all of them decides."""
    column = release.margins.right[:, release.runs.index(run)]
    assert len(column) + release.too_long == len(release.material.held_out)


@allure.epic(ACCURACY)
@allure.severity("minor")
def test_chosen_likelihood(release):
    """Whether the chosen answers became less likely is reported; a fall alone blocks no release."""
    assert release.chosen.low <= release.chosen.high


@allure.epic(HEAD_TO_HEAD)
@allure.severity("critical")
def test_head_to_head(head_to_head, release):
    """Editors who do not know which model wrote what prefer it to its base."""
    if head_to_head.verdict != "PASS":
        pytest.fail(head_to_head_failure(head_to_head), pytrace=False)


@allure.epic(CAPABILITY)
@allure.severity("critical")
def test_capability(capability, benchmark, release):
    """The loss on a benchmark of general capability is shown to be smaller than its margin."""
    row = next(row for row in capability["benchmarks"] if row["name"] == benchmark)
    if row["verdict"] != "PASS":
        pytest.fail(f"{row['verdict']}: {benchmark}: {row['reason']}", pytrace=False)


@allure.epic(SUMMARY)
@allure.feature(DECISION_FEATURE)
@allure.severity("blocker")
def test_decision(dpo_decision, release):
    """A writer ships only if accuracy, head-to-head and capability all pass."""
    if dpo_decision["decision"] != "SHIP":
        pytest.fail(decision_line(dpo_decision), pytrace=False)
