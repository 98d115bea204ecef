"""Whether margins tell chosen from rejected answers at all, the right way round, and alike in every training run.

Bounds are of each run alone: `share_interval` of its right answers, one-sided.
"""

from __future__ import annotations

from itertools import combinations

import numpy as np

from harness.implicit_rewards import won
from harness.report.numbers import confidence, points, rate
from harness.reward.checks import Check, Figure, Question, answer, ask
from harness.reward.policy import Policy
from harness.reward.scores import RewardScores, margin
from harness.stats import by_source, share_interval

CHANCE = 0.5


def separation(found: RewardScores, policy: Policy) -> list[Check]:
    return [_separates(found, policy), _reversed(found, policy), _agreement(found, policy)]


def _separates(found: RewardScores, policy: Policy) -> Check:
    remedy = "check that training labels are not shuffled or mixed up, and that the loss has fallen"
    question = Question("separation", CHANCE, True, "the bound must be above 50%", remedy)

    def figure(run: RewardScores) -> Figure:
        bound = share_interval(by_source(run.right, run.prompts), policy.alpha)
        level = confidence(policy.alpha)
        return Figure(
            bound.low, f"{points(bound.estimate)}% of the pairs are right, at {level} more than {points(bound.low)}%"
        )

    return ask(question, found, figure)


def _reversed(found: RewardScores, policy: Policy) -> Check:
    """Bonferroni over categories and runs: this names a category as wrong, and many are asked."""
    remedy = "check that chosen and rejected are not exchanged in the pairs of this category"
    question = Question("reversed", CHANCE, True, "no category may be shown to be below 50%", remedy)
    alpha = policy.alpha / max(1, len(found.categories()) * len(found.runs))

    def figure(run: RewardScores) -> Figure | None:
        kept = run.categories().items()
        bounds = {name: share_interval(by_source(run.right[own], run.prompts[own]), alpha) for name, own in kept}
        if not bounds:
            return None
        name, bound = min(bounds.items(), key=lambda item: item[1].high)
        bounded = f"at {confidence(alpha)} less than {points(bound.high)}%"
        return Figure(bound.high, f"{points(bound.estimate)}% of the pairs of {name} are right, {bounded}")

    return ask(question, found, figure, "no pair has a category")


def _agreement(found: RewardScores, policy: Policy) -> Check:
    """Share of pairs on which two runs take the same side, a tie being half on each; the worst two runs decide."""
    least = policy.diagnostics.agreement
    remedy = "what they have learned is their seed; train on more pairs, or longer"
    question = Question("agreement", least, True, f"at least {rate(least)} are needed", remedy)
    by_two = {}
    for two in combinations(range(len(found.runs)), 2):
        scores = found.scores[:, two]
        first, second = won(margin(scores[np.isfinite(scores).all(axis=(1, 2))])).T
        if len(first):
            share = float((first * second + (1 - first) * (1 - second)).mean())
            said = f"the same side is taken on {points(share)}% of the pairs"
            by_two[" and ".join(found.runs[run] for run in two)] = Figure(share, said)
    return answer(
        question, by_two, "it takes two training runs with scores that are numbers; train another seed", "two runs"
    )
