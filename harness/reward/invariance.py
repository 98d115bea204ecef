"""What a score must not depend on, and what it must: the same answers asked otherwise (`harness.reward.scores.PROBES`).

A probe may be asked on some pairs only; NaN stands for the others.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from harness.implicit_rewards import won
from harness.report.numbers import as_set, confidence, count, points, rate, signed
from harness.reward.checks import Check, Figure, Question, ask
from harness.reward.policy import Policy
from harness.reward.scores import BLIND, PROBES, REORDERED, TRUNCATED, RewardScores, margin, right
from harness.stats import crossed


def invariance(found: RewardScores, policy: Policy) -> list[Check]:
    return [_reordered(found, policy), _truncated(found, policy), _blind(found, policy)]


def _reordered(found: RewardScores, policy: Policy) -> Check:
    """The largest change of any score; a single one that depends on its neighbours is a mistake."""
    most = policy.diagnostics.reordered
    remedy = "score in float32, and check padding and attention masks"
    question = Question(REORDERED, most, False, f"at most {as_set(most)} may be", remedy)

    def figure(before: np.ndarray, after: np.ndarray) -> Figure | None:
        if (spread := before.std()) == 0:
            return None
        value = float(np.abs(after - before).max() / spread)
        return Figure(value, f"in another order a score changes by {value:.2g} standard deviations")

    return _probed(question, found, REORDERED, 1, figure)


def _truncated(found: RewardScores, policy: Policy) -> Check:
    limits = policy.diagnostics
    remedy = "do not cut conversations for this model, or train it on conversations that are cut"
    question = Question(TRUNCATED, limits.truncated, True, f"at least {rate(limits.truncated)} should be", remedy)

    def figure(before: np.ndarray, after: np.ndarray) -> Figure:
        value = float((won(margin(before)) == won(margin(after))).mean())
        return Figure(
            value, f"the side of {points(value)}% of {count(len(before))} pairs is kept with {PROBES[TRUNCATED]}"
        )

    return _probed(question, found, TRUNCATED, limits.fewest, figure)


def _blind(found: RewardScores, policy: Policy) -> Check:
    """Paired: the bound is on how much accuracy the conversation adds on the same pairs."""
    level = confidence(policy.alpha)
    remedy = "it judges answers by themselves; add pairs in which only the conversation tells which answer is right"
    question = Question(BLIND, 0.0, True, "it should be shown to be more than none", remedy)

    def figure(before: np.ndarray, after: np.ndarray) -> Figure:
        with_it, without = right(before), right(after)
        bound = crossed((with_it - without)[:, None], policy.alpha)
        shares = (
            f"{points(with_it.mean())}% of {count(len(before))} pairs instead of {points(without.mean())}% are right"
        )
        added = f"{signed(bound.estimate)} points, at {level} more than {signed(bound.low)}"
        return Figure(bound.low, f"{shares} with the conversation ({added})")

    return _probed(question, found, BLIND, policy.diagnostics.fewest, figure)


def _probed(
    question: Question,
    found: RewardScores,
    probe: str,
    fewest: int,
    figure: Callable[[np.ndarray, np.ndarray], Figure | None],
) -> Check:
    """`figure` of the scores [pairs, 2] as they are and asked otherwise, on the pairs that were asked, of each run."""

    def of_run(run: RewardScores) -> Figure | None:
        if probe not in run.probes:
            return None
        before, after = run.scores[:, 0], run.probes[probe][:, 0]
        asked = np.isfinite(after).all(axis=1)
        return figure(before[asked], after[asked]) if asked.sum() >= fewest else None

    return ask(question, found, of_run, f"{PROBES[probe]} were not scored, or too few of them were")
