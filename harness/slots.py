"""Rows being generated, each in a slot of one key-value cache; a block of tokens that all share is kept once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from transformers import DynamicCache

_GROW = 64  # positions by which the slots grow at a time


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
    """One text being written. key: whose it is; tokens: written so far; length: own positions in the cache."""

    key: int
    length: int
    prompt: list[int]
    tokens: list[int] = field(default_factory=list)
    finished: bool = False


class Slots:
    """At most `size` rows. `put` adds rows whose prompts were read, `forward` makes one step, `append` adds tokens."""

    def __init__(self, model, size: int, prefix: Prefix | None):
        self.model, self.size, self.prefix = model, size, prefix
        self.rows: list[Row] = []
        self._keys: list[torch.Tensor] = []  # a layer: [rows, key-value heads, capacity, head size]
        self._values: list[torch.Tensor] = []

    @property
    def free(self) -> int:
        return self.size - len(self.rows)

    def put(self, keys: Sequence[int], paths: Sequence[list[int]], prompts: Sequence[list[int]], cache) -> None:
        """Takes the keys and values along each path of a tree that was read into `cache`; on error, none of them."""
        old = len(self.rows)
        longest = max(len(path) for path in paths)
        pick = torch.zeros(len(paths), longest, dtype=torch.long)
        for n, path in enumerate(paths):
            pick[n, : len(path)] = torch.tensor(path)
        pick = pick.to(cache.layers[0].keys.device)
        try:
            for index, layer in enumerate(cache.layers):
                for store, filled in ((self._keys, layer.keys), (self._values, layer.values)):
                    new = filled[0][:, pick].transpose(0, 1)  # [rows, heads, longest, size]
                    if index == len(store):
                        store.append(new.new_zeros(0, new.shape[1], 0, new.shape[3]))
                    store[index] = _stack(store[index][:old], new)
        except BaseException:
            self._keep(list(range(old)))
            raise
        self.rows += [Row(k, len(path), prompt) for k, path, prompt in zip(keys, paths, prompts, strict=True)]

    def append(self, keys: Sequence[int], tokens: Sequence[int], settings) -> None:
        """Adds one token to each of the rows named; a row that is complete is marked finished."""
        rows = {row.key: row for row in self.rows}
        for key, token in zip(keys, tokens, strict=True):
            row = rows[key]
            row.tokens.append(token)
            row.finished = settings.finished(row.tokens)

    def take_finished(self) -> list[Row]:
        """Removes finished rows and returns them."""
        done = [row for row in self.rows if row.finished]
        if done:
            self._keep([n for n, row in enumerate(self.rows) if not row.finished])
        return done

    def take_youngest(self) -> list[Row]:
        """Removes the half of the rows that have written least, and leaves no more room than for the others."""
        order = sorted(range(len(self.rows)), key=lambda n: len(self.rows[n].tokens))
        taken = [self.rows[n] for n in order[: len(order) // 2]]
        self._keep(sorted(order[len(order) // 2 :]))
        self.size = max(1, len(self.rows))
        return taken

    def _keep(self, places: list[int]) -> None:
        self.rows = [self.rows[n] for n in places]
        width = max((row.length for row in self.rows), default=0)
        for store in (self._keys, self._values):
            for index, tensor in enumerate(store):
                store[index] = tensor[places, :, :width] if places else tensor[:0, :, :0]

    @torch.inference_mode()
    def forward(self) -> torch.Tensor:
        """Feeds each row its last token -> logits [rows, vocabulary] for the next."""
        device = self.model.device
        start = self.prefix.length if self.prefix else 0
        lengths = torch.tensor([row.length for row in self.rows], device=device)
        self._reserve(int(lengths.max()) + 1)
        used = int(lengths.max()) + 1
        cache = _StepCache(self._keys, self._values, lengths, used)
        mask = (torch.arange(used, device=device)[None] <= lengths[:, None])[:, None, None]
        out = self.model(
            input_ids=torch.tensor([[row.tokens[-1]] for row in self.rows], device=device),
            attention_mask=mask,
            position_ids=(lengths + start)[:, None],
            past_key_values=cache,
            use_cache=True,
            **({"shared_prefix": self.prefix} if self.prefix else {}),
        )
        for row in self.rows:
            row.length += 1
        return out.logits[:, -1]

    def _reserve(self, length: int) -> None:
        for store in (self._keys, self._values):
            for index, tensor in enumerate(store):
                if tensor.shape[2] < length:
                    store[index] = torch.nn.functional.pad(tensor, (0, 0, 0, length + _GROW - tensor.shape[2]))


class _StepCache:
    """What a model's layers see of the slots during one step: `update` writes in place and returns the used part."""

    is_compileable = False

    def __init__(self, keys, values, lengths, used):
        self._keys, self._values, self._lengths, self._used = keys, values, lengths, used
        self._rows = torch.arange(len(lengths), device=lengths.device)

    def update(self, key_states, value_states, layer_idx: int, *args, **kwargs):
        keys, values = self._keys[layer_idx], self._values[layer_idx]
        keys[self._rows, :, self._lengths] = key_states[:, :, 0]
        values[self._rows, :, self._lengths] = value_states[:, :, 0]
        return keys[:, :, : self._used], values[:, :, : self._used]

    def get_seq_length(self, layer_idx: int = 0) -> int:
        return self._used - 1


def _stack(old: torch.Tensor, new: torch.Tensor) -> torch.Tensor:
    """Rows of both, padded at the end to one capacity."""
    width = max(old.shape[2], new.shape[2])
    pad = torch.nn.functional.pad
    return torch.cat([pad(x, (0, 0, 0, width - x.shape[2])) for x in (old, new)])
