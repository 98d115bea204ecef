"""Which lm-eval `LM` answers the requests of a loaded model: our engine, or lm-eval's own Hugging Face backend.

The engine needs attention that takes a mask of its own. Models that do without (sliding windows, state spaces) or
whose attention is not in transformers' registry are recognised by their logits, and take lm-eval's backend.
"""

from __future__ import annotations

import contextlib
import io
from collections.abc import Iterator, Sequence
from typing import Any

import torch

from harness.engine import Engine
from harness.memory import out_of_memory
from harness.slots import SHARED_PREFIX
from harness.token_tree import TokenTree

TOLERANCE = 5e-3  # of log-probabilities in float32; half-precision models get more, see `_reads_trees`
CHUNK = 16  # requests handed to another backend at a time, so that its answers are stored as they come


def open_lm(model, tokenizer, seed: int, small: bool = False):
    """An lm-eval LM over a loaded model; small: two rows at a time. Sampled decoding is coupled in our engine only."""
    if _reads_trees(model):
        return Engine(model, tokenizer, seed=seed, **({"slots": 2, "pack_tokens": 64} if small else {}))
    from lm_eval.models.huggingface import HFLM

    _use_plain_attention(model)
    with contextlib.redirect_stdout(io.StringIO()):
        return HFLM(pretrained=model, tokenizer=tokenizer, batch_size=2 if small else 16)


def stream(lm, requests: Sequence[Any]) -> Iterator[tuple[int, Any]]:
    """Yields (index of the request, response) as batches finish, from any lm-eval LM."""
    if isinstance(lm, Engine):
        yield from lm.stream(requests)
        return
    for kind in dict.fromkeys(r.request_type for r in requests):
        members = [i for i, r in enumerate(requests) if r.request_type == kind]
        for start in range(0, len(members), CHUNK):
            chunk = members[start : start + CHUNK]
            answers = getattr(lm, kind)([requests[i] for i in chunk], disable_tqdm=True)
            yield from zip(chunk, answers, strict=True)


@torch.inference_mode()
def _reads_trees(model) -> bool:
    """True if two sequences that share a start get the same log-probabilities as a tree and each alone."""
    if getattr(model, "_lethe_reads_trees", None) is None:
        model._lethe_reads_trees = model.config._attn_implementation == SHARED_PREFIX and _probe(model)
    return model._lethe_reads_trees


def _probe(model) -> bool:
    vocabulary = model.config.get_text_config().vocab_size
    window = getattr(model.config.get_text_config(), "sliding_window", None)
    if window and getattr(model.config.get_text_config(), "use_sliding_window", True):
        return False
    start = [(7 * n + 3) % vocabulary for n in range(24)]
    rows = [[*start, *((11 * n + k) % vocabulary for n in range(8))] for k in (1, 2)]
    tolerance = TOLERANCE if model.dtype == torch.float32 else 0.25
    try:
        engine = Engine(model, None)
        tree = TokenTree(rows)
        logits, _ = engine._read_tree(tree, None, [path[-1] for path in tree.paths])
        prefix = engine._read_prefix(start)
        tails = TokenTree([row[len(start) :] for row in rows])
        behind, _ = engine._read_tree(tails, prefix, [path[-1] for path in tails.paths])
    except (TypeError, ValueError, RuntimeError, AttributeError, IndexError) as error:
        if out_of_memory(error):
            raise
        return False
    plain = torch.cat([model(torch.tensor([row], device=model.device)).logits[:, -1] for row in rows])
    plain, logits, behind = (torch.log_softmax(x.float(), dim=-1) for x in (plain, logits, behind))
    return bool((plain - logits).abs().max() < tolerance and (plain - behind).abs().max() < tolerance)


def _use_plain_attention(model) -> None:
    if model.config._attn_implementation == SHARED_PREFIX:
        model.set_attn_implementation("sdpa")
