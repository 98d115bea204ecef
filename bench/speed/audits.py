"""The embedded audit as `make audit` runs it, without mitigations: cold, warm, stopped early, with one adapter more.

Wall time of the whole command: imports, canaries, reports and all. The further adapter is the fine-tune merged half way
with its base, judged beside the fine-tune from stored scores of the two models.
"""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from bench.speed import against, coupling, results
from bench.speed.against import ROOT
from bench.speed.one import sides
from bench.tables import table
from mitigations.merge import merge

WARM, FURTHER = 0.05, 0.45  # of the cold audit, at most
COLD_MINUTES = 12
TIMES = {"cold": 3.0, "early": 5.0}  # times as fast as lm-eval, at least
LABELS = {
    "cold": "cold: nothing stored",
    "warm": "warm: everything stored",
    "further": "one adapter more, the first two models stored",
    "early": "cold, `--stop-early`",
}


def measure(runs: int) -> None:
    """Adds so many runs to those that are recorded, each part as soon as it is measured."""
    found = {"runs": {}} | results.begun("audits")
    for _ in range(runs):
        with tempfile.TemporaryDirectory() as folder:
            work = Path(folder)
            merge(*sides(), work / "half", 0.5)
            for name, options in (
                ("cold", ("--store=cold",)),
                ("warm", ("--store=cold",)),
                ("further", ("--store=cold", f"--candidate={work / 'half'}")),
                ("early", ("--store=early", "--stop-early")),
            ):
                found["runs"].setdefault(name, []).append(_audit(work, options))
                results.write("audits", found)
                print(name, found["runs"][name][-1], flush=True)
            coupling.measure(work / "cold")


def _audit(work: Path, options: Sequence[str]) -> dict[str, Any]:
    """Seconds of one audit in a process of its own, its decision, and the items each benchmark was judged on."""
    command = [sys.executable, "-m", "pytest", "-m", "forgetting", "-n", "2", "--mitigate=none"]
    command += [f"--out={work / 'out'}"]
    command += ["--base=embedded:base", "--candidate=embedded:chemistry"]
    command += [option.replace("--store=", f"--store={work}/") for option in options]
    started = time.perf_counter()
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    seconds = time.perf_counter() - started
    if done.returncode not in (0, 1):
        raise SystemExit(f"{' '.join(command)} ended with {done.returncode}:\n{done.stdout[-2000:]}")
    verdict = json.loads((work / "out" / "verdict.json").read_text())
    judged = {row["name"]: row["items"] for row in verdict["benchmarks"]}
    return {"seconds": seconds, "decision": verdict["decision"], "items": judged}


def section(found: dict[str, Any]) -> list[str]:
    """What was measured so far. lm-eval stands beside it only where it was measured under the same conditions."""
    compared, every = results.read("against"), found["runs"]
    seconds = {name: statistics.median(run["seconds"] for run in runs) for name, runs in every.items()}
    theirs = against.audit_seconds(compared, "lm_eval") if compared and results.alike(found, compared) else None
    rows = [
        (LABELS[name], f"{seconds[name] / 60:.1f}", str(len(every[name])), _told(name, seconds, theirs, every[name]))
        for name in LABELS
        if name in every
    ]
    beside = (
        f" lm-eval is taken at the rates above, {theirs / 60:.0f} minutes for the same cells, and without the"
        " probabilities of gold texts, which the audit scores besides."
        if theirs
        else " The table above was measured under other conditions, so lm-eval's time is not set beside these."
    )
    return [
        "## The whole audit",
        "The embedded audit without mitigations, by the wall: imports, canaries, gold texts and reports with it"
        f" ({results.conditions(found)}).{beside}",
        table(("audit", "minutes", "runs", ""), rows),
    ]


def _told(name: str, seconds: dict[str, float], theirs: float | None, runs: list[dict[str, Any]]) -> str:
    """One kind of audit beside what is wanted of it."""
    own, cold = seconds[name], seconds["cold"]
    if name == "warm":
        return f"{100 * own / cold:.1f}% of the cold one (wanted at most {100 * WARM:.0f}%)"
    if name == "further":
        alone = f"; {100 * (own - seconds['warm']) / cold:.0f}% without what a warm audit takes"
        return f"{100 * own / cold:.0f}% of the first two models' (wanted at most {100 * FURTHER:.0f}%){alone}"
    told = [f"{theirs / own:.1f} times as fast as lm-eval on all items (wanted {TIMES[name]:g})"] if theirs else []
    if name == "cold":
        return "; ".join([*told, f"wanted within {COLD_MINUTES} minutes"])
    judged = ", ".join(f"{benchmark} {items}" for benchmark, items in runs[-1]["items"].items())
    return "; ".join([*told, f"judged on {judged} items"])
