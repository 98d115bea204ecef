"""Scores and comparisons made from plain arrays, for tests of what comes after the store."""

from __future__ import annotations

import numpy as np

from harness.compare import Comparison, compare
from harness.store import Cell, Score

PROMPT = "p"


def cells(values, metric: str = "acc", prompts: dict[int, str] | None = None) -> dict[int, dict[str, Score]]:
    """[items, seeds] values -> seed -> item id -> Score; prompts: digests that differ, by item."""
    values = np.asarray(values, dtype=float)
    return {
        seed: {
            f"t:{item}": Score(
                Cell("model", "benchmark", seed),
                f"t:{item}",
                {metric: float(values[item, seed])},
                [],
                (prompts or {}).get(item, PROMPT),
                1,
            )
            for item in range(values.shape[0])
        }
        for seed in range(values.shape[1])
    }


def comparison(base, candidate, name: str = "mmlu") -> Comparison:
    """A Comparison of two [items, seeds] or [items] arrays."""
    base, candidate = (np.asarray(x, dtype=float).reshape(len(x), -1) for x in (base, candidate))
    items = [(f"t:{n}", "t") for n in range(len(base))]
    return compare(name, "acc", items, cells(base), cells(candidate))


def flips(items: int, lost: int, gained: int, right: int | None = None) -> Comparison:
    """One replicate of binary scores: `lost` items go from right to wrong, `gained` the other way."""
    right = items // 2 if right is None else right
    base = np.zeros(items)
    base[:right] = 1
    candidate = base.copy()
    candidate[:lost] = 0
    candidate[right : right + gained] = 1
    return comparison(base, candidate)
