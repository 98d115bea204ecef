"""Audits made from plain arrays and written as a gate writes them, for tests of what reads them again."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from harness.benchmarks import item_named
from harness.checkpoints import CheckedModel
from harness.judging import Options
from harness.recorded import Recorded, RecordedBenchmark
from harness.report import document
from harness.specs import Basket, Benchmark, ModelSpec, Policy
from harness.store import Cell, Score

FIXED = Policy()
PACKAGES = {"torch": "2.0", "lm_eval": "0.4"}


def scores_of(chance: float, items: int = 200, seeds: int = 2, key: int = 0) -> np.ndarray:
    """[items, seeds] of right or wrong; the same key gives nested ones: what is right at a chance is so at a larger."""
    return (np.random.default_rng(key).random((items, seeds)) < chance).astype(float)


def model(name: str, digest: str | None = None) -> CheckedModel:
    return CheckedModel(ModelSpec(name, "recorded", name), Path(name), digest or f"{name}-digest")


def recorded(
    out: Path,
    base: Mapping[str, Any],
    *candidates: Mapping[str, Any],
    names: Sequence[str] = ("base", "tuned"),
    settings: Mapping[str, Mapping[str, Any]] = {},
    policy: Policy = FIXED,
    recipe: bool = False,
    digests: Mapping[str, str] = {},
    **more,
) -> Recorded:
    """An audit of arrays [items, seeds] by benchmark. settings, digests: of benchmarks, by name."""
    models = [model(name) for name in (*names, *(f"tuned{n}" for n in range(len(candidates) - 1)))]
    benchmarks, held = {}, {}
    for name, values in base.items():
        items = tuple(item_named(f"{name}_{'ab'[n % 2]}:{n:04}") for n in range(len(values)))
        seeds = tuple(range(values.shape[1]))
        benchmark = Benchmark(name, f"task_{name}", seeds=seeds, **settings.get(name, {}))
        benchmarks[name] = RecordedBenchmark(
            benchmark, items, len(items), digests.get(name, f"{name}-digest"), 0.0, seeds
        )
        for side, one in zip(models, (base, *candidates), strict=False):
            for seed in seeds:
                cell = Cell(side.digest, name, seed)
                held[side.digest, name, seed] = {
                    item.id: Score(cell, item.id, {"acc": float(value)}, [f"says {value:g}"], "p", 3)
                    for item, value in zip(items, one[name][:, seed], strict=True)
                }
    return Recorded(
        basket=Basket("arrays", tuple(b.benchmark for b in benchmarks.values()), (0, 1), policy=policy),
        options=Options(models[0].spec.text, tuple(m.spec.text for m in models[1:]), out, recipe=recipe),
        base=models[0],
        candidates=tuple(models[1:]),
        benchmarks=benchmarks,
        held=held,
        environment={"device": "cpu", "dtype": "float32", "backend": "hf"},
        packages=dict(PACKAGES),
        **more,
    )


def write(audit: Recorded) -> dict[str, Any]:
    """verdict.json and scores.jsonl of an audit, in its --out; the verdict's content."""
    return document.write(document.build(audit), audit)


def without_time(folder: Path) -> str:
    """verdict.json as text, but for when it was made."""
    lines = (folder / "verdict.json").read_text(encoding="utf-8").splitlines()
    assert sum(line.startswith('  "created"') for line in lines) == 1
    return "\n".join(line for line in lines if not line.startswith('  "created"'))


def verdict_in(folder: Path) -> dict[str, Any]:
    return json.loads((folder / "verdict.json").read_text(encoding="utf-8"))
