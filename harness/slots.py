"""Rows being generated, each in a slot of one key-value cache; a block of tokens that all share is kept once.

`SHARED_PREFIX` is an attention function in transformers' registry: a step of all rows attends to the shared prefix
with one matrix product and to each row's own tokens with another, under one softmax.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from transformers import AttentionInterface, DynamicCache
from transformers.integrations.sdpa_attention import sdpa_attention_forward

SHARED_PREFIX = "lethe_shared_prefix"
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

    def as_cache(self, config) -> DynamicCache:
        """A cache that starts with this prefix; filling it leaves the prefix as it is."""
        cache = DynamicCache(config=config)
        for index, (key, value) in enumerate(zip(self.keys, self.values, strict=True)):
            cache.update(key, value, index)
        return cache


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
        """Takes the keys and values along each path of a tree that was read into `cache` behind the prefix."""
        start = self.prefix.length if self.prefix else 0
        old = len(self.rows)
        self.rows += [Row(k, len(path), prompt) for k, path, prompt in zip(keys, paths, prompts, strict=True)]
        longest = max(len(path) for path in paths)
        pick = torch.zeros(len(paths), longest, dtype=torch.long)
        for n, path in enumerate(paths):
            pick[n, : len(path)] = torch.tensor(path) + start
        pick = pick.to(cache.layers[0].keys.device)
        for index, layer in enumerate(cache.layers):
            for store, filled in ((self._keys, layer.keys), (self._values, layer.values)):
                new = filled[0][:, pick].transpose(0, 1)  # [rows, heads, longest, size]
                if index == len(store):
                    store.append(new.new_zeros(0, new.shape[1], 0, new.shape[3]))
                store[index] = _stack(store[index][:old], new)

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
            keep = [n for n, row in enumerate(self.rows) if not row.finished]
            self.rows = [self.rows[n] for n in keep]
            width = max((row.length for row in self.rows), default=0)
            for store in (self._keys, self._values):
                for index, tensor in enumerate(store):
                    store[index] = tensor[keep, :, :width] if keep else tensor[:0, :, :0]
        return done

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
        if self._keys[0].shape[2] < length:
            for store in (self._keys, self._values):
                for index, tensor in enumerate(store):
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


def attend(module, query, key, value, attention_mask, dropout=0.0, scaling=None, shared_prefix=None, **kwargs):
    """Scaled dot-product attention; with `shared_prefix`, one query a row over the prefix and the row's own tokens.

    query [rows, heads, 1, size]; key, value [rows, kv heads, used, size]; attention_mask bool [rows, 1, 1, used].
    """
    if shared_prefix is None:
        return sdpa_attention_forward(module, query, key, value, attention_mask, dropout, scaling, **kwargs)
    layer = module.layer_idx
    first_key, first_value = shared_prefix.keys[layer][0], shared_prefix.values[layer][0]  # [kv heads, prefix, size]
    rows, heads, _, size = query.shape
    kv_heads = key.shape[1]
    grouped = query.reshape(rows, kv_heads, heads // kv_heads, size) * (size**-0.5 if scaling is None else scaling)
    by_head = grouped.transpose(0, 1).reshape(kv_heads, -1, size)  # [kv heads, rows x group, size]
    on_prefix = (by_head @ first_key.transpose(1, 2)).reshape(kv_heads, rows, heads // kv_heads, -1).transpose(0, 1)
    on_own = (grouped @ key.transpose(2, 3)).masked_fill(~attention_mask, float("-inf"))
    weights = torch.softmax(torch.cat([on_prefix, on_own], dim=-1), dim=-1, dtype=torch.float32).to(query.dtype)
    of_prefix, of_own = weights.split([on_prefix.shape[-1], on_own.shape[-1]], dim=-1)
    from_prefix = of_prefix.transpose(0, 1).reshape(kv_heads, -1, of_prefix.shape[-1]) @ first_value
    mixed = from_prefix.reshape(kv_heads, rows, -1, size).transpose(0, 1) + of_own @ value
    return mixed.reshape(rows, 1, heads, size), None


AttentionInterface.register(SHARED_PREFIX, attend)
