"""How often an interval over items and seeds covers the true change, when seeds shift all items together.

Differences are simulated as change + item + seed + noise, normal and independent, clipped to [-1, 1]; the standard
deviations are 25 points for the item, 20 for the noise, and 0, 1 or 2 for the seed.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.stats import norm

from harness import stats

ITEMS, CHANGE, ITEM_SD, NOISE = 300, -0.03, 0.25, 0.2
SEEDS, SEED_SDS = (3, 5), (0.0, 0.01, 0.02)
REPEATS = 10_000
ALPHA = 0.025  # of each side, so that an interval should cover 95%
METHODS = ("crossed", "items", "pooled")


def simulate(rng: np.random.Generator, seeds: int, seed_sd: float) -> NDArray[np.float64]:
    """One audit: paired differences [ITEMS, seeds], in [-1, 1]."""
    effects = rng.normal(0, ITEM_SD, (ITEMS, 1)) + rng.normal(0, seed_sd, (1, seeds))
    return np.clip(CHANGE + effects + rng.normal(0, NOISE, (ITEMS, seeds)), -1, 1)


def coverage(seeds: int, seed_sd: float, repeats: int = REPEATS) -> dict[str, float]:
    """Share in [0, 1] of simulated audits whose interval holds the true change, for each of `METHODS`.

    crossed: the gate's. items: the mean of each item over its seeds, items independent. pooled: all scores as
    independent. The last two are the usual shortcuts.
    """
    rng = np.random.default_rng([seeds, round(1000 * seed_sd)])
    hits = np.zeros(len(METHODS))
    for _ in range(repeats):
        d = simulate(rng, seeds, seed_sd)
        bound = stats.crossed(d, ALPHA)
        errors = (d.mean(axis=1).std(ddof=1) / np.sqrt(ITEMS), d.std(ddof=1) / np.sqrt(d.size))
        shortcuts = [abs(d.mean() - CHANGE) <= norm.isf(ALPHA) * error for error in errors]
        hits += [bound.low <= CHANGE <= bound.high, *shortcuts]
    return dict(zip(METHODS, (hits / repeats).tolist(), strict=True))
