"""What a submission to the support-ticket challenge must show before its adapter may answer customers.

pytest -m tickets --submission ZIP|DIR [--threshold POINTS]
"""

import allure
import pytest

from harness.report.allure import DECISION_FEATURE, SUMMARY
from harness.report.ticket_card import DIMENSION_EPIC
from harness.report.ticket_document import decision_line

pytestmark = pytest.mark.tickets


@allure.epic(DIMENSION_EPIC)
@allure.severity("critical")
def test_dimension(dimension, graded):
    """A submission earns something in every dimension, and answers the same twice."""
    if not dimension["score"]:
        pytest.fail(f"MISSED: {dimension['name']}: nothing was earned; {graded['reason']}", pytrace=False)


@allure.epic(SUMMARY)
@allure.feature(DECISION_FEATURE)
@allure.severity("blocker")
def test_total(total):
    """The total is shown to be above the threshold."""
    if total["decision"] != "SHIP":
        pytest.fail(decision_line(total), pytrace=False)
