"""Held-out accuracy of a DPO model: against its target, with length controlled, by kind of fault, beside shortcuts.

    found = held_out_accuracy(margins, measure(train, held_out), target=0.68)
    found.plain.verdict, found.plain.reason, found.lead

Everything here is computed from stored scores and needs no model.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from harness.implicit_rewards import Margins
from harness.shortcuts import Rule
from harness.stats import Interval, by_source, crossed, share_interval
from harness.target import Judged, judge

TARGET = 0.68


@dataclass(frozen=True)
class Shortcut:
    """A trivial rule beside the model. lead: the model's accuracy minus the rule's on the same pairs, with bounds."""

    name: str
    accuracy: float
    lead: Interval


@dataclass(frozen=True)
class HeldOut:
    """All shares lie in [0, 1].

    per_token, matched: the two ways of controlling length (`implicit_rewards`), matched None where no pair is;
    base: of the base's own likelihood; over_base: how far the model is ahead of that, on the same pairs; by_fault,
    by_category: (share with bounds, pairs) of each kind; by_run: of each training run; shortcuts: the best last.
    """

    plain: Judged
    per_token: Judged
    matched: Judged | None
    base: Interval
    over_base: Interval
    by_fault: dict[str, tuple[Interval, int]]
    by_category: dict[str, tuple[Interval, int]]
    by_run: tuple[float, ...]
    shortcuts: tuple[Shortcut, ...]

    @property
    def lead(self) -> Shortcut | None:
        """The best trivial rule, which the model must clearly beat to have understood anything."""
        return self.shortcuts[-1] if self.shortcuts else None


def held_out_accuracy(
    margins: Margins, rules: Sequence[Rule] = (), target: float = TARGET, alpha: float = 0.05
) -> HeldOut:
    """rules: measured on exactly the pairs of `margins`, in their order; ValueError if they are of other pairs."""
    right, matched = margins.right, margins.matched
    prompts = np.array([pair.prompt for pair in margins.pairs], object)
    shortcuts = beside(right, rules, alpha, prompts)

    def by(label: str) -> dict[str, tuple[Interval, int]]:
        kinds = margins.kinds(label)
        found = {kind: share_interval(by_source(right[own], prompts[own]), alpha) for kind, own in kinds.items()}
        return {kind: (share, int(kinds[kind].sum())) for kind, share in found.items()}

    def judged(name: str, right: NDArray[np.float64], own: NDArray[np.bool_] | slice = slice(None)) -> Judged:
        return judge(name, right[own], target, alpha, sources=prompts[own])

    return HeldOut(
        plain=judged("accuracy", right),
        per_token=judged("accuracy per token", margins.right_per_token),
        matched=judged("accuracy at equal length", right, matched) if matched.any() else None,
        base=share_interval(by_source(margins.base[:, None], prompts), alpha),
        over_base=_lead(right, margins.base, alpha, prompts),
        by_fault=by("fault"),
        by_category=by("category"),
        by_run=tuple(float(share) for share in by_source(right, prompts).mean(axis=0)),
        shortcuts=shortcuts,
    )


def beside(
    right: NDArray[np.float64], rules: Sequence[Rule], alpha: float, prompts: Sequence[Hashable]
) -> tuple[Shortcut, ...]:
    """The rules beside a model, the best last. right: [pairs, runs]; ValueError if they are of other pairs.

    The lead is a paired change: bounds of item differences, crossed with the training runs.
    """
    for rule in rules:
        if len(rule.right) != len(right):
            raise ValueError(f"rule '{rule.name}' answered {len(rule.right)} pairs, the model {len(right)}; match them")
    accuracy = [float(by_source(rule.right, prompts).mean()) for rule in rules]
    leads = [_lead(right, rule.right, alpha, prompts) for rule in rules]
    found = (Shortcut(rule.name, *told) for rule, *told in zip(rules, accuracy, leads, strict=True))
    return tuple(sorted(found, key=lambda shortcut: shortcut.accuracy))


def _lead(right: NDArray[np.float64], other: ArrayLike, alpha: float, prompts: Sequence[Hashable]) -> Interval:
    return Interval(*crossed(by_source(right - np.array(other, float)[:, None], prompts), alpha)[:3])
