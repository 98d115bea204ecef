"""How many items a verdict needs when the gate may stop early, in simulated benchmarks and on recorded real pairs.

Items come in a random order, without replacement, and the gate looks as `harness.early` says (`harness.stats.
stopping_time`, which `harness.verdict.judge_early` asks). The verdict is about the benchmark as a whole, whose true
change is known here, so wrong verdicts can be counted.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from harness import stats
from harness.early import looks
from harness.specs import Policy

ITEMS, MARGIN, PSI = 1000, 0.03, 0.10
CHANGES = (0.03, 0.02, 0.01, 0.0, -0.01, -0.02, -0.03, -0.04, -0.05, -0.07, -0.10)
REPEATS = 1000
BATCH = Policy().batch
Draw = Callable[[np.random.Generator], NDArray[np.float64]]


class Stops(NamedTuple):
    """Over all repeats: mean items seen, looking after each item and as the gate does; with its 10 and 90% quantiles.

    passed, regressed, wrong: shares in [0, 1]; wrong: a verdict that the whole benchmark contradicts. At the margin
    itself both verdicts are wrong.
    """

    each: float
    batched: float
    few: float
    many: float
    passed: float
    regressed: float
    wrong: float


def stops(draw: Draw, margin: float, seed: int, repeats: int = REPEATS) -> Stops:
    """Judges `repeats` benchmarks; draw: gives the changes of a whole benchmark, [items], in the order of one run."""
    rng = np.random.default_rng(seed)
    alpha = Policy().alpha
    each, batched, sides, wrong = [], [], [], 0
    for _ in range(repeats):
        d = draw(rng)
        used, side = stats.stopping_time(d, margin, alpha, population=len(d))
        each.append(used)
        batched.append(next(seen for seen in looks(len(d), BATCH) if seen >= used))
        sides.append(side)
        wrong += side is not None and side != truth(d, margin)
    few, many = np.quantile(batched, (0.1, 0.9))
    passed, regressed = (sides.count(side) / repeats for side in ("PASS", "REGRESSED"))
    return Stops(
        float(np.mean(each)), float(np.mean(batched)), float(few), float(many), passed, regressed, wrong / repeats
    )


def truth(d: NDArray[np.float64], margin: float) -> str | None:
    """The right verdict about a benchmark of which all items are known; None where it lost exactly the margin."""
    spare = d.mean() + margin
    if abs(spare) < 1e-9:
        return None
    return "PASS" if spare > 0 else "REGRESSED"


def simulated(change: float, repeats: int = REPEATS) -> Stops:
    """A benchmark of 1,000 right-or-wrong items at a discordance of 10%, margin 3 points, in random orders."""
    lost, gained = round(ITEMS * (PSI - change) / 2), round(ITEMS * (PSI + change) / 2)
    d = np.repeat([-1.0, 1.0, 0.0], [lost, gained, ITEMS - lost - gained])
    return stops(lambda rng: rng.permutation(d), MARGIN, seed=round(1000 * (1 + change)), repeats=repeats)


def reordered(d: NDArray[np.float64], margin: float, repeats: int = REPEATS) -> Stops:
    """A recorded benchmark, as it is, in random orders. d: each item's change, averaged over its seeds, [items]."""
    return stops(lambda rng: rng.permutation(d), margin, seed=len(d), repeats=repeats)


def resampled(d: NDArray[np.float64], margin: float, repeats: int = REPEATS) -> Stops:
    """Benchmarks of 1,000 items, drawn with replacement from a recorded one: what it would be at full size."""
    return stops(lambda rng: rng.choice(d, ITEMS), margin, seed=ITEMS + len(d), repeats=repeats)
