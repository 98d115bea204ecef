"""Stopping early: batches of items over base and candidates together, until a benchmark is decided.

The number of items used follows from the scores alone, so a run that was killed, a run on two workers and a later look
at the store all stop at the same item.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Sequence

from harness.benchmarks import Item


def in_order(items: Sequence[Item]) -> tuple[Item, ...]:
    """One seeded order for all models, independent of how the items were drawn."""
    return tuple(sorted(items, key=lambda item: hashlib.sha256(f"early/{item.id}".encode()).digest()))


def looks(items: int, batch: int) -> Iterator[int]:
    """How many items have been seen at each look, the last of which sees all.

    After a batch, and later after a fifth of what was seen: each look reads few-shot examples anew, which at hundreds
    of looks would cost more than stopping saves.
    """
    seen = min(batch, items)
    while seen < items:
        yield seen
        seen += batch * max(1, seen // (5 * batch))
    yield items


def items_needed(items: Sequence[Item], batch: int, decided: Callable[[Sequence[Item]], bool]) -> tuple[Item, ...]:
    """The first items of the order that decide: at each look, `decided` is asked; all of them if it never is."""
    ordered = in_order(items)
    for seen in looks(len(ordered), batch):
        if decided(ordered[:seen]):
            break
    return ordered[:seen]
