"""All numbers of the calibration in one value, computed part by part."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from numpy.typing import NDArray

from bench.calibration import coverage, early, planted, size
from bench.calibration.record import METRICS, load
from harness.baskets import load_basket
from harness.specs import Policy
from harness.verdict import Verdict, judge

BASKET = Path(__file__).parents[2] / "fixtures" / "baskets" / "quick.toml"


@dataclass(frozen=True)
class Pair:
    """Verdicts on a recorded pair: fixed, on all items; early, as recorded and on 1,000 items. margin: in [0, 1]."""

    margin: float
    fixed: Verdict
    recorded: early.Stops
    resampled: early.Stops


@dataclass(frozen=True)
class Results:
    """sizes: by items, margin and rule; coverage: by seeds and their SD; planted: by label and loss; early: by change.

    All rates are shares in [0, 1].
    """

    sizes: dict[tuple[int, float, str], NDArray]
    power: dict[str, float]
    coverage: dict[tuple[int, float], dict[str, float]]
    planted: dict[tuple[str, float], dict[str, float]]
    discordance: dict[str, float]
    early: dict[float, early.Stops]
    pairs: dict[str, Pair]


def pair(benchmark: str, repeats: int = early.REPEATS) -> Pair:
    """Early against fixed verdicts on one recorded benchmark, at the margin of the quick basket."""
    found = load(benchmark)
    margin = load_basket(BASKET).named(benchmark).margin / 100
    d = found.change.mean(axis=1)
    fixed = judge(found, margin, 0.0, Policy())
    return Pair(margin, fixed, early.reordered(d, margin, repeats), early.resampled(d, margin, repeats))


def compute(say: Callable[[str], None]) -> Results:
    """Everything, in about five minutes on one core; `say` is told which part begins."""
    say("false passes, enumerated")
    sizes = {
        (n, margin, rule): size.false_passes(n, margin, rule)
        for n in size.ITEMS
        for margin in size.MARGINS
        for rule in size.RULES
    }
    say("coverage of the crossed interval")
    covered = {(k, sd): coverage.coverage(k, sd) for k in coverage.SEEDS for sd in coverage.SEED_SDS}
    say("planted losses")
    found = {(r.label, loss): planted.verdicts(r, loss) for r in planted.RECORDINGS for loss in planted.LOSSES}
    say("early stopping")
    return Results(
        sizes=sizes,
        power=size.power(200, 0.03, 0.10),
        coverage=covered,
        planted=found,
        discordance={r.label: planted.discordance(r) for r in planted.RECORDINGS},
        early={change: early.simulated(change) for change in early.CHANGES},
        pairs={name: pair(name) for name in METRICS},
    )
