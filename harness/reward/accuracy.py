"""Accuracy of a reward model on held-out pairs: overall and in every category, each against its target, over all runs.

    found = reward_accuracy(scores, policy, measure(train, scores.pairs))
    found.verdict, found.overall.reason, found.categories["tone"].low

The gate passes if overall and every category pass. That is an intersection-union test: a recipe that misses any one of
its targets must be wrongly passed there to be passed at all, which happens with probability alpha at most, so bounds at
alpha need no correction for their number (Berger 1982, Technometrics 24:295-300). What they cost is power: the more
categories lie just above their targets, the likelier one of them stays INCONCLUSIVE.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from harness.preference_accuracy import Shortcut, beside
from harness.reward.policy import OVERALL, Policy, check_categories
from harness.reward.scores import RewardScores
from harness.shortcuts import Rule, by_label
from harness.stats import by_source
from harness.target import INCONCLUSIVE, MISSED, PASS, Judged, judge


@dataclass(frozen=True)
class RunAccuracy:
    """Shares of one training run, in [0, 1]."""

    name: str
    overall: float
    categories: dict[str, float]


@dataclass(frozen=True)
class Accuracy:
    """rules: trivial ones beside the model, the best last; rules_by_category: rule -> category -> share."""

    overall: Judged
    categories: dict[str, Judged]
    runs: tuple[RunAccuracy, ...]
    rules: tuple[Shortcut, ...]
    rules_by_category: dict[str, dict[str, float]]

    @property
    def judged(self) -> tuple[Judged, ...]:
        """What is held against a target: overall first, then the categories by name."""
        return (self.overall, *self.categories.values())

    @property
    def verdict(self) -> str:
        """MISSED if one target is shown to be missed, else INCONCLUSIVE if one is, else PASS."""
        verdicts = {found.verdict for found in self.judged}
        return next((verdict for verdict in (MISSED, INCONCLUSIVE) if verdict in verdicts), PASS)

    @property
    def mean(self) -> float:
        return self.overall.share

    @property
    def spread(self) -> float | None:
        """Standard deviation of the runs' shares; None for a single run."""
        shares = [run.overall for run in self.runs]
        return float(np.std(shares, ddof=1)) if len(shares) > 1 else None

    @property
    def worst(self) -> RunAccuracy:
        return min(self.runs, key=lambda run: run.overall)

    @property
    def lead(self) -> Shortcut | None:
        """The best trivial rule, which the model must clearly beat to have understood anything."""
        return self.rules[-1] if self.rules else None


def reward_accuracy(found: RewardScores, policy: Policy, rules: Sequence[Rule] = ()) -> Accuracy:
    """rules: measured on exactly the pairs of `found`, in their order; ValueError if they are of other pairs.

    Raises `Unusable` where no pair has a category, or a target is of a category that no pair has.
    """
    right, kinds = found.right, found.categories()
    check_categories(policy, kinds)
    prompts = found.prompts
    names = {
        own: judge(own, right[kept], policy.target_of(own), policy.alpha, sources=prompts[kept])
        for own, kept in kinds.items()
    }
    whole = by_source(right, prompts)
    parts = {own: by_source(right[kept], prompts[kept]) for own, kept in kinds.items()}
    return Accuracy(
        overall=judge(OVERALL, right, policy.overall, policy.alpha, sources=prompts),
        categories=names,
        runs=tuple(
            RunAccuracy(
                run, float(whole[:, at].mean()), {own: float(part[:, at].mean()) for own, part in parts.items()}
            )
            for at, run in enumerate(found.runs)
        ),
        rules=beside(right, rules, policy.alpha, prompts),
        rules_by_category={rule.name: by_label(found.pairs, rule.right, "category") for rule in rules},
    )
