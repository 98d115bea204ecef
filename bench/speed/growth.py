"""How the time of an audit grows: with items, shots, seeds and models, each alone, by our engine.

Shared prefixes should make items cheaper than shots, seeds of sampled texts share their prompts, and a further adapter
shares the loaded base.
"""

from __future__ import annotations

import statistics
import tempfile
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from bench.speed import results
from bench.speed.one import QUICK, sides
from fixtures.embedded import chemistry_data
from harness.baskets import load_basket
from harness.benchmarks import LoadedBenchmark, load_benchmarks
from harness.checkpoints import CheckedModel, check
from harness.evaluate import fill
from harness.models import LoadedModels
from harness.store import Store
from mitigations.merge import merge

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


def measure() -> None:
    """Per thing that grows: [[how much, seconds], …], each the median of `RUNS`."""
    models, (base, adapter) = LoadedModels(), sides()
    with tempfile.TemporaryDirectory() as folder:
        half = check(merge(base, adapter, Path(folder) / "half", 0.5), base)
        for side in (base, adapter, half):
            with models.active(side):
                pass
        plans = {
            "items": [(n, loaded("mmlu", items=n), (base,), 1) for n in (57, 114, 171)],
            "shots": [(n, loaded("mmlu", items=57, fewshot=n), (base,), 1) for n in (0, 1, 3, 5)],
            "seeds": [(n, loaded("instructions", items=40), (base,), n) for n in (1, 2, 3)],
            "models": [(n, loaded("chemistry", items=60), (base, adapter, half)[:n], 1) for n in (1, 2, 3)],
        }
        found = {}
        for name, plan in plans.items():
            found[name] = [[n, _median(benchmark, models, who, seeds)] for n, benchmark, who, seeds in plan]
            print(name, found[name], flush=True)
    results.write("growth", found)


def _median(benchmark: LoadedBenchmark, models: LoadedModels, who: Sequence[CheckedModel], seeds: int) -> float:
    return statistics.median(seconds(benchmark, models, who, seeds) for _ in range(RUNS))


def section(found: dict[str, Any]) -> list[str]:
    def told(name: str) -> str:
        (first, start), (last, end) = found[name][0], found[name][-1]
        return f"{first:g} to {last:g} {name}: {start:.1f} to {end:.1f} s"

    return [
        "## How time grows",
        f"Each alone, medians of {RUNS} runs. {'; '.join(told(name) for name in found)}. Shots are read once for all"
        " questions behind them, and seeds of sampled texts share their prompts and their batches.",
        "![Seconds against items, shots, seeds and models](speed/growth.svg)",
    ]
