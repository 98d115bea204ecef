"""Log-probabilities of answer tokens, at the cost of no more than they need.

    logprobs = next_token(model, part)      # [answer tokens, vocabulary], of the tokens part["labels"] asks for

Two things are left out that a plain forward pass computes. The head is asked at the places before answer tokens alone:
of short answers behind long prompts that is a tenth of all, and for a small model on a CPU the head with its vocabulary
is a third of the work. And what all rows begin with, as chat templates put the same system turn before each, goes
through the model once; the rows branch off its keys and values. Both are exact but for the order of sums: the gradient
of the shared tokens is the sum of those of their copies.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from transformers import DynamicCache
from transformers.cache_utils import DynamicLayer

from harness.probe import depends_on_neighbours

IGNORED = -100  # the label of a token that is no answer's


def answers(part: Mapping[str, torch.Tensor]) -> torch.Tensor:
    """The answer tokens of a batch that is padded on the right, row by row: [answer tokens]."""
    labels = part["labels"][:, 1:]
    return labels[labels != IGNORED]


def next_token(model, part: Mapping[str, torch.Tensor]) -> torch.Tensor:
    """Log-probabilities [answer tokens, vocabulary] of what stands at each answer token, float32.

    model: a causal language model of transformers, with or without an adapter; part: input_ids, attention_mask and
    labels [rows, tokens], padded on the right.
    """
    part = _branched(model, part)
    labels = part.pop("labels")
    before = torch.nn.functional.pad(labels, (0, 1), value=IGNORED)[:, 1:] != IGNORED  # the places before answer tokens

    asked: list[int] = []

    def ask(_, given: tuple[torch.Tensor, ...]) -> tuple[torch.Tensor, ...]:
        asked.append(1)
        return given[0][before][None], *given[1:]  # [1, answer tokens, hidden]

    hook = model.get_output_embeddings().register_forward_pre_hook(ask)
    try:
        logits = model(**part, use_cache=False).logits
    finally:
        hook.remove()
    logits = logits[0] if asked else logits[before]  # some models multiply by the head's weights without calling it
    return logits.float().log_softmax(dim=-1)


def _branched(model, part: Mapping[str, torch.Tensor]) -> dict[str, Any]:
    """The part without what all its rows begin with, and that as past keys and values instead."""
    ids, labels = part["input_ids"], part["labels"]
    first = int((labels != IGNORED).any(dim=0).nonzero()[0])
    shared = int((ids == ids[:1]).all(dim=0).cumprod(dim=0).sum())
    shared = min(shared, first - 1)  # each answer token keeps the one before it
    if len(ids) == 1 or shared < 1 or not _keeps_all(model):
        return dict(part)
    past = model(input_ids=ids[:1, :shared], use_cache=True).past_key_values
    past.batch_repeat_interleave(len(ids))
    rest = {name: part[name][:, shared:] for name in ("input_ids", "labels")}
    return {**rest, "attention_mask": part["attention_mask"], "past_key_values": past}


def _keeps_all(model) -> bool:
    """True if every layer keeps the keys and values of all tokens, which do not depend on draws or on other rows."""
    drawn = model.training and getattr(model.config.get_text_config(), "attention_dropout", 0)
    if drawn or depends_on_neighbours(model.config):
        return False
    return all(type(layer) is DynamicLayer for layer in DynamicCache(config=model.config).layers)
