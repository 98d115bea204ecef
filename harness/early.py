"""Stopping early: batches of items over base and candidates together, until a benchmark is decided.

The number of items used follows from the scores alone, so a run that was killed, a run on two workers and a later look
at the store all stop at the same item.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence

from harness.benchmarks import Item


def in_order(items: Sequence[Item]) -> tuple[Item, ...]:
    """One seeded order for all models, independent of how the items were drawn."""
    return tuple(sorted(items, key=lambda item: hashlib.sha256(f"early/{item.id}".encode()).digest()))


def items_needed(items: Sequence[Item], batch: int, decided: Callable[[Sequence[Item]], bool]) -> tuple[Item, ...]:
    """The first items of the order that decide: after each batch, `decided` is asked; all of them if it never is."""
    ordered = in_order(items)
    for end in range(batch, len(ordered), batch):
        if decided(ordered[:end]):
            return ordered[:end]
    decided(ordered)
    return ordered
