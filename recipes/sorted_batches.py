"""Batches of pairs of like length, in a shuffled order, so that little of a step is padding.

Rows are shuffled, taken `POOL` batches at a time, sorted by length there and cut into batches, whose order is shuffled
again: each batch is a random draw but for its length.
"""

from __future__ import annotations

import random
from collections.abc import Sequence

from torch.utils.data import DataLoader
from trl import RewardTrainer

POOL = 8  # batches


def batches(lengths: Sequence[int], batch: int, epochs: int, seed: int) -> list[list[int]]:
    """Numbers of rows for every step of a training; each row once in each epoch."""
    found: list[list[int]] = []
    for epoch in range(epochs):
        rng = random.Random(f"batches/{seed}/{epoch}")
        order = rng.sample(range(len(lengths)), len(lengths))
        made = []
        for start in range(0, len(order), POOL * batch):
            pool = sorted(order[start : start + POOL * batch], key=lambda row: lengths[row])
            made += [pool[at : at + batch] for at in range(0, len(pool), batch)]
        found += rng.sample(made, len(made))
    return found


class SortedTrainer(RewardTrainer):
    """trl's trainer on `batches`; `args.max_steps` is their number, so that all epochs are one pass over the list."""

    def __init__(self, *, order: Sequence[Sequence[int]], **options):
        super().__init__(**options)
        self.order = order

    def get_train_dataloader(self) -> DataLoader:
        return DataLoader(self.train_dataset, batch_sampler=list(self.order), collate_fn=self.data_collator)
