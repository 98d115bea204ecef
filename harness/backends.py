"""Which lm-eval `LM` answers the requests of a loaded model: our engine, or lm-eval's own Hugging Face backend.

The engine needs attention of its own (`attention`). Models that do without (sliding windows, state spaces) or whose
attention is not in transformers' registry are recognised by their logits, and take lm-eval's backend; so do those whose
generation settings ask for more than greedy decoding with a repetition penalty.
"""

from __future__ import annotations

import contextlib
import io
from collections.abc import Iterator, Sequence
from typing import Any

import torch
from lm_eval.models.utils import normalize_gen_kwargs

from harness.attention import LETHE
from harness.checkpoints import CheckedModel
from harness.engine import Engine
from harness.memory import attempt, out_of_memory
from harness.models import LoadedModels
from harness.served import open_served
from harness.specs import Unusable
from harness.token_tree import TokenTree
from harness.vllm_backend import VllmModels

TOLERANCE = 5e-3  # of log-probabilities in float32; half-precision models get more, see `_reads_trees`
SMALL = 16  # rows at a time of a check that asks in other batches
MANY = 256  # requests handed at a time to a backend that makes its own batches
CHUNK = 16  # requests handed to another backend at a time, so that its answers are stored as they come
PLAIN = {  # generation settings of transformers and the values that change nothing
    "num_beams": 1, "no_repeat_ngram_size": 0, "encoder_repetition_penalty": 1.0, "encoder_no_repeat_ngram_size": 0,
    "min_length": 0, "min_new_tokens": 0, "bad_words_ids": [], "suppress_tokens": [], "begin_suppress_tokens": [],
    "forced_bos_token_id": None, "forced_eos_token_id": None, "exponential_decay_length_penalty": None,
    "sequence_bias": {}, "guidance_scale": 1.0, "penalty_alpha": 0.0, "dola_layers": None,
}  # fmt: skip


def open_lm(model, tokenizer, seed: int, small: bool = False):
    """An lm-eval LM over a loaded model; small: a few rows at a time."""
    if not foreign_settings(model) and _reads_trees(model):
        return Engine(model, tokenizer, seed=seed, **({"slots": SMALL, "pack_tokens": 256} if small else {}))
    from lm_eval.models.huggingface import HFLM

    _use_plain_attention(model)
    with contextlib.redirect_stdout(io.StringIO()):
        return HFLM(pretrained=model, tokenizer=tokenizer, batch_size=SMALL // 4 if small else CHUNK)


@contextlib.contextmanager
def reader(models: LoadedModels, model: CheckedModel, seed: int, small: bool = False) -> Iterator[Any]:
    """The LM that answers as `model` inside the block, whatever runs it; small: a few rows at a time, where we say."""
    if model.spec.kind == "served":
        yield models.kept(model.digest, lambda: open_served(model))
    elif models.backend == "vllm":
        given = models.dtype, models.backend_arguments, models.trust_remote_code
        yield models.kept("vllm", lambda: VllmModels(*given)).lm(model)
    else:
        with models.active(model) as loaded:
            yield open_lm(loaded, models.tokenizer(model), seed, small)


def foreign_settings(model) -> list[str]:
    """Settings of the model's own generation configuration that change greedy decoding in ways the engine does not."""
    own = getattr(model, "generation_config", None)
    return [name for name, plain in PLAIN.items() if getattr(own, name, None) not in (None, plain)]


def stream(lm, requests: Sequence[Any], seeds: Sequence[int] | None = None) -> Iterator[tuple[int, Any]]:
    """Yields (index of the request, response) as batches finish, from any lm-eval LM; seeds: see `Engine.stream`."""
    if isinstance(lm, Engine):
        yield from lm.stream(requests, seeds)
        return
    if any(r.request_type == "generate_until" and normalize_gen_kwargs(r.args[1]).get("do_sample") for r in requests):
        raise Unusable(
            f"this model is read by lm-eval's {type(lm).__name__}, which cannot sample base and candidate with the same"
            " noise; set temperature = 0 in the basket."
        )
    for kind in dict.fromkeys(r.request_type for r in requests):
        waiting = [i for i, r in enumerate(requests) if r.request_type == kind]
        while waiting:
            halves = hasattr(lm, "batch_size_per_gpu")  # others batch by themselves
            chunk = waiting[: lm.batch_size_per_gpu if halves else MANY]
            ask = [requests[i] for i in chunk]
            again = halves and len(chunk) > 1
            answers = attempt(lambda kind=kind, ask=ask: getattr(lm, kind)(ask, disable_tqdm=True), again)
            if answers is None:
                lm.batch_size_per_gpu = max(1, lm.batch_size_per_gpu // 2)
                continue
            yield from zip(chunk, answers, strict=True)
            del waiting[: len(chunk)]


@torch.inference_mode()
def _reads_trees(model) -> bool:
    """True if two sequences that share a start get the same log-probabilities as a tree and each alone."""
    if getattr(model, "_lethe_reads_trees", None) is None:
        model._lethe_reads_trees = model.config._attn_implementation == LETHE and _probe(model)
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
        logits, _ = engine.read_tree(tree, None, [path[-1] for path in tree.paths])
        prefix = engine.read_prefix(start)
        tails = TokenTree([row[len(start) :] for row in rows])
        behind, _ = engine.read_tree(tails, prefix, [path[-1] for path in tails.paths])
    except (TypeError, ValueError, RuntimeError, AttributeError, IndexError) as error:
        if out_of_memory(error):
            raise
        return False
    plain = torch.cat([model(torch.tensor([row], device=model.device)).logits[:, -1] for row in rows])
    plain, logits, behind = (torch.log_softmax(x.float(), dim=-1) for x in (plain, logits, behind))
    return bool((plain - logits).abs().max() < tolerance and (plain - behind).abs().max() < tolerance)


def _use_plain_attention(model) -> None:
    if model.config._attn_implementation == LETHE:
        model.set_attn_implementation("sdpa")
