"""How fast an audit is beside `lm_eval`'s Hugging Face backend run twice, on this machine: docs/speed.md.

    make speed          or: python -m bench.speed [--runs 3] [--page]

Every measurement is a process of its own; ours and theirs alternate, so that a noisy machine disturbs both. lm-eval
runs at the batch size that is fastest for it on each benchmark. `--page` writes the page from the last measurements.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
from pathlib import Path

from bench.speed_run import BENCHMARKS, SUBJECTS

ROOT = Path(__file__).resolve().parent.parent
RECORDED, PAGE = ROOT / "bench" / "speed.json", ROOT / "docs" / "speed.md"
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
TARGETS = {"mmlu": 5.0, "letters": 3.0, "gsm8k": 3.0, "ifeval": 1.6}
AUDIT = {"mmlu": (171, 3), "gsm8k": (110, 1), "ifeval": (200, 1), "instructions": (120, 3), "chemistry": (200, 1)}


def measured(who: str, name: str, items: int, batch: int = 16) -> dict:
    """One measurement in a process of its own."""
    command = [sys.executable, "-m", "bench.speed_run", "--who", who, "--benchmark", name]
    command += ["--items", str(items), "--batch", str(batch)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(f"{' '.join(command)} failed:\n{done.stderr[-2000:]}")
    found = json.loads(done.stdout.splitlines()[-1])
    print(f"{who:8} {name:13} batch {batch:3}  {found['seconds']:7.1f} s  {found['tokens']:8} tokens", flush=True)
    return found


def peak_gflops() -> float:
    """What a large float32 matrix product reaches here, in 1e9 operations a second."""
    import time

    import torch

    a, b = torch.randn(2048, 2048), torch.randn(2048, 2048)
    seconds = []
    for _ in range(20):
        started = time.perf_counter()
        a @ b
        seconds.append(time.perf_counter() - started)
    return 2 * 2048**3 / statistics.median(seconds) / 1e9


def measure_all(runs: int, more: bool) -> dict:
    """All measurements, ours and theirs in turn; the first run tries lm-eval at each batch size and keeps the best.

    more: after those that are recorded.
    """
    found = {"peak_gflops": peak_gflops(), "batches": {}, "runs": 0, "rows": []}
    if more:
        found = json.loads(RECORDED.read_text())
    before = found["runs"]
    for run in range(before, before + runs):
        for name in BENCHMARKS:
            found["rows"].append(measured("ours", name, ITEMS[name]))
            tried = [
                measured("lm_eval", name, ITEMS[name], batch) for batch in found["batches"].get(name, BATCHES[name])
            ]
            best = min(tried, key=lambda row: row["seconds"])
            found["batches"][name] = [best["batch"]]
            found["rows"].append(best)
            RECORDED.write_text(json.dumps(found | {"runs": run + 1}, indent=1) + "\n")
    return found


def page(recorded: dict) -> str:
    """docs/speed.md"""
    lines = [
        "# Speed",
        "",
        f"Base and embedded fine-tune, each benchmark in processes of their own, {_runs(recorded['runs'])} in which"
        " ours and lm-eval's took turns. `make speed` measures and writes this page again.",
        "",
        "lm-eval: `simple_evaluate` with its Hugging Face backend, run for the base and for the fine-tune, at the"
        " fastest of the batch sizes that were tried. The same documents and prompts, greedy, float32. Of MMLU and of"
        " MMLU by letters the base alone, on 19 of the 57 subjects with three questions each.",
        "",
        "| benchmark | items | lm-eval, s | Lethe, s | times as fast | wanted | tokens, lm-eval | Lethe | memory |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    rates = {}
    for name in BENCHMARKS:
        theirs, ours = (_median(recorded, who, name) for who in ("lm_eval", "ours"))
        sides = 2 if name in SUBJECTS else 1  # one of the two models was measured
        rates[name] = sides * theirs["seconds"] / theirs["items"], sides * ours["seconds"] / ours["items"]
        wanted = f"{TARGETS[name]:g}" if name in TARGETS else ""
        lines.append(
            f"| {name} | {ours['items']} | {theirs['seconds']:.1f} | {ours['seconds']:.1f} |"
            f" {theirs['seconds'] / ours['seconds']:.1f} | {wanted} | {theirs['tokens']:,} | {ours['tokens']:,} |"
            f" {ours['peak_mb'] / theirs['peak_mb']:.2f} of lm-eval's |"
        )
    whole = [sum(rates[n][k] * items * seeds for n, (items, seeds) in AUDIT.items()) for k in (0, 1)]
    return "\n".join(
        [
            *lines,
            "",
            f"At these rates the cells of the embedded audit that write or choose ({_cells()}) take lm-eval"
            f" {whole[0] / 60:.0f} minutes and Lethe {whole[1] / 60:.0f}: {whole[0] / whole[1]:.1f} times as fast."
            " That is calculated from the table, not run.",
            "",
            f"The matrix-product peak of this machine was {recorded['peak_gflops']:.0f} GFLOP/s.",
            "",
        ]
    )


def _runs(count: int) -> str:
    return f"medians of {count} runs" if count > 1 else "one run"


def _cells() -> str:
    return ", ".join(f"{name} {items} x {seeds}" for name, (items, seeds) in AUDIT.items())


def _median(recorded: dict, who: str, name: str) -> dict:
    rows = [row for row in recorded["rows"] if (row["who"], row["benchmark"]) == (who, name)]
    return {
        key: statistics.median(row[key] for row in rows) if key != "items" else rows[0][key]
        for key in ("items", "seconds", "tokens", "peak_mb")
    } | {"tokens": round(statistics.median(row["tokens"] for row in rows))}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--more", action="store_true", help="add these runs to those that are recorded")
    parser.add_argument("--page", action="store_true", help="write the page from the last measurements")
    given = parser.parse_args()
    if not given.page:
        measure_all(given.runs, given.more)
    PAGE.write_text(page(json.loads(RECORDED.read_text())))
    print(PAGE)


if __name__ == "__main__":
    main()
