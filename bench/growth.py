"""How the time of an audit grows: with items, shots, seeds and models, each alone, by our engine.

    python -m bench.growth      into bench/growth.json; docs/speed.md shows it

Shared prefixes should make items cheaper than shots, seeds of sampled texts share their prompts, and a further adapter
shares the loaded base.
"""

from __future__ import annotations

import json
import statistics
import tempfile
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from bench.speed_run import QUICK, sides
from fixtures.embedded import chemistry_data
from harness.baskets import load_basket
from harness.benchmarks import LoadedBenchmark, load_benchmarks
from harness.checkpoints import CheckedModel
from harness.evaluate import fill
from harness.models import LoadedModels
from harness.store import Store

RECORDED = Path(__file__).resolve().parent / "growth.json"
RUNS = 3


def loaded(name: str, **changes) -> LoadedBenchmark:
    chemistry_data()
    basket = load_basket(QUICK)
    return load_benchmarks(replace(basket, benchmarks=(replace(basket.named(name), **changes),)))[name]


def seconds(benchmark: LoadedBenchmark, models: LoadedModels, sides: Sequence[CheckedModel], seeds: int = 1) -> float:
    """The time of so many seeds on the models, from an empty store."""
    with tempfile.TemporaryDirectory() as folder:
        started = time.perf_counter()
        for side in sides:
            fill(side, benchmark, range(seeds), Store(folder), models)
        return time.perf_counter() - started


def measure() -> dict[str, list[list[float]]]:
    """What grows -> [[how much, seconds], …], each the median of `RUNS`."""
    models, (base, adapter) = LoadedModels(), sides()
    for side in (base, adapter):
        with models.active(side):
            pass
    plans = {
        "items (MMLU, 5 shots)": [(n, loaded("mmlu", items=n), (base,), 1) for n in (57, 114, 171)],
        "shots (MMLU, 57 items)": [(n, loaded("mmlu", items=57, fewshot=n), (base,), 1) for n in (0, 1, 3, 5)],
        "seeds (instructions, 40 items, sampled)": [
            (n, loaded("instructions", items=40), (base,), n) for n in (1, 2, 3)
        ],
        "models (chemistry, 60 items)": [
            (n, loaded("chemistry", items=60), (base, adapter)[:n], 1) for n in (1, 2)
        ],
    }  # fmt: skip
    return {
        name: [[n, statistics.median(seconds(b, models, who, seeds) for _ in range(RUNS))] for n, b, who, seeds in plan]
        for name, plan in plans.items()
    }


if __name__ == "__main__":
    found = measure()
    RECORDED.write_text(json.dumps(found, indent=1) + "\n")
    for name, points in found.items():
        print(name, "; ".join(f"{n:g}: {taken:.1f} s" for n, taken in points))
