"""Fills cells of the store: for one model and benchmark, asks what is not stored yet and scores it."""

from __future__ import annotations

import contextlib
import functools
import math
import time
from collections.abc import Sequence
from importlib.metadata import version
from typing import Any

from harness.backends import reader, stream
from harness.benchmarks import Item, LoadedBenchmark
from harness.checkpoints import CheckedModel
from harness.fingerprint import digest_of
from harness.models import LoadedModels
from harness.specs import Unusable
from harness.store import Cell, Score, Store

ENGINE_VERSION = 4  # raise it when the engine's scores may change
WRITE_EVERY = 2.0  # seconds between transactions

PROBES = (
    "The capital of France is",
    "Question: What is 7 times 8?\nAnswer:",
    "Write a short poem about the sea.",
)


def cell_of(model: CheckedModel, benchmark: LoadedBenchmark, seed: int, models: LoadedModels) -> Cell:
    """The store's key: the model as it is run, benchmark and seed.

    As it is run: weights, number format, kind of device, engine, and the packages that compute and score.
    """
    run = [model.digest, models.dtype, models.device.partition(":")[0], _reader_of(models), ENGINE_VERSION]
    return Cell(digest_of([*run, package_versions()]), benchmark.digest, seed)


def _reader_of(models: LoadedModels) -> list[Any]:
    """What reads the models, with what of its arguments and version may show in a score."""
    if models.backend == "hf":
        return [models.backend]
    return [models.backend, version(models.backend), sorted(models.backend_arguments.items())]


@functools.cache
def package_versions(more: tuple[str, ...] = ()) -> dict[str, str]:
    """Installed versions of what scores depend on, and of `more`."""
    names = ("torch", "transformers", "tokenizers", "peft", "lm_eval", "datasets", "nltk", "langdetect", *more)
    return {name: version(name) for name in names}


def fill(
    model: CheckedModel,
    benchmark: LoadedBenchmark,
    seeds: Sequence[int],
    store: Store,
    models: LoadedModels,
    items: Sequence[Item] | None = None,
    wait: bool = True,
) -> int | None:
    """Evaluates the items that the cells of these seeds lack, together, writing as they finish; how many there were.

    items: those wanted, by default all of the benchmark's. wait: for another worker that is at one of the cells; else
    they are left to it, and None says so. Whatever the machine does (out of memory, a broken model) is raised, never
    stored as a wrong answer.
    """
    with contextlib.ExitStack() as held:
        missing: list[tuple[Cell, Item]] = []
        for seed in sorted(seeds):  # in one order, so that two workers never wait for each other
            cell = cell_of(model, benchmark, seed, models)
            if wait:
                held.enter_context(store.lock(cell))
            elif not held.enter_context(store.claim(cell)):
                return None
            stored = store.items(cell)
            wanted = benchmark.items if items is None else items
            missing += [(cell, item) for item in wanted if item.id not in stored]
        if missing:
            with reader(models, model, missing[0][0].seed) as lm:
                _fill_missing(missing, benchmark, store, lm)
    return len(missing)


def _fill_missing(missing: Sequence[tuple[Cell, Item]], benchmark: LoadedBenchmark, store: Store, lm) -> None:
    requests = [benchmark.requests(item, cell.seed, lm.apply_chat_template) for cell, item in missing]
    owners = [(at, n) for at, made in enumerate(requests) for n in range(len(made))]
    flat = [request for made in requests for request in made]
    answers: list[dict[int, Any]] = [{} for _ in missing]
    finished: list[Score] = []
    written = time.monotonic()
    checked = False
    for index, answer in stream(lm, flat, [missing[at][0].seed for at, _ in owners]):
        at, n = owners[index]
        answers[at][n] = answer
        if len(answers[at]) < len(requests[at]):
            continue
        cell, item = missing[at]
        responses = [answers[at][k] for k in range(len(requests[at]))]
        _finite(responses, item)
        prompt, tokens = _prompt(lm, requests[at])
        metrics = benchmark.score(item, requests[at], responses, lambda text: len(lm.tok_encode(text)))
        if not checked:
            benchmark.check_metric(metrics, item)
            checked = True
        now = time.monotonic()
        finished.append(Score(cell, item.id, metrics, responses, prompt, tokens))
        if now - written > WRITE_EVERY:
            store.put(_with_seconds(finished, now - written))
            finished, written = [], now
    store.put(_with_seconds(finished, time.monotonic() - written))


def _with_seconds(scores: list[Score], seconds: float) -> list[Score]:
    from dataclasses import replace

    return [replace(score, seconds=seconds / len(scores)) for score in scores]


def _finite(responses: Sequence[Any], item: Item) -> None:
    for response in responses:
        if isinstance(response, tuple | list) and not math.isfinite(response[0]):
            raise RuntimeError(
                f"the model gave a log-likelihood of {response[0]} on item {item.id}: its logits are not finite"
            )


def _prompt(lm, requests) -> tuple[str, int]:
    """Digest and number of the tokens that an item's requests put in."""
    tokens = [_encoded(lm, request) for request in requests]
    return digest_of(tokens), sum(len(context) + len(continuation) for context, continuation in tokens)


def _encoded(lm, request) -> tuple[list[int], list[int]]:
    if hasattr(lm, "encode_request"):
        return lm.encode_request(request)
    if request.request_type == "generate_until":
        return lm.tok_encode(request.args[0]), []
    context, continuation = request.args
    return lm._encode_pair(context, continuation) if context else ([], lm.tok_encode(continuation))


def adapter_effect(model: CheckedModel, models: LoadedModels, store: Store) -> float:
    """Largest change of any logit that a candidate makes on three fixed prompts; `Unusable` if it makes none.

    An adapter that was not applied scores exactly like the base and would pass every benchmark.
    """
    key = f"effect/{model.digest}/{models.dtype}/{digest_of(_reader_of(models))[:12]}"
    if (known := store.note(key)) is None:
        known = _logit_change(model, models) if models.backend == "hf" else _probe_change(model, models)
        store.put_note(key, known)
    if known == 0:
        raise Unusable(
            f"candidate '{model.spec.text}' changes no logit of its base: the adapter is empty or was not applied;"
            " train it, or name the right directory."
        )
    return known


def _probe_change(model: CheckedModel, models: LoadedModels) -> float:
    """Largest change of the log-likelihood of a probe's second half, for backends that show no logits."""
    from lm_eval.api.instance import Instance

    sides = []
    for side in (model.base, model):
        with reader(models, side, 0) as lm:
            halves = [(text[: len(text) // 2], text[len(text) // 2 :]) for text in PROBES]
            sides.append(lm.loglikelihood([Instance("loglikelihood", {}, half, 0) for half in halves]))
    return max(abs(a - b) for (a, _), (b, _) in zip(*sides, strict=True))


def _logit_change(model: CheckedModel, models: LoadedModels) -> float:
    import torch

    tokenizer = models.tokenizer(model)
    inputs = [tokenizer(text, return_tensors="pt").input_ids for text in PROBES]
    sides = []
    for side in (model.base, model):
        # an idle adapter must give the base to the last digit, however the memory changes between the two
        with models.active(side, packed=False) as loaded, torch.inference_mode():
            sides.append([loaded(ids.to(loaded.device)).logits.float() for ids in inputs])
    return max(float((a - b).abs().max()) for a, b in zip(*sides, strict=True))
