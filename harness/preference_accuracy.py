"""Held-out accuracy of a DPO model: against its target, with length controlled, by kind of fault, beside shortcuts.

    found = held_out_accuracy(margins, measure(train, held_out), target=0.68)
    found.plain.verdict, found.plain.reason, found.lead

Everything here is computed from stored scores and needs no model.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from harness.implicit_rewards import Margins
from harness.shortcuts import Rule
from harness.stats import Interval, crossed, share_interval
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
    shortcuts = beside(right, rules, alpha)

    def by(label: str) -> dict[str, tuple[Interval, int]]:
        kinds = margins.kinds(label)
        return {kind: (share_interval(right[own], alpha), int(own.sum())) for kind, own in kinds.items()}

    return HeldOut(
        plain=judge("accuracy", right, target, alpha),
        per_token=judge("accuracy per token", margins.right_per_token, target, alpha),
        matched=judge("accuracy at equal length", right[matched], target, alpha) if matched.any() else None,
        base=share_interval(margins.base[:, None], alpha),
        over_base=_lead(right, margins.base, alpha),
        by_fault=by("fault"),
        by_category=by("category"),
        by_run=tuple(float(share) for share in right.mean(axis=0)),
        shortcuts=shortcuts,
    )


def beside(right: NDArray[np.float64], rules: Sequence[Rule], alpha: float = 0.05) -> tuple[Shortcut, ...]:
    """The rules beside a model, the best last. right: [pairs, runs]; ValueError if they are of other pairs.

    The lead is a paired change: bounds of item differences, crossed with the training runs.
    """
    for rule in rules:
        if len(rule.right) != len(right):
            raise ValueError(f"rule '{rule.name}' answered {len(rule.right)} pairs, the model {len(right)}; match them")
    found = (Shortcut(rule.name, rule.accuracy, _lead(right, rule.right, alpha)) for rule in rules)
    return tuple(sorted(found, key=lambda shortcut: shortcut.accuracy))


def _lead(right: NDArray[np.float64], other: ArrayLike, alpha: float) -> Interval:
    return Interval(*crossed(right - np.array(other, float)[:, None], alpha)[:3])
