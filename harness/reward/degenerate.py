"""Scores that mean nothing, whatever their accuracy: no numbers, one value, few values, no opinion, or only certainty.

sigmoid(margin) is the probability that the chosen answer is preferred (`harness.reward.scores`).
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit

from harness.report.numbers import as_set, count, points, rate
from harness.reward.checks import Check, Figure, Question, answer, ask
from harness.reward.policy import Policy
from harness.reward.scores import RewardScores

HALF = 0.5
NO_SPREAD = (
    "training has not moved the head, or it has collapsed; check the learning rate and that its weights are loaded"
)


def degenerate(found: RewardScores, policy: Policy) -> list[Check]:
    return [
        _finite(found),
        _spread(found, policy),
        _distinct(found, policy),
        _near_ties(found, policy),
        _saturated(found, policy),
        _category_value(found, policy),
        _constant_margin(found, policy),
    ]


def _finite(found: RewardScores) -> Check:
    """Probes count where they were asked."""
    by_run = {}
    for at, run in enumerate(found.runs):
        broken, of = _broken(found.scores[:, at])
        for name, probe in found.probes.items():
            more, further = _broken(probe[found.asked(name), at])
            broken, of = broken + more, of + further
        by_run[run] = Figure(broken, f"{count(broken)} of {count(of)} scores are NaN or infinite")
    remedy = "train with a smaller learning rate or in float32, and look at the weights for NaN"
    return answer(Question("finite", 0, False, "none may be", remedy), by_run)


def _broken(scores: NDArray[np.float64]) -> tuple[int, int]:
    return int((~np.isfinite(scores)).sum()), scores.size


def _spread(found: RewardScores, policy: Policy) -> Check:
    least = policy.diagnostics.spread
    question = Question("spread", least, True, f"it must be {as_set(least)} or more", NO_SPREAD)

    def figure(run: RewardScores) -> Figure:
        value = float(run.scores.std())
        return Figure(value, f"the standard deviation of all scores is {value:.3g}")

    return ask(question, found, figure)


def _distinct(found: RewardScores, policy: Policy) -> Check:
    limits = policy.diagnostics
    least = f"at least {rate(limits.distinct)} must"
    question = Question("distinct", limits.distinct, True, least, NO_SPREAD)

    def figure(run: RewardScores) -> Figure:
        levels = np.unique(np.round(run.scores / limits.resolution))
        value = len(levels) / run.scores.size
        return Figure(value, f"{points(value)}% of the scores differ from each other at {as_set(limits.resolution)}")

    return ask(question, found, figure)


def _near_ties(found: RewardScores, policy: Policy) -> Check:
    limits = policy.diagnostics
    most = f"at most {rate(limits.near_ties)} may be"
    question = Question("near-ties", limits.near_ties, False, most, "train longer or on more pairs")
    within = f"within {as_set(100 * limits.near_tie)} points of 50%"

    def figure(run: RewardScores) -> Figure:
        value = float((np.abs(expit(run.margin) - HALF) < limits.near_tie).mean())
        return Figure(value, f"{points(value)}% of the pairs are near ties (a probability {within})")

    return ask(question, found, figure)


def _saturated(found: RewardScores, policy: Policy) -> Check:
    limits = policy.diagnostics
    most = f"at most {rate(limits.saturated)} may be"
    remedy = (
        "train fewer epochs or with reward centring, and look for pairs of the training side among the held-out ones"
    )
    question = Question("saturated", limits.saturated, False, most, remedy)

    def figure(run: RewardScores) -> Figure:
        value = float((expit(np.abs(run.margin)) > limits.saturation).mean())
        return Figure(value, f"{points(value)}% of the pairs are saturated (surer than {rate(limits.saturation)})")

    return ask(question, found, figure)


def _category_value(found: RewardScores, policy: Policy) -> Check:
    least = policy.diagnostics.category_spread
    limit = f"it must be {as_set(least)} or more"
    remedy = "look at what the answers of this category have in common, as the model sees nothing else"
    question = Question("category-value", least, True, limit, remedy)

    def figure(run: RewardScores) -> Figure | None:
        overall = run.scores.std()
        kinds = {name: own for name, own in run.categories().items() if own.sum() >= policy.diagnostics.fewest}
        if not kinds or overall == 0:
            return None
        ratios = {name: float(run.scores[own].std() / overall) for name, own in kinds.items()}
        name, value = min(ratios.items(), key=lambda item: item[1])
        return Figure(value, f"the standard deviation of the scores of {name} is {value:.3g} of that of all scores")

    return ask(question, found, figure, "no run has scores that vary, or no category has pairs enough")


def _constant_margin(found: RewardScores, policy: Policy) -> Check:
    """Margins of zero have no direction; they are near ties."""
    least = policy.diagnostics.margin_spread
    remedy = "check that no model sees which of two answers was chosen, by order, batch or a mark in the text"
    question = Question("constant-margin", least, True, f"it must be {as_set(least)} or more", remedy)

    def figure(run: RewardScores) -> Figure | None:
        size = float(np.sqrt((run.margin**2).mean()))
        if size == 0:
            return None
        value = float(run.margin.std()) / size
        return Figure(value, f"the standard deviation of the margins is {value:.3g} of their root mean square")

    return ask(question, found, figure, "no run has margins other than zero")
