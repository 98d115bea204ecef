"""Progress of a running audit, read from the store, so that it is right whichever process does the work.

A bar with items per second and time left on a terminal; a line every 30 seconds elsewhere.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Sequence
from typing import IO, Protocol

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from harness.store import Cell, Store

EVERY_LINE = 30.0


class Running(Protocol):
    """An audit that evaluates (`harness.audit.Audit`)."""

    store: Store

    def planned(self) -> tuple[Sequence[Cell], int]: ...


class Watcher:
    """Counts the scores of an audit's cells in a thread until stopped."""

    def __init__(self, audit: Running, file: IO[str]):
        self.store = audit.store
        self.cells, self.total = audit.planned()
        self.before = self.store.count(self.cells)
        self.console = Console(file=file)
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)

    def start(self) -> None:
        if self.before < self.total:
            self._thread.start()

    def stop(self) -> None:
        self._stop.set()
        if self._thread.is_alive():
            self._thread.join()

    def _watch(self) -> None:
        if self.console.is_terminal:
            self._bar()
        else:
            self._lines()

    def _bar(self) -> None:
        columns = (
            TextColumn("evaluating"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.fields[rate]}"),
            TimeRemainingColumn(),
        )
        started = time.monotonic()
        with Progress(*columns, console=self.console, transient=True) as progress:
            task = progress.add_task("", total=self.total, completed=self.before, rate="")
            while not self._stop.wait(0.5):
                done = self.store.count(self.cells)
                progress.update(task, completed=done, rate=_rate(done - self.before, time.monotonic() - started))

    def _lines(self) -> None:
        started = time.monotonic()
        while not self._stop.wait(EVERY_LINE):
            done = self.store.count(self.cells)
            elapsed = time.monotonic() - started
            left = elapsed * (self.total - done) / (done - self.before) if done > self.before else 0
            rest = f", {left / 60:.0f} min left" if left else ""
            self.console.print(f"evaluated {done} of {self.total} items, {_rate(done - self.before, elapsed)}{rest}")


def _rate(items: int, seconds: float) -> str:
    return f"{items / seconds:.1f} items/s" if seconds > 0 else ""
