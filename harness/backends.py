"""Which lm-eval `LM` answers the requests of a loaded model: our engine, or lm-eval's own Hugging Face backend.

The engine reads models of plain causal attention (`probe`). Others take lm-eval's backend, with the attention that they
were loaded with; so do those whose generation settings ask for more than greedy decoding with a repetition penalty.
"""

from __future__ import annotations

import contextlib
import functools
import io
import math
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from lm_eval.models.utils import normalize_gen_kwargs

from harness.checkpoints import CheckedModel
from harness.chosen_attention import choose_ours, choose_own
from harness.engine import Engine
from harness.lower_states import Below
from harness.memory import attempt
from harness.models import LoadedModels
from harness.probe import depends_on_neighbours, reach, reads_trees
from harness.served import open_served
from harness.specs import Unusable
from harness.vllm_backend import VllmModels

SMALL = 16  # rows at a time of a check that asks in other batches
CHUNK = 16  # requests handed to another backend at a time, so that its answers are stored as they come
PLAIN = {  # generation settings of transformers and the values that change nothing
    "num_beams": 1, "no_repeat_ngram_size": 0, "encoder_repetition_penalty": 1.0, "encoder_no_repeat_ngram_size": 0,
    "min_length": 0, "min_new_tokens": 0, "bad_words_ids": [], "suppress_tokens": [], "begin_suppress_tokens": [],
    "forced_bos_token_id": None, "forced_eos_token_id": None, "exponential_decay_length_penalty": None,
    "sequence_bias": {}, "guidance_scale": 1.0, "penalty_alpha": 0.0, "dola_layers": None,
}  # fmt: skip


def open_lm(
    model,
    tokenizer,
    seed: int,
    small: bool = False,
    longest: Callable[[], float] = lambda: math.inf,
    below: Below | None = None,
):
    """An lm-eval LM over a loaded model; small: a few rows at a time; longest: tokens of a row, see `probe.reach`.

    below: states that it shares with other models, as far as our engine reads it.
    """
    most = reach(model.config)
    if not foreign_settings(model) and (most == math.inf or longest() <= most) and reads_trees(model):
        choose_ours(model)
        lm = Engine(model, tokenizer, seed=seed, below=below, **({"slots": SMALL, "pack_tokens": 256} if small else {}))
        lm.pack_tokens = min(lm.pack_tokens, most)
        return lm
    from lm_eval.models.huggingface import HFLM

    choose_own(model)
    rows = 1 if depends_on_neighbours(model.config) else SMALL // 4 if small else CHUNK
    with contextlib.redirect_stdout(io.StringIO()), _weights_as_they_are(model):
        return HFLM(pretrained=model, tokenizer=tokenizer, batch_size=rows)


@contextlib.contextmanager
def _weights_as_they_are(model) -> Iterator[None]:
    """HFLM ties the weights of what it is given anew: under an adapter to copies that the adapter has trained."""
    model.tie_weights = lambda *args, **kwargs: None
    try:
        yield
    finally:
        del model.tie_weights


@contextlib.contextmanager
def reader(models: LoadedModels, model: CheckedModel, seed: int, small: bool = False) -> Iterator[Any]:
    """The LM that answers as `model` inside the block, whatever runs it; small: a few rows at a time, where we say."""
    if model.spec.kind == "served":
        yield models.kept(model.digest, lambda: open_served(model))
    elif models.backend == "vllm":
        given = models.dtype, models.backend_arguments, models.trust_remote_code
        yield models.kept("vllm", lambda: VllmModels(*given)).lm(model)
    else:
        tokenizer, asked = models.tokenizer(model), models.asked
        longest = functools.partial(asked.longest, tokenizer) if asked else lambda: math.inf
        with models.active(model) as loaded:
            # a check by asking again must compute all of it again
            lm = open_lm(loaded, tokenizer, seed, small, longest, None if small else models.below(model, loaded))
            if asked and not isinstance(lm, Engine):  # said before any benchmark is evaluated, not at the sampled one
                asked.refuse_sampling(f"lm-eval's own backend for '{model.spec.text}'")
            yield lm


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
            " noise; write --greedy, or set temperature = 0 in the basket."
        )
    for kind in dict.fromkeys(r.request_type for r in requests):
        waiting = [i for i, r in enumerate(requests) if r.request_type == kind]
        while waiting:
            halves = hasattr(lm, "batch_size_per_gpu")  # others batch by themselves
            chunk = waiting[: lm.batch_size_per_gpu if halves else getattr(lm, "at_once", None)]
            ask = [requests[i] for i in chunk]
            again = halves and len(chunk) > 1
            answers = attempt(lambda kind=kind, ask=ask: getattr(lm, kind)(ask, disable_tqdm=True), again)
            if answers is None:
                lm.batch_size_per_gpu = max(1, lm.batch_size_per_gpu // 2)
                continue
            yield from zip(chunk, answers, strict=True)
            del waiting[: len(chunk)]
