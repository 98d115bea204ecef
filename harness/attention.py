"""Attention that the engine's layouts need, registered with transformers under the name `LETHE`.

A forward pass is one of three:
- a tree of tokens: each segment attends to the chains above it and to itself, and all of them at once to the prefix
  that they share, from which the two softmaxes are joined by their sums;
- a step of rows that are being written: one matrix product of all rows with the prefix they share, another of each row
  with its own tokens, under one softmax (Hydragen, Juravsky et al. 2024, arXiv:2402.05099), and no copy of keys and
  values for the heads that share them;
- anything else: transformers' scaled dot-product attention.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from transformers import AttentionInterface
from transformers.integrations.sdpa_attention import sdpa_attention_forward

LETHE = "lethe"
STEP = "step"
SCORES = 2**26  # attention scores that are held at a time where there is no kernel for them: 256 MiB each time


@dataclass(frozen=True)
class Segment:
    """A run of tree nodes that attend to the same keys: the prefix, the `above` runs of nodes, and one another.

    mask: what is added to the scores, [nodes, above + nodes]; None for a chain with nothing above it, which is causal.
    """

    start: int
    stop: int
    above: tuple[tuple[int, int], ...]
    mask: torch.Tensor | None


def attend(module, query, key, value, attention_mask, dropout=0.0, scaling=None, layout=None, prefix=None, **kwargs):
    """The attention function: query [rows, heads, tokens, size], key and value [rows, kv heads, keys, size].

    layout: STEP, or the segments of a tree; prefix: the `Prefix` behind which either stands.
    """
    if layout is None:
        return sdpa_attention_forward(module, query, key, value, attention_mask, dropout, scaling, **kwargs)
    if layout is STEP:
        return _attend_step(module, query, key, value, attention_mask, scaling, prefix), None
    return _attend_tree(module, query, key, value, scaling, prefix, layout), None


def _attend_tree(module, query, key, value, scaling, prefix, segments):
    """query [1, heads, nodes, size]; key, value [1, kv heads, nodes, size] -> [1, nodes, heads, size]."""
    rows, heads, nodes, size = query.shape
    group = heads // key.shape[1]
    whole_key, whole_value = (own.repeat_interleave(group, dim=1) for own in (key, value))
    found = []
    for segment in segments:
        runs = (*segment.above, (segment.start, segment.stop))
        keys, values = (torch.cat([own[:, :, a:b] for a, b in runs], dim=2) for own in (whole_key, whole_value))
        part = query[:, :, segment.start : segment.stop]
        found.append(_softmax_attention(part, keys, values, segment.mask, segment.mask is None, scaling))
    own, own_sum = (torch.cat(parts, dim=2) for parts in zip(*found, strict=True))
    if prefix is None:
        return own.transpose(1, 2)
    by_group = query.reshape(rows, heads // group, group * nodes, size)
    first_key, first_value = prefix.keys[module.layer_idx], prefix.values[module.layer_idx]
    shared, shared_sum = _softmax_attention(by_group, first_key, first_value, None, False, scaling)
    share = torch.sigmoid(shared_sum.reshape(rows, heads, nodes) - own_sum)[..., None].to(own.dtype)
    return torch.lerp(own, shared.reshape(own.shape), share).transpose(1, 2)


def _softmax_attention(query, key, value, mask, causal, scaling) -> tuple[torch.Tensor, torch.Tensor]:
    """Attention and the logarithm of its softmax's sum, [rows, heads, tokens], by which two of them can be joined.

    torch's public function does not give the sum; its kernel for the CPU does.
    """
    if query.device.type == "cpu" and query.shape[-1] == value.shape[-1]:
        return torch.ops.aten._scaled_dot_product_flash_attention_for_cpu(
            query, key, value, 0.0, causal, attn_mask=mask, scale=scaling
        )
    return _attention_in_blocks(query, key, value, mask, causal, scaling)


def _attention_in_blocks(query, key, value, mask, causal, scaling) -> tuple[torch.Tensor, torch.Tensor]:
    """The same from plain operations, over so many queries at a time that their scores are at most `SCORES` numbers.

    All at once would take [heads, tokens, keys] several times over, which for one long prompt is more than the model.
    """
    rows, heads, tokens, size = query.shape
    step = max(1, SCORES // (rows * heads * key.shape[2]))
    keys = key.float().transpose(2, 3)
    mixed, totals = [], []
    for start in range(0, tokens, step):
        part = query[:, :, start : start + step]
        scores = (part.float() @ keys).mul_(size**-0.5 if scaling is None else scaling)
        if causal:
            scores += torch.full(scores.shape[-2:], float("-inf"), device=scores.device).triu(1 + start)
        elif mask is not None:
            scores += mask[start : start + step]
        totals.append(scores.logsumexp(dim=-1))
        mixed.append(scores.sub_(totals[-1][..., None]).exp_().to(value.dtype) @ value)
    return torch.cat(mixed, dim=2), torch.cat(totals, dim=2)


def _attend_step(module, query, key, value, attention_mask, scaling, prefix):
    """query [rows, heads, 1, size]; key, value [rows, kv heads, used, size]; attention_mask bool [rows, 1, 1, used]."""
    rows, heads, _, size = query.shape
    kv_heads = key.shape[1]
    grouped = query.reshape(rows, kv_heads, heads // kv_heads, size) * (size**-0.5 if scaling is None else scaling)
    scores = (grouped @ key.transpose(2, 3)).masked_fill_(~attention_mask, float("-inf"))
    if prefix is None:
        mixed = torch.softmax(scores, dim=-1, dtype=torch.float32).to(query.dtype) @ value
        return mixed.reshape(rows, 1, heads, size)
    first_key, first_value = prefix.keys[module.layer_idx][0], prefix.values[module.layer_idx][0]
    by_head = grouped.transpose(0, 1).reshape(kv_heads, -1, size)  # [kv heads, rows x group, size]
    on_prefix = (by_head @ first_key.transpose(1, 2)).reshape(kv_heads, rows, heads // kv_heads, -1).transpose(0, 1)
    weights = torch.softmax(torch.cat([on_prefix, scores], dim=-1), dim=-1, dtype=torch.float32).to(query.dtype)
    of_prefix, of_own = weights.split([on_prefix.shape[-1], scores.shape[-1]], dim=-1)
    from_prefix = of_prefix.transpose(0, 1).reshape(kv_heads, -1, of_prefix.shape[-1]) @ first_value
    mixed = from_prefix.reshape(kv_heads, rows, -1, size).transpose(0, 1) + of_own @ value
    return mixed.reshape(rows, 1, heads, size)


AttentionInterface.register(LETHE, attend)
