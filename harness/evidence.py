"""What stands beside a verdict: it explains, and warns, and never changes a verdict.

- lost and gained items with intervals, as a change of zero can hide as many lost as won;
- the companion metric, which moves long before accuracy does: a tripwire that says "watch";
- the interval that treats subjects as clusters, where it is wider;
- subjects and domains of a benchmark, with false discoveries held (Benjamini-Hochberg);
- losses of skill against losses of format.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.stats import binomtest

from harness import stats
from harness.compare import Comparison

WIDER = 1.1  # a clustered interval is shown where it is this much wider
FEWEST = 10  # items that a group must have to be tested

# (strict, lenient) reading of the same answers
READINGS = (
    ("prompt_level_strict_acc", "prompt_level_loose_acc"),
    ("exact_match,strict-match", "exact_match,flexible-extract"),
)


def flip_rates(comparison: Comparison, alpha: float) -> dict[str, Any]:
    """Shares of the items that were lost and won, each with a two-sided interval at 1 - 2 alpha."""
    n = len(comparison.items)
    rates = {}
    for name, count in (("lost", comparison.lost), ("gained", comparison.gained)):
        rates[f"{name}_rate"] = stats.clopper_pearson(count, n, alpha)
    return rates


@dataclass(frozen=True)
class Companion:
    """The bounds of a metric that moves before the deciding one does; moved: its loss is shown."""

    metric: str
    bound: Any
    moved: bool


def companion(comparison: Comparison | None, alpha: float) -> Companion | None:
    """The companion's change on the same items; None where the benchmark stores no other one."""
    if comparison is None:
        return None
    bound = stats.crossed(comparison.change, alpha)
    return Companion(comparison.metric, bound, bound.high < 0)


def clustered(comparison: Comparison, bound, alpha: float):
    """The interval with strata as clusters if it is wider than `bound` by more than a tenth, else None."""
    if len(set(comparison.strata)) < 2:
        return None
    wide = stats.cluster_robust(comparison.change.mean(axis=1), comparison.strata, alpha, floor=False)
    return wide if wide.high - wide.low > WIDER * (bound.high - bound.low) else None


def groups(comparison: Comparison, of: Mapping[str, str], alpha: float) -> list[dict[str, Any]]:
    """The comparison by group, `of` mapping each stratum to one; those that fell first.

    pvalue: of any loss at all, None for groups of fewer than ten items; adjusted: over the groups tested, by
    Benjamini-Hochberg; fell: adjusted at alpha.
    """
    labels = np.array([of[stratum] for stratum in comparison.strata])
    rows = [{"name": str(name), **_group(comparison, labels == name)} for name in sorted(set(labels))]
    tested = [row for row in rows if row["pvalue"] is not None]
    if tested:
        adjusted = stats.benjamini_hochberg([row["pvalue"] for row in tested])
        for row, value in zip(tested, adjusted, strict=True):
            row["adjusted"], row["fell"] = float(value), bool(value <= alpha)
    return sorted(rows, key=lambda row: row["change"])


def _group(comparison: Comparison, members: np.ndarray) -> dict[str, Any]:
    change = comparison.change[members]
    return {
        "items": len(change),
        "base": float(comparison.base[members].mean()),
        "candidate": float(comparison.candidate[members].mean()),
        "change": float(change.mean()),
        "pvalue": _loss_pvalue(change) if len(change) >= FEWEST else None,
        "adjusted": None,
        "fell": False,
    }


def _loss_pvalue(change: np.ndarray) -> float:
    """Evidence of any loss: McNemar's exact test for one replicate of right or wrong, else the crossed bound."""
    if change.shape[1] == 1 and np.isin(change, (-1, 0, 1)).all():
        lost, gained = int((change < 0).sum()), int((change > 0).sum())
        return float(binomtest(lost, lost + gained, 0.5, "greater").pvalue) if lost + gained else 1.0
    return stats.crossed_pvalue(change, 0.0)


def format_losses(strict: Comparison, lenient: Comparison) -> dict[str, int]:
    """Of the items lost under the strict reading, in the mean of the seeds: how many the lenient one still accepts.

    capability: lost under both readings; format: lost under the strict one alone.
    """
    lost = strict.change.mean(axis=1) < 0
    kept = (lenient.change.mean(axis=1) >= 0) & (lenient.candidate.mean(axis=1) > 0)
    return {"capability": int((lost & ~kept).sum()), "format": int((lost & kept).sum())}


def readings(metrics: Sequence[str]) -> tuple[str, str] | None:
    """The (strict, lenient) pair that a benchmark's metrics hold, if any."""
    return next((pair for pair in READINGS if set(pair) <= set(metrics)), None)
