"""The files of a verdict in --out. One that says SHIP must not outlive a run that did not end so."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Sequence
from pathlib import Path

CALLS = "calls.jsonl"  # what a ticket submission has called, and paid for
FILES = (
    "verdict.json", "scores.jsonl", "memo.pdf", "memo.md", "model-card.yaml", "plots/forest.svg", "plots/pareto.svg",
    "summary.md", "allure.html", "card.pdf", CALLS, "report.pdf", "methodology.md",
    *(f"plots/{name}.svg" for name in ("accuracy", "scores", "margins", "reliability")),
)  # fmt: skip


def remove_verdict(out: Path, kept: Sequence[str] = ()) -> None:
    """Removes them all but those to be kept, as far as that is possible: the exit status says it too."""
    for name in set(FILES).difference(kept):
        with contextlib.suppress(OSError):
            (out / name).unlink(missing_ok=True)


def replace_file(path: Path, content: bytes) -> None:
    """Writes a file by an atomic rename."""
    scratch = path.with_name(f".{path.name}.{os.getpid()}")
    scratch.write_bytes(content)
    scratch.replace(path)
