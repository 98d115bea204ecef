"""What a mitigation gives back, and what it costs: closure of a regression, retention of the domain gain.

A mitigation is chosen on one half of each benchmark's items and judged on the other, so that what was picked for
looking good is not believed for it. The halves come from a hash of the item's id, the same for every model and run.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import numpy as np

from harness import stats
from harness.benchmarks import Item
from harness.compare import Comparison, Unpaired

SELECTION, CONFIRMATION = "selection", "confirmation"
CORRECTED = 200  # items above which the bootstrap's bounds are corrected for bias and skewness


def half_of(item: str) -> str:
    """SELECTION or CONFIRMATION, by the id alone."""
    return (SELECTION, CONFIRMATION)[hashlib.sha256(f"half/{item}".encode()).digest()[0] % 2]


def halves(items: Sequence[Item]) -> dict[str, tuple[Item, ...]]:
    """The items of each half, in their order."""
    return {half: tuple(item for item in items if half_of(item.id) == half) for half in (SELECTION, CONFIRMATION)}


def closure(candidate: Comparison, mitigated: Comparison, alpha: float = 0.05) -> stats.Interval:
    """Share of the candidate's loss that is gone: 1 - change(mitigated) / change(candidate), 1 for all of it.

    Both against the same base on the same items and seeds. Negative: the mitigation made it worse; above 1: better than
    the base. `ValueError` if the candidate did not change at all.
    """
    share = _ratio(candidate, mitigated, alpha)
    return stats.Interval(1 - share.estimate, 1 - share.high, 1 - share.low)


def retention(candidate: Comparison, mitigated: Comparison, alpha: float = 0.05) -> stats.Interval:
    """Share of the candidate's gain on a domain set that is kept: change(mitigated) / change(candidate)."""
    return _ratio(candidate, mitigated, alpha)


def _ratio(candidate: Comparison, mitigated: Comparison, alpha: float) -> stats.Interval:
    if (candidate.items, candidate.seeds) != (mitigated.items, mitigated.seeds):
        raise Unpaired(f"{candidate.name}: candidate and mitigated model were not scored on the same items and seeds.")
    changes = [side.change.mean(axis=1) for side in (mitigated, candidate)]
    if not changes[1].any():
        raise ValueError(f"{candidate.name}: the candidate equals its base, so there is nothing to close or to keep")
    seed = int.from_bytes(hashlib.sha256("\n".join(candidate.items).encode()).digest()[:8], "little")
    method = "bca" if len(candidate.items) > CORRECTED else "percentile"
    return stats.bootstrap(_share, changes, np.random.default_rng(seed), alpha=alpha, method=method)


def _share(mitigated: np.ndarray, candidate: np.ndarray) -> float:
    """NaN where a resample holds no change of the candidate: it counts as the worst for either bound."""
    whole = candidate.mean()
    return float(mitigated.mean() / whole) if whole else float("nan")
