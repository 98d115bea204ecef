"""Whether sigmoid(margin) is a probability: reliability curve and calibration error of a reward model.

The label of a pair is always "chosen", as its answers have no order of their own, so a curve of sigmoid(margin) against
it would be 1 everywhere. As for any classifier (Guo et al. 2017, arXiv:1706.04599, eq. 2 and 3) confidence is the
probability of the side that the model takes, sigmoid(|margin|) from 50 to 100%, and a pair is right or not. Bins hold
equally many pairs (Nixon et al. 2019, arXiv:1904.01685), so that none is judged on a handful.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike
from scipy.special import expit

from harness.report.numbers import as_set, points
from harness.reward.checks import Check, Figure, Question, ask
from harness.reward.policy import Policy
from harness.reward.scores import RewardScores
from harness.stats import share_interval


@dataclass(frozen=True)
class Bin:
    """Mean confidence in [0.5, 1] and share of right answers in [0, 1] with its bounds, of so many pairs."""

    confidence: float
    accuracy: float
    low: float
    high: float
    pairs: int


@dataclass(frozen=True)
class Reliability:
    """error: mean distance of confidence and accuracy over the bins, weighted by pairs, in [0, 1].

    by_chance: what that would be on average for a model with these confidences whose probabilities are exact.
    """

    bins: tuple[Bin, ...]
    error: float
    by_chance: float


def reliability(margin: ArrayLike, right: ArrayLike, bins: int = 10, alpha: float = 0.05) -> Reliability:
    """margin, right: [pairs] of one run, finite; bins: at most so many. Raises ValueError on no pairs."""
    margin, right = np.asarray(margin, float), np.asarray(right, float)
    if not len(margin):
        raise ValueError("margin is empty, and no pairs give no curve; check the scores")
    confidence = expit(np.abs(margin))
    parts = np.array_split(np.argsort(confidence, kind="stable"), min(bins, len(margin)))
    found = tuple(_bin(confidence[own], right[own], alpha) for own in parts)
    error = sum(abs(own.confidence - own.accuracy) * own.pairs for own in found) / len(margin)
    noise = sum(np.sqrt((confidence[own] * (1 - confidence[own])).sum()) for own in parts)
    return Reliability(found, error, float(np.sqrt(2 / np.pi) * noise / len(margin)))  # mean of |normal|


def _bin(confidence: np.ndarray, right: np.ndarray, alpha: float) -> Bin:
    bound = share_interval(right[:, None], alpha)
    return Bin(float(confidence.mean()), *bound, len(right))


def calibration(found: RewardScores, policy: Policy) -> list[Check]:
    limits = policy.diagnostics
    remedy = "divide its scores by a temperature that is fitted on other pairs before they are used as log-odds"
    most = f"at most {as_set(100 * limits.calibration_error)} are fine"
    question = Question("calibration", limits.calibration_error, False, most, remedy)

    def figure(run: RewardScores) -> Figure | None:
        if len(run.pairs) < limits.fewest:
            return None
        curve = reliability(run.margin[:, 0], run.right[:, 0], limits.bins, policy.alpha)
        chance = f"of which chance gives {points(curve.by_chance)} on so many pairs"
        return Figure(curve.error, f"the calibration error is {points(curve.error)} points, {chance}")

    return [ask(question, found, figure, "too few pairs")]
