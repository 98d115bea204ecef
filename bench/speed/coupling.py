"""What coupled sampling saves: base against candidate under the same noise, and under another seed's.

A benchmark that is sampled without shots differs between seeds in its noise alone, so pairing seed s with seed t gives
what independent sampling would.
"""

from __future__ import annotations

import itertools
import statistics
from pathlib import Path
from typing import Any

from bench.speed import results
from bench.speed.one import QUICK
from bench.tables import table
from fixtures.embedded import chemistry_data
from harness.audit import Audit, Options, prepare
from harness.baskets import load_basket

BENCHMARK = "instructions"


def discordance(audit: Audit, name: str) -> dict[str, dict[str, float]]:
    """coupled, independent -> share of items that differ, and standard deviation of an item's change, in points."""
    metric, items = audit.benchmarks[name].benchmark.metric, audit.benchmarks[name].items
    stored = {
        (side, seed): audit.store.get(audit.cell(audit.sides[side], name, seed))
        for side in ("base", "candidate")
        for seed in audit.seeds(name)
    }
    if any(len(scores) < len(items) for scores in stored.values()):
        raise SystemExit(f"the store lacks scores of {name}; run an audit with it first.")
    base, candidate = (
        {seed: {i: s.metrics[metric] for i, s in stored[side, seed].items()} for seed in audit.seeds(name)}
        for side in ("base", "candidate")
    )
    found: dict[str, list[list[float]]] = {"coupled": [], "independent": []}
    for s, t in itertools.product(base, candidate):
        changes = [candidate[t][item] - value for item, value in base[s].items()]
        found["coupled" if s == t else "independent"].append(changes)
    return {
        kind: {
            "differ": 100 * statistics.fmean(change != 0 for changes in runs for change in changes),
            "deviation": 100 * statistics.fmean(statistics.stdev(changes) for changes in runs),
        }
        for kind, runs in found.items()
    }


def measure(store: Path) -> None:
    """From the stored scores of an embedded audit."""
    chemistry_data()
    options = Options("embedded:base", ("embedded:chemistry",), store, store, device="cpu")
    results.write("coupling", discordance(prepare(load_basket(QUICK), options), BENCHMARK))


def section(found: dict[str, Any]) -> list[str]:
    rows = [(kind, f"{row['differ']:.1f}", f"{row['deviation']:.1f}") for kind, row in found.items()]
    saved = (found["independent"]["deviation"] / found["coupled"]["deviation"]) ** 2
    return [
        "## Coupled sampling",
        f"{BENCHMARK} at temperature 0.7, base against fine-tune, from the stored answers of three seeds: under the"
        f" same noise (coupled), and under another seed's (as if independent). Coupling is worth {saved:.2f} times"
        " as many items.",
        table(("noise", "answers judged otherwise, %", "SD of an item's change, points"), rows),
    ]
