"""Rows being generated, each in a slot of one key-value cache; a block of tokens that all share is kept once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from transformers import DynamicCache

from harness.attention import STEP

_GROW = 256  # positions by which the slots grow at a time, at most


@dataclass(frozen=True)
class Prefix:
    """Keys and values of a prefix, one [1, key-value heads, length, head size] tensor a layer."""

    keys: list[torch.Tensor]
    values: list[torch.Tensor]

    @classmethod
    def of(cls, cache: DynamicCache) -> Prefix:
        return cls([layer.keys for layer in cache.layers], [layer.values for layer in cache.layers])

    @property
    def length(self) -> int:
        return self.keys[0].shape[-2]


@dataclass
class Row:
    """One text being written. key: whose it is; tokens: written so far; length: own positions in the cache.

    held: the different tokens of prompt and text.
    """

    key: int
    length: int
    prompt: list[int]
    tokens: list[int] = field(default_factory=list)
    finished: bool = False
    held: set[int] = field(init=False)

    def __post_init__(self):
        self.held = {*self.prompt, *self.tokens}

    def add(self, token: int) -> None:
        self.tokens.append(token)
        self.held.add(token)


class Slots:
    """At most `size` rows. `put` adds rows whose prompts were read, `forward` makes one step, `append` adds tokens.

    Row n of `rows` owns slot n. The slots are allocated ahead and grow by halves: a row that ends costs one copy of the
    last row into its slot, and no new memory, which would cost more than the step itself.
    """

    def __init__(self, model, size: int, prefix: Prefix | None):
        self.model, self.size, self.prefix = model, size, prefix
        self.rows: list[Row] = []
        # keys [slots, kv heads, head size, capacity] and values [slots, kv heads, capacity, head size] of each layer:
        # a step multiplies both from the left, and reads both along their last axis
        self._keys: list[torch.Tensor] = []
        self._values: list[torch.Tensor] = []

    @property
    def free(self) -> int:
        return self.size - len(self.rows)

    @torch.inference_mode()
    def put(self, keys: Sequence[int], paths: Sequence[list[int]], prompts: Sequence[list[int]], cache) -> None:
        """Takes the keys and values along each path of a tree that was read into `cache`; on error, none of them."""
        old, new, longest = len(self.rows), len(paths), max(len(path) for path in paths)
        self._reserve(self.size, longest + 1, cache.layers)
        pick = torch.zeros(new, longest, dtype=torch.long)
        for n, path in enumerate(paths):
            pick[n, : len(path)] = torch.tensor(path)
        pick = pick.to(self._keys[0].device)
        for keys_of, values_of, layer in zip(self._keys, self._values, cache.layers, strict=True):
            keys_of[old : old + new, ..., :longest] = layer.keys[0][:, pick].permute(1, 0, 3, 2)
            values_of[old : old + new, :, :longest] = layer.values[0][:, pick].transpose(0, 1)
        self.rows += [Row(k, len(path), prompt) for k, path, prompt in zip(keys, paths, prompts, strict=True)]

    def append(self, keys: Sequence[int], tokens: Sequence[int], settings) -> None:
        """Adds one token to each of the rows named; a row that is complete is marked finished."""
        rows = {row.key: row for row in self.rows}
        for key, token in zip(keys, tokens, strict=True):
            row = rows[key]
            row.add(token)
            row.finished = settings.finished(row.tokens)

    def take_finished(self) -> list[Row]:
        """Removes finished rows and returns them."""
        return self._take([row for row in self.rows if row.finished])

    def take_youngest(self) -> list[Row]:
        """Removes the half of the rows that have written least, and leaves no more room than for the others."""
        taken = self._take(sorted(self.rows, key=lambda row: len(row.tokens))[: len(self.rows) // 2])
        self.shrink(max(1, len(self.rows)))
        return taken

    @torch.inference_mode()
    def shrink(self, size: int) -> None:
        """Gives back the memory of all but `size` slots; of all of them where no row is left."""
        self.size = size
        if not self.rows:
            self._keys, self._values = [], []
        for stores in (self._keys, self._values):
            for n, store in enumerate(stores):
                stores[n] = store[:size].clone()

    @torch.inference_mode()
    def _take(self, taken: list[Row]) -> list[Row]:
        for row in taken:
            at = self.rows.index(row)
            last = self.rows.pop()
            if last is not row:
                self.rows[at] = last
                for keys, values in zip(self._keys, self._values, strict=True):
                    keys[at, ..., : last.length] = keys[len(self.rows), ..., : last.length]
                    values[at, :, : last.length] = values[len(self.rows), :, : last.length]
        return taken

    @torch.inference_mode()
    def forward(self) -> torch.Tensor:
        """Feeds each row its last token -> logits [rows, vocabulary] for the next."""
        device = self.model.device
        start = self.prefix.length if self.prefix else 0
        lengths = torch.tensor([row.length for row in self.rows], device=device)
        used = max(row.length for row in self.rows) + 1
        self._reserve(len(self.rows), used)
        cache = _StepCache(self._keys, self._values, lengths, used)
        mask = (torch.arange(used, device=device)[None] <= lengths[:, None])[:, None, None]
        out = self.model(
            input_ids=torch.tensor([[row.tokens[-1]] for row in self.rows], device=device),
            attention_mask=mask,
            position_ids=(lengths + start)[:, None],
            past_key_values=cache,
            use_cache=True,
            layout=STEP,
            prefix=self.prefix,
        )
        for row in self.rows:
            row.length += 1
        return out.logits[:, -1]

    def _reserve(self, rows: int, length: int, layers: Sequence[Any] = ()) -> None:
        """Makes room for so many rows of such a length; `layers`: of a cache that was filled, for the first time."""
        if not self._keys:
            self._keys = [layer.keys.new_zeros(0, layer.keys.shape[1], layer.keys.shape[3], 0) for layer in layers]
            self._values = [
                layer.values.new_zeros(0, layer.values.shape[1], 0, layer.values.shape[3]) for layer in layers
            ]
        for stores, axis in ((self._keys, 3), (self._values, 2)):
            for n, store in enumerate(stores):
                slots, capacity = store.shape[0], store.shape[axis]
                if slots >= rows and capacity >= length:
                    continue
                if capacity < length:
                    capacity = max(length, min(capacity + _GROW, 3 * capacity // 2))
                shape = [max(rows, slots), *store.shape[1:]]
                shape[axis] = capacity
                grown = store.new_zeros(shape)
                grown[: len(self.rows)].narrow(axis, 0, store.shape[axis]).copy_(store[: len(self.rows)])
                stores[n] = grown


class _StepCache:
    """What a model's layers see of the slots during one step: `update` writes in place and returns the used part."""

    is_compileable = False

    def __init__(self, keys, values, lengths: torch.Tensor, used: int):
        self._keys, self._values, self._lengths, self._used = keys, values, lengths, used
        self._rows = torch.arange(len(lengths), device=lengths.device)

    def update(self, key_states, value_states, layer_idx: int, *args, **kwargs):
        keys, values = self._keys[layer_idx][: len(self._rows)], self._values[layer_idx][: len(self._rows)]
        keys[self._rows, :, :, self._lengths] = key_states[:, :, 0]
        values[self._rows, :, self._lengths] = value_states[:, :, 0]
        return keys[..., : self._used].transpose(2, 3), values[:, :, : self._used]

    def get_seq_length(self, layer_idx: int = 0) -> int:
        return self._used - 1
