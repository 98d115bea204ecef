"""What was measured, one JSON file for each part in bench/speed/measured."""

from __future__ import annotations

import json
import statistics
import time
from pathlib import Path
from typing import Any

from harness.evaluate import ENGINE_VERSION

FOLDER = Path(__file__).resolve().parent / "measured"


def read(name: str) -> dict[str, Any]:
    """What a part has measured so far; empty before its first run."""
    path = FOLDER / f"{name}.json"
    return json.loads(path.read_text()) if path.is_file() else {}


def write(name: str, found: dict[str, Any]) -> None:
    FOLDER.mkdir(exist_ok=True)
    (FOLDER / f"{name}.json").write_text(json.dumps(found, indent=1) + "\n")


def begun(name: str) -> dict[str, Any]:
    """What a part has measured so far with today's engine, or what it begins with: the engine and this machine's peak.

    Runs of another engine are no repetitions of today's.
    """
    found = read(name)
    return found if found.get("engine") == ENGINE_VERSION else {"engine": ENGINE_VERSION, "peak_gflops": peak_gflops()}


def alike(one: dict[str, Any], other: dict[str, Any]) -> bool:
    """True if two parts were measured with one engine on machines about as fast, so that their seconds compare."""
    return one["engine"] == other["engine"] and 0.8 < one["peak_gflops"] / other["peak_gflops"] < 1.25


def conditions(found: dict[str, Any]) -> str:
    return f"engine {found['engine']}, a machine whose matrix products reach {found['peak_gflops']:.0f} GFLOP/s"


def peak_gflops() -> float:
    """What a large float32 matrix product reaches here, in 1e9 operations a second."""
    import torch

    a, b = torch.randn(2048, 2048), torch.randn(2048, 2048)
    seconds = []
    for _ in range(20):
        started = time.perf_counter()
        a @ b
        seconds.append(time.perf_counter() - started)
    return 2 * 2048**3 / statistics.median(seconds) / 1e9


def runs(count: int) -> str:
    return f"medians of {count} runs" if count > 1 else "one run"
