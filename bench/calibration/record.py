"""Real scores to calibrate on: those of the embedded base and candidate, item by item, without any text.

    python -m bench.calibration.record [--scores out/scores.jsonl]

writes bench/calibration/recorded.json from the scores of an audit (`make audit`). It holds item ids, seeds and metric
values only, so that `make calibrate` and the tests need no model and no benchmark.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from harness.compare import Comparison

RECORDED = Path(__file__).with_name("recorded.json")
METRICS = {
    "mmlu": ("gold_prob_per_byte", "acc"),
    "gsm8k": ("gold_prob_per_byte", "exact_match,flexible-extract"),
    "ifeval": ("prompt_level_strict_acc",),
    "instructions": ("prompt_level_strict_acc",),
}  # of each benchmark of the quick basket, the one that decides first
SIDES = ("base", "candidate")
DIGITS = 6


def load(benchmark: str, metric: str | None = None, path: Path = RECORDED) -> Comparison:
    """The recorded pair of one benchmark, scores in [0, 1]; metric: by default the one that decides.

    Raises KeyError on a benchmark or metric that was not recorded.
    """
    recorded = json.loads(path.read_text(encoding="utf-8"))["benchmarks"][benchmark]
    metric = metric or METRICS[benchmark][0]
    base, candidate = (np.array(recorded["scores"][metric][side], dtype=float) for side in SIDES)
    items = tuple(recorded["items"])
    strata = tuple(item.partition(":")[0] for item in items)
    return Comparison(benchmark, metric, items, strata, tuple(recorded["seeds"]), base, candidate)


def record(rows: Iterable[dict[str, Any]]) -> dict[str, Any]:
    """Rows of an audit's scores.jsonl -> what recorded.json holds; scores are lists [items][seeds].

    Raises ValueError where a side lacks an item or a seed, and on more models than a base and one candidate.
    """
    scores: dict[str, dict[tuple[str, int, str], dict[str, float]]] = {name: {} for name in METRICS}
    for row in rows:
        if row["model"] not in SIDES:
            raise ValueError(f"model '{row['model']}' is neither of {SIDES}; record an audit of one candidate")
        if row["benchmark"] in METRICS:
            scores[row["benchmark"]][row["model"], row["seed"], row["item"]] = row["metrics"]
    return {
        "base": "embedded:base",
        "candidate": "embedded:chemistry",
        "benchmarks": {name: _benchmark(name, found) for name, found in scores.items()},
    }


def _benchmark(name: str, found: dict[tuple[str, int, str], dict[str, float]]) -> dict[str, Any]:
    seeds = sorted({seed for _, seed, _ in found})
    items = sorted({item for _, _, item in found})
    if not found or len(found) != len(SIDES) * len(seeds) * len(items):
        raise ValueError(
            f"{name} has {len(found)} scores of {len(items)} items under {len(seeds)} seeds, but each item needs one"
            " a side and seed; finish the audit"
        )

    def table(side: str, metric: str) -> list[list[float]]:
        return [[_short(found[side, seed, item][metric]) for seed in seeds] for item in items]

    scores = {metric: {side: table(side, metric) for side in SIDES} for metric in METRICS[name]}
    return {"seeds": seeds, "items": items, "scores": scores}


def _short(value: float) -> float | int:
    """Six digits, and a whole number where it is one."""
    return int(value) if value == int(value) else round(value, DIGITS)


def main(arguments: Sequence[str] | None = None) -> None:
    """Writes bench/calibration/recorded.json and says how large it is."""
    parser = argparse.ArgumentParser(prog="python -m bench.calibration.record", description=__doc__.splitlines()[0])
    parser.add_argument("--scores", default="out/scores.jsonl", help="of an audit of the embedded models")
    path = Path(parser.parse_args(arguments).scores)
    if not path.is_file():
        parser.error(f"'{path}' does not exist; run `make audit`, or name the scores.jsonl of an audit with --scores")
    with path.open(encoding="utf-8") as lines:
        recorded = record(json.loads(line) for line in lines)
    RECORDED.write_text(json.dumps(recorded, separators=(",", ":")) + "\n", encoding="utf-8")
    print(f"{RECORDED.name}: {RECORDED.stat().st_size} bytes")


if __name__ == "__main__":
    main()
