"""Two sets of scores -> a Comparison, aligned by item and seed, never by order."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from harness.store import Score


class Unpaired(ValueError):
    """The two sides cannot be compared item by item."""


@dataclass(frozen=True)
class Comparison:
    """Paired scores of one benchmark. base, candidate: float [items, seeds] in [0, 1]; strata: of each item."""

    name: str
    metric: str
    items: tuple[str, ...]
    strata: tuple[str, ...]
    seeds: tuple[int, ...]
    base: NDArray[np.float64]
    candidate: NDArray[np.float64]

    @property
    def change(self) -> NDArray[np.float64]:
        """candidate minus base, [items, seeds]; negative = forgotten."""
        return self.candidate - self.base

    @property
    def binary(self) -> bool:
        return bool(np.isin(self.base, (0, 1)).all() and np.isin(self.candidate, (0, 1)).all())

    @property
    def lost(self) -> int:
        """Items whose mean over the seeds fell."""
        return int((self.change.mean(axis=1) < 0).sum())

    @property
    def gained(self) -> int:
        """Items whose mean over the seeds rose."""
        return int((self.change.mean(axis=1) > 0).sum())

    @property
    def flips(self) -> int:
        """Cells (item, seed) in which the two sides differ."""
        return int((self.change != 0).sum())

    @property
    def discordance(self) -> float:
        """Share of cells in which the two sides differ."""
        return self.flips / self.change.size


def compare(
    name: str,
    metric: str,
    items: Sequence[tuple[str, str]],
    base: Mapping[int, Mapping[str, Score]],
    candidate: Mapping[int, Mapping[str, Score]],
) -> Comparison:
    """Pairs the scores of both sides.

    items: (id, stratum) of every item that must be there; base, candidate: seed -> item id -> Score. Raises `Unpaired`
    if a side lacks an item or a seed, or if the two sides were asked different prompts: never a smaller n.
    """
    if set(base) != set(candidate) or not base:
        raise Unpaired(
            f"{name}: base has seeds {sorted(base)} and candidate {sorted(candidate)}; evaluate both on the same."
        )
    seeds = tuple(sorted(base))
    sides = []
    for side, scores in (("base", base), ("candidate", candidate)):
        for seed in seeds:
            missing = [item for item, _ in items if item not in scores[seed]]
            if missing:
                raise Unpaired(
                    f"{name}: the {side} lacks {len(missing)} of {len(items)} items under seed {seed} ({missing[0]} is"
                    " the first); evaluate them."
                )
        sides.append(np.array([[_value(scores[seed][item], metric, name) for seed in seeds] for item, _ in items]))
    for seed in seeds:
        for item, _ in items:
            if base[seed][item].prompt != candidate[seed][item].prompt:
                raise Unpaired(
                    f"{name}: base and candidate were asked different prompts on item {item} under seed {seed}; give"
                    " both the same tokenizer and template."
                )
    return Comparison(name, metric, tuple(i for i, _ in items), tuple(s for _, s in items), seeds, *sides)


def _value(score: Score, metric: str, name: str) -> float:
    if metric not in score.metrics:
        raise Unpaired(
            f"{name}: item {score.item} has no metric '{metric}'; it has {', '.join(sorted(score.metrics))}."
        )
    value = score.metrics[metric]
    if not 0 <= value <= 1:
        raise Unpaired(f"{name}: {metric} is {value} on item {score.item}; name a metric that lies in [0, 1].")
    return value
