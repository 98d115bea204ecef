"""Hidden states of layers that no training changes, computed once for all seeds and epochs.

    table = states_table(model, at=10, groups=[([1, 5, 7], [1, 5, 8, 9]), …], padding=2, key="…")
    train_on(model, at=10, table.states)       # the model now reads rows of the table where it read tokens

The states below the lowest trained block are kept as the rows of an embedding table, one for each position of each
text, and the blocks below are taken out of the model: a trainer that knows nothing of this trains on "tokens" that are
numbers of rows. Texts of a group that begin alike have the rows of their beginning in common. The row that has the
number of the tokenizer's padding token is the padding's: trainers look for it.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice

import torch
from torch import Tensor, nn

from harness import assets
from harness.blocks import is_exact, keep_above, states_below
from harness.memory import free_memory
from harness.onednn import packed_weights
from harness.packed import length, pack, shared
from harness.reward.models import batches

LARGEST = 4 * 2**30  # bytes of a table; above, each step computes its lower blocks itself
BATCH = 2048  # tokens at a time
Group = Sequence[list[int]]
FILE = "states.safetensors"


@dataclass(frozen=True)
class Table:
    """states: [rows, width]; groups: as those of texts, the numbers of each text's rows."""

    states: Tensor
    groups: tuple[list[list[int]], ...]


def states_table(model, at: int, groups: Sequence[Group], padding: int, key: str) -> Table | None:
    """The table of these tokens for the blocks from `at` on, out of the cache where it was made before.

    None where nothing lies below, it would be too large, or the model cannot be cut exactly. A group of several texts
    is packed: the caller has asked whether the model can read that.
    """
    from safetensors.torch import load_file

    positions = sum(map(length, groups))
    width = model.config.get_text_config().hidden_size
    inner = getattr(model, model.base_model_prefix)
    size = 4 * width * positions
    largest = min(LARGEST, free_memory(torch.device("cpu")) // 3)  # it is made, written, and read again
    if at == 0 or size > largest or not is_exact(inner, at, torch.tensor([groups[0][0]])):
        return None
    numbers = iter([n for n in range(positions + 1) if n != padding])
    rows = tuple(_numbered(group, numbers) for group in groups)
    target = assets.cache_dir() / "hidden" / key
    folder = assets.publish(target, lambda made: _save(inner, at, groups, rows, padding, made / FILE), room=size)
    return Table(load_file(folder / FILE)["states"], rows)


def train_on(model, at: int, states: Tensor) -> None:
    """Takes the blocks below `at` out; token n is now row n of the states."""
    keep_above(model, at)
    model.set_input_embeddings(nn.Embedding.from_pretrained(states, freeze=True))


def _numbered(group: Group, numbers: Iterator[int]) -> list[list[int]]:
    """Numbers of rows for a group's positions, those of their common beginning once."""
    alike = shared(group)
    beginning = list(islice(numbers, alike))
    return [[*beginning, *islice(numbers, len(text) - alike)] for text in group]


def _save(inner, at: int, groups: Sequence[Group], rows: Sequence[list[list[int]]], padding: int, path) -> None:
    from safetensors.torch import save_file
    from tqdm.auto import tqdm

    lengths = list(map(length, groups))
    order = sorted(range(len(groups)), key=lambda n: lengths[n])
    last = max(max(map(max, group)) for group in rows)
    states = torch.zeros(max(padding, last) + 1, inner.config.get_text_config().hidden_size)
    with packed_weights(inner), tqdm(total=len(groups), desc=f"layers 1 to {at}, once", unit="group") as bar:
        for batch in batches(order, lengths, BATCH):
            asked = pack([groups[n] for n in batch], inner.dtype)
            found = states_below(inner, at, asked.asked)
            numbers = [rows[n][text] for n in batch for text in range(len(rows[n]))]
            for row, where, own in zip(asked.row, asked.where, numbers, strict=True):
                states[own] = found[row, where[: len(own)]]
            bar.update(len(batch))
    save_file({"states": states}, path)
