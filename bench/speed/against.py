"""Each benchmark by us and by lm-eval's Hugging Face backend, base and fine-tune, in processes of their own.

Ours and theirs alternate, so that a noisy machine disturbs both. lm-eval runs at the batch size that is fastest for it
on each benchmark: the first run tries several and keeps the best.
"""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
from pathlib import Path
from typing import Any

from bench.speed import results
from bench.speed.one import BENCHMARKS, SUBJECTS
from bench.tables import table

ROOT = Path(__file__).resolve().parent.parent.parent
ITEMS = {"mmlu": 171, "letters": 171, "gsm8k": 24, "ifeval": 32, "instructions": 32, "chemistry": 64}
# of lm-eval's backend; it keeps the logits of whole prompts, and 32 behind five shots need more than 24 GiB
BATCHES = {
    "mmlu": (8,),
    "letters": (8,),
    "gsm8k": (8, 24),
    "ifeval": (8, 32),
    "instructions": (8, 32),
    "chemistry": (8,),
}
TARGETS = {"mmlu": 5.0, "letters": 3.0, "gsm8k": 3.0, "ifeval": 1.6}  # times as fast as lm-eval
AUDIT = {"mmlu": (171, 3), "gsm8k": (110, 1), "ifeval": (200, 1), "instructions": (120, 3), "chemistry": (200, 1)}
LAYERS = 106.2e6  # weights of the embedded model's layers; its head and its attention come on top
MEASURED = ("seconds", "tokens", "peak_mb")


def measure(runs: int) -> None:
    """Adds so many runs to those that are recorded."""
    found = {"batches": {}, "runs": 0, "rows": []} | results.begun("against")
    for run in range(found["runs"], found["runs"] + runs):
        for name in BENCHMARKS:
            found["rows"].append(_alone("ours", name, ITEMS[name]))
            tried = [_alone("lm_eval", name, ITEMS[name], b) for b in found["batches"].get(name, BATCHES[name])]
            best = min(tried, key=lambda row: row["seconds"])
            found["batches"][name] = [best["batch"]]
            found["rows"].append(best)
        results.write("against", found | {"runs": run + 1})


def _alone(who: str, name: str, items: int, batch: int = 16) -> dict[str, Any]:
    """One measurement in a process of its own."""
    command = [sys.executable, "-m", "bench.speed.one", "--who", who, "--benchmark", name]
    command += ["--items", str(items), "--batch", str(batch)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(f"{' '.join(command)} failed:\n{done.stderr[-2000:]}")
    found = json.loads(done.stdout.splitlines()[-1])
    print(f"{who:8} {name:13} batch {batch:3}  {found['seconds']:7.1f} s  {found['tokens']:8} tokens", flush=True)
    return found


def median(found: dict[str, Any], who: str, name: str) -> dict[str, float]:
    """Seconds, tokens, peak_mb of one side's runs of a benchmark, and its items."""
    rows = [row for row in found["rows"] if (row["who"], row["benchmark"]) == (who, name)]
    return {key: statistics.median(row[key] for row in rows) for key in MEASURED} | {"items": rows[0]["items"]}


def audit_seconds(found: dict[str, Any], who: str) -> float:
    """What all cells of the embedded audit would take at the rates measured, base and fine-tune."""
    total = 0.0
    for name, (items, seeds) in AUDIT.items():
        row = median(found, who, name)
        sides = 2 if name in SUBJECTS else 1  # one of the two models was measured
        total += sides * row["seconds"] / row["items"] * items * seeds
    return total


def section(found: dict[str, Any]) -> list[str]:
    rows = []
    for name in BENCHMARKS:
        theirs, ours = (median(found, who, name) for who in ("lm_eval", "ours"))
        share = 2 * LAYERS * ours["tokens"] / ours["seconds"] / 1e9 / found["peak_gflops"]
        rows.append(
            (name, f"{ours['items']}", f"{theirs['seconds']:.1f}", f"{ours['seconds']:.1f}",
             f"{theirs['seconds'] / ours['seconds']:.1f}", f"{TARGETS[name]:g}" if name in TARGETS else "",
             f"{theirs['tokens']:,.0f}", f"{ours['tokens']:,.0f}", f"{ours['peak_mb'] / theirs['peak_mb']:.2f}",
             f"{100 * share:.0f}%")
        )  # fmt: skip
    head = (
        "benchmark", "items", "lm-eval, s", "Lethe, s", "times as fast", "wanted", "tokens, lm-eval", "tokens, Lethe",
        "memory", "peak",
    )  # fmt: skip
    whole = [audit_seconds(found, who) for who in ("lm_eval", "ours")]
    cells = ", ".join(f"{name} {items} x {seeds}" for name, (items, seeds) in AUDIT.items())
    return [
        "## Beside lm-eval",
        f"Base and embedded fine-tune, each benchmark in processes of their own, {results.runs(found['runs'])} in which"
        f" ours and lm-eval's took turns ({results.conditions(found)})."
        " lm-eval: `simple_evaluate` with its Hugging Face backend, run for base and fine-tune, at the fastest of the"
        " batch sizes that were tried. The same documents and prompts, greedy, float32. Of MMLU, and of MMLU by"
        " letters, the base alone, on 19 of the 57 subjects, three questions each.",
        table(head, rows),
        "Tokens: those that really went through a model. Memory: the process's peak over lm-eval's (at most 1.3 is"
        f" wanted). Peak: the share of this machine's matrix-product peak, {found['peak_gflops']:.0f} GFLOP/s, that the"
        " products with the layers' weights alone take; attention and the head come on top.",
        f"At these rates the cells of the embedded audit ({cells}), each in a process of its own, take lm-eval"
        f" {whole[0] / 60:.0f} minutes and Lethe {whole[1] / 60:.0f}: {whole[0] / whole[1]:.1f} times as fast.",
        "![Seconds of each benchmark by lm-eval and by Lethe](speed/against.svg)",
    ]
