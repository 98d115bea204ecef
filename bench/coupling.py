"""What coupled sampling saves: base against candidate under the same noise, and under another seed's.

    python -m bench.coupling [--store DIR]

Reads the stored scores of an embedded audit; a benchmark that is sampled without shots differs between seeds in its
noise alone, so pairing seed s with seed t gives what independent sampling would.
"""

from __future__ import annotations

import argparse
import itertools
import statistics
from pathlib import Path

from fixtures.embedded import chemistry_data
from harness.assets import cache_dir
from harness.audit import Audit, Options, prepare
from harness.baskets import load_basket

QUICK = Path(__file__).resolve().parent.parent / "fixtures" / "baskets" / "quick.toml"


def discordance(audit: Audit, name: str) -> dict[str, dict[str, float]]:
    """coupled, independent -> share of items that differ, and standard deviation of an item's change, in points."""
    metric, items = audit.benchmarks[name].benchmark.metric, audit.benchmarks[name].items
    stored = {
        (side, seed): audit.store.get(audit.cell(audit.sides[side], name, seed))
        for side in ("base", "candidate")
        for seed in audit.seeds(name)
    }
    if any(len(scores) < len(items) for scores in stored.values()):
        raise SystemExit(f"the store lacks scores of {name}; run 'make audit' first.")
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


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--store", type=Path, default=cache_dir() / "store")
    given = parser.parse_args()
    chemistry_data()
    out = Path("out")
    options = Options("embedded:base", ("embedded:chemistry",), out, given.store, device="cpu")
    audit = prepare(load_basket(QUICK), options)
    for kind, figures in discordance(audit, "instructions").items():
        print(f"instructions, {kind}: {figures['differ']:.1f}% of items differ, SD {figures['deviation']:.1f} points")


if __name__ == "__main__":
    main()
