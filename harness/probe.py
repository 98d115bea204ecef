"""May the engine read a model? By its configuration, and by its logits against the model's own attention.

The engine lays tokens out in trees and packs (`token_tree`), which plain causal attention over keys that are all kept
allows. Windows, chunks, states, capped scores and positions that depend on their neighbours are other models, which
lm-eval's backend reads.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

import torch
from transformers import DynamicCache
from transformers.cache_utils import DynamicLayer, DynamicSlidingWindowLayer

from harness.blocks import ERRORS
from harness.chosen_attention import own_attention, was_ours
from harness.engine import Engine
from harness.memory import out_of_memory
from harness.slots import Prefix, Slots
from harness.token_tree import TokenTree

TOLERANCE = 5e-3  # of log-probabilities in float32
# In half precision the largest difference of a log-probability grows with logits and vocabulary, and says little: 0.28
# of the embedded model in bfloat16, whose reading is honest. The mean one is measured against the mean difference that
# another start of the row makes. Honest readings stay below 0.05 of it (bfloat16; float16 0.01); attention that misses
# four of 32 tokens comes to 0.3 and more.
SHARE = 0.15


@torch.inference_mode()
def reads_trees(model) -> bool:
    """True if rows laid out as the engine does get the same log-probabilities as each alone; tried once a model."""
    if getattr(model, "_lethe_reads_trees", None) is None:
        model._lethe_reads_trees = was_ours(model) and _is_plain(model.config) and _agrees(model)
    return model._lethe_reads_trees


def reach(config) -> float:
    """Tokens of the longest row, with all that is asked behind it, that a model reads as plain attention would.

    As long as a sliding window; where positions change beyond a length (longrope), as long as that; else no limit.
    """
    text = config.get_text_config()
    limits = [layer.sliding_window for layer in DynamicCache(config=config).layers if getattr(layer, "is_sliding", 0)]
    if getattr(text, "use_sliding_window", True):
        limits.append(getattr(text, "sliding_window", None))
    limits += _longropes(text)
    return min((limit - 1 for limit in limits if limit), default=math.inf)  # the cache of a window keeps one less


def depends_on_neighbours(config) -> bool:
    """True if how long the rows beside a row are changes its positions, so that each must be read alone."""
    return bool(list(_longropes(config.get_text_config())))


def _longropes(config) -> Iterator[int]:
    """The lengths at which rotary positions of kind longrope change, of all rows of a batch as of the longest."""
    for name in ("rope_parameters", "rope_scaling"):
        given = getattr(config, name, None) or {}
        for rope in (given, *given.values()):  # of all layers, or by kind of layer
            if isinstance(rope, dict) and rope.get("rope_type", rope.get("type")) == "longrope":
                named = (rope, config.to_dict())
                yield next((length for part in named if (length := part.get("original_max_position_embeddings"))), 1)


def _is_plain(config) -> bool:
    text = config.get_text_config()
    if getattr(text, "attention_chunk_size", None) or getattr(text, "attn_logit_softcapping", None):
        return False
    return all(type(layer) in (DynamicLayer, DynamicSlidingWindowLayer) for layer in DynamicCache(config=config).layers)


def _agrees(model) -> bool:
    """Two rows that share a start and are continued by a token: as a tree and behind a prefix, against each alone."""
    vocabulary = model.config.get_text_config().vocab_size
    start = [(7 * n + 3) % vocabulary for n in range(24)]
    tails = [[(11 * n + k) % vocabulary for n in range(8)] for k in (1, 2)]
    follow = [5 % vocabulary, 9 % vocabulary]
    try:
        engine = Engine(model, None)
        tree = _laid_out(engine, [start + tail for tail in tails], follow, None)
        behind = _laid_out(engine, tails, follow, engine.read_prefix(start))
    except ERRORS as error:
        if out_of_memory(error):
            raise
        return False
    with own_attention(model):
        alone = [_alone(model, [*start, *tail, token]) for tail, token in zip(tails, follow, strict=True)]
        unlike = _alone(model, [*start[::-1], *tails[0], follow[0]])
    scale = float((unlike - alone[0]).abs().mean())
    return all(_equal(found, torch.stack(alone), scale, model.dtype) for found in (tree, behind))


def _laid_out(engine: Engine, rows: list[list[int]], follow: Sequence[int], prefix: Prefix | None) -> torch.Tensor:
    """Log-probabilities [rows, 2, vocabulary] behind the last token of each row and behind the one that follows it."""
    tree = TokenTree(rows)
    ends, cache = engine.read_tree(tree, prefix, [path[-1] for path in tree.paths], keep_cache=True)
    slots = Slots(engine.model, len(rows), prefix)
    slots.put(range(len(rows)), tree.paths, rows, cache)
    for row, token in zip(slots.rows, follow, strict=True):
        row.tokens.append(token)
    return torch.log_softmax(torch.stack([ends, slots.forward()], dim=1).float(), dim=-1)


def _alone(model, row: list[int]) -> torch.Tensor:
    """Log-probabilities [2, vocabulary] behind the last two tokens of one row, read as everyone reads it."""
    logits = model(torch.tensor([row], device=model.device)).logits[0, -2:]
    return torch.log_softmax(logits.float(), dim=-1)


def _equal(found: torch.Tensor, expected: torch.Tensor, scale: float, dtype: torch.dtype) -> bool:
    off = (found - expected).abs()
    if dtype == torch.float32:
        return bool(off.max() < TOLERANCE)
    return bool((off.mean(dim=(0, 2)) < SHARE * scale).all())
