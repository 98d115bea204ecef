"""What a diagnostic of a reward model is, and how figures of several training runs become one: the worst run decides.

A check is a figure of each run and a threshold. Where a figure cannot be had it is None, and a check without any figure
is NOT ASKED, which is never OK: one that blocks then leaves the gate open (`harness.reward.verdict`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from math import isnan

import numpy as np

from harness.reward.scores import RewardScores

OK, WARN, BLOCK, NOT_ASKED = "OK", "WARN", "BLOCK", "NOT ASKED"
BLOCKING = {
    "finite": "Every score is a number",
    "spread": "Scores differ between answers",
    "distinct": "Scores take many values",
    "near-ties": "The model has an opinion on most pairs",
    "saturated": "Margins are not at their limit",
    "category-value": "Scores differ within every category",
    "constant-margin": "Margins differ between pairs",
    "separation": "Margins tell chosen from rejected",
    "reversed": "No category is judged the wrong way round",
    "agreement": "Training runs agree",
    "length-only": "Margins are more than length",
    "reordered": "Scores do not depend on order and batch",
}
WARNING = {
    "calibration": "The sigmoid of the margin is a probability",
    "length-correlation": "Margins do not follow length",
    "length-gap": "Right for long and for short chosen answers",
    "truncated": "Sides are kept when the conversation is cut",
    "blind": "The model reads the conversation",
}
NO_NUMBERS = "no training run has scores that are numbers"


@dataclass(frozen=True)
class Check:
    """blocks: whether a bad figure blocks or only warns; verdict: OK, WARN, BLOCK or NOT ASKED.

    value: the figure of the worst run, in its own unit (shares in [0, 1]), None where it was not asked; run: its name.
    """

    name: str
    title: str
    blocks: bool
    verdict: str
    value: float | None
    threshold: float
    reason: str
    run: str | None = None


@dataclass(frozen=True)
class Figure:
    """value: of one run; said: it in words that begin a sentence, as in "13.5% of the pairs are near ties"."""

    value: float
    said: str


@dataclass(frozen=True)
class Question:
    """threshold: the least value that is OK if `low_is_bad`, else the largest one.

    limit: the threshold in words, after "and"; remedy: what to do, after a colon.
    """

    name: str
    threshold: float
    low_is_bad: bool
    limit: str
    remedy: str


def answer(
    question: Question, by_run: Mapping[str, Figure | None], unasked: str = NO_NUMBERS, unit: str = "run"
) -> Check:
    """by_run: figure of each run, None where it has none; unasked: why none has; unit: what a figure is of."""
    blocks = question.name in BLOCKING
    title = (BLOCKING | WARNING)[question.name]
    asked = {run: figure for run, figure in by_run.items() if figure is not None}
    if not asked:
        return Check(question.name, title, blocks, NOT_ASKED, None, question.threshold, f"Not asked: {unasked}.")
    sign = 1 if question.low_is_bad else -1
    run, figure = min(asked.items(), key=lambda item: (not isnan(item[1].value), sign * item[1].value))
    bad = not sign * figure.value >= sign * question.threshold  # also where it is no number
    where = f"In {unit} {run}" if len(asked) == 1 else f"In the worst {unit}, {run},"
    reason = f"{where} {figure.said}, and {question.limit}{f': {question.remedy}' if bad else ''}."
    verdict = (BLOCK if blocks else WARN) if bad else OK
    return Check(question.name, title, blocks, verdict, figure.value, question.threshold, reason, run)


def ask(question: Question, found: RewardScores, figure: Callable[[RewardScores], Figure | None], unasked=NO_NUMBERS):
    """`answer` with `figure` of each run alone, given only pairs both of whose scores are numbers."""
    return answer(question, {run: figure(own) for run, own in alone(found)}, unasked)


def alone(found: RewardScores) -> Iterator[tuple[str, RewardScores]]:
    """Name and scores of each run alone, with only pairs both of whose scores are numbers; runs without any are left
    out, as `finite` blocks them."""
    for at, run in enumerate(found.runs):
        own = found.scores[:, at : at + 1]
        kept = np.flatnonzero(np.isfinite(own).all(axis=(1, 2)))
        if len(kept):
            pairs = tuple(found.pairs[n] for n in kept)
            probes = {name: probe[kept, at : at + 1] for name, probe in found.probes.items()}
            probed = None if found.probed is None else found.probed[kept]
            yield run, RewardScores(pairs, (run,), own[kept], found.tokens[kept], probes, probed)
