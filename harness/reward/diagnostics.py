"""All diagnostics of a reward model's scores: what blocks it whatever its accuracy, and what only warns.

for check in diagnose(found, policy): print(check.verdict, check.title, check.reason)
"""

from __future__ import annotations

from harness.reward.calibration import calibration
from harness.reward.checks import Check
from harness.reward.degenerate import degenerate
from harness.reward.invariance import invariance
from harness.reward.length import length
from harness.reward.policy import Policy
from harness.reward.scores import RewardScores
from harness.reward.separation import separation

PARTS = (degenerate, separation, length, calibration, invariance)


def diagnose(found: RewardScores, policy: Policy) -> tuple[Check, ...]:
    """Those that block first. The worst run counts in each, and is named in its reason."""
    checks = [check for part in PARTS for check in part(found, policy)]
    return tuple(sorted(checks, key=lambda check: not check.blocks))
