"""Hidden states of layers that no training changes, computed once for all seeds and epochs.

    table = states_table(model, at=10, texts=[[1, 5, 7], …], padding=2, key="…")
    train_on(model, at=10, table.states)       # the model now reads rows of the table where it read tokens

The states below the lowest trained block are kept as the rows of an embedding table, one for each position of each
text, and the blocks below are taken out of the model: a trainer that knows nothing of this trains on "tokens" that are
numbers of rows. The row that has the number of the tokenizer's padding token is the padding's: trainers look for it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from harness import assets
from harness.blocks import is_exact, keep_above, states_below
from harness.memory import free_memory
from harness.reward.models import batches

LARGEST = 4 * 2**30  # bytes of a table; above, each step computes its lower blocks itself
BATCH = 2048  # tokens at a time
FILE = "states.safetensors"


@dataclass(frozen=True)
class Table:
    """states: [rows, width]; rows: of each text, the numbers of its positions."""

    states: Tensor
    rows: tuple[list[int], ...]


def states_table(model, at: int, texts: Sequence[Sequence[int]], padding: int, key: str) -> Table | None:
    """The table of these tokens for the blocks from `at` on, out of the cache where it was made before.

    None where nothing lies below, it would be too large, or the model cannot be cut exactly.
    """
    from safetensors.torch import load_file

    positions = sum(map(len, texts))
    width = model.config.get_text_config().hidden_size
    inner = getattr(model, model.base_model_prefix)
    size = 4 * width * positions
    largest = min(LARGEST, free_memory(torch.device("cpu")) // 3)  # it is made, written, and read again
    if at == 0 or size > largest or not is_exact(inner, at, torch.tensor([list(texts[0])])):
        return None
    numbers = iter([n for n in range(positions + 1) if n != padding])
    rows = tuple([next(numbers) for _ in text] for text in texts)
    target = assets.cache_dir() / "hidden" / key
    folder = assets.publish(target, lambda made: _save(inner, at, texts, rows, padding, made / FILE), room=size)
    return Table(load_file(folder / FILE)["states"], rows)


def train_on(model, at: int, states: Tensor) -> None:
    """Takes the blocks below `at` out; token n is now row n of the states."""
    keep_above(model, at)
    model.set_input_embeddings(nn.Embedding.from_pretrained(states, freeze=True))


def _save(inner, at: int, texts: Sequence[Sequence[int]], rows: Sequence[list[int]], padding: int, path) -> None:
    from safetensors.torch import save_file
    from tqdm.auto import tqdm

    order = sorted(range(len(texts)), key=lambda n: len(texts[n]))
    states = torch.zeros(max(padding, max(map(max, rows))) + 1, inner.config.get_text_config().hidden_size)
    with tqdm(total=len(texts), desc=f"layers 1 to {at}, once", unit="text") as bar:
        for batch in batches(order, texts, BATCH):
            tokens = nn.utils.rnn.pad_sequence([torch.tensor(texts[n]) for n in batch], batch_first=True)
            mask = nn.utils.rnn.pad_sequence([torch.ones(len(texts[n]), dtype=torch.long) for n in batch], True)
            found = states_below(inner, at, tokens, mask)
            for own, n in zip(found, batch, strict=True):
                states[rows[n]] = own[: len(texts[n])]
            bar.update(len(batch))
    save_file({"states": states}, path)
