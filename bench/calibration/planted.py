"""Losses of a known size, planted in the recorded scores of the real base, and judged by the gate itself.

A repeat draws items with replacement from the recorded ones and spoils right answers at random, so that the candidate
loses `loss` on average. Floors are off: with them MMLU's accuracy, close to guessing on this base, would never pass.
"""

from __future__ import annotations

import zlib
from collections import Counter
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from bench.calibration.record import load
from harness.compare import Comparison
from harness.specs import Policy
from harness.verdict import judge

ITEMS, MARGIN = 687, 0.03  # 687 items give 80% power for 3 points at a discordance of 10%
LOSSES = (0.0, 0.01, 0.02, 0.03, 0.05, 0.10)
REPEATS = 1000


@dataclass(frozen=True)
class Recording:
    """Recorded scores of the base. seeds: how many are judged together, 1 by the exact bound, 3 by the crossed one.

    fresh: the candidate answers under another seed than the base, so that the two differ on many items even without
    a loss, as two models do. Otherwise the spoiled answers are the only difference.
    """

    label: str
    benchmark: str
    metric: str
    seeds: int
    fresh: bool = False


RECORDINGS = (
    Recording("mmlu, accuracy", "mmlu", "acc", 1),
    Recording("ifeval, strict", "ifeval", "prompt_level_strict_acc", 1),
    Recording("instructions, strict, fresh answers", "instructions", "prompt_level_strict_acc", 1, fresh=True),
    Recording("instructions, strict, 3 seeds", "instructions", "prompt_level_strict_acc", 3),
    Recording("gsm8k, gold probability, 3 seeds", "gsm8k", "gold_prob_per_byte", 3),
)


def plant(rng: np.random.Generator, scores: NDArray[np.float64], recording: Recording, loss: float) -> Comparison:
    """Base and spoiled candidate on `ITEMS` items; scores: the recorded ones, [items, seeds].

    An item is spoiled, under all its seeds alike, with the chance at which the mean falls by `loss`: a lost skill gives
    no right answer whatever the seed. Raises ValueError where the base has less to lose.
    """
    columns = scores if recording.seeds > 1 or recording.fresh else scores[:, :1]
    mean = columns.mean()
    if loss > mean:
        raise ValueError(f"loss is {loss}, but the base scores {mean:.3f} and cannot lose more; plant a smaller loss")
    drawn = columns[rng.integers(len(columns), size=ITEMS)]
    base = candidate = drawn
    if recording.fresh:
        two = rng.permuted(drawn, axis=1)  # seeds in random order: neither side is better
        base, candidate = two[:, :1], two[:, 1:2]
    spoiled = rng.random((ITEMS, 1)) < loss / mean
    names = tuple(f"{n}" for n in range(ITEMS))
    seeds = tuple(range(base.shape[1]))
    after = np.where(spoiled, 0.0, candidate)
    return Comparison(recording.benchmark, recording.metric, names, ("",) * ITEMS, seeds, base, after)


def verdicts(recording: Recording, loss: float, repeats: int = REPEATS) -> dict[str, float]:
    """Share in [0, 1] of each verdict over seeded repeats, by `harness.verdict.judge` at a margin of 3 points."""
    scores = load(recording.benchmark, recording.metric).base
    rng = np.random.default_rng([zlib.crc32(recording.label.encode()), round(1000 * loss)])
    counts: Counter[str] = Counter()
    for _ in range(repeats):
        counts[judge(plant(rng, scores, recording, loss), MARGIN, 0.0, Policy()).verdict] += 1
    return {verdict: count / repeats for verdict, count in sorted(counts.items())}


def discordance(recording: Recording) -> float:
    """Share in [0, 1] of items on which base and candidate differ although nothing was lost."""
    if not recording.fresh:
        return 0.0
    scores = load(recording.benchmark, recording.metric).base
    first, second = np.triu_indices(scores.shape[1], k=1)
    return float((scores[:, first] != scores[:, second]).mean())
