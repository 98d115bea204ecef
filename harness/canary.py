"""Canaries: an audit whose instrument does not work ends with an error, not with a verdict.

repeat    the base answers a few items again, in other batches and another order: nothing may flip
damaged   the base with its layers in reverse order must be found to have regressed
effect    an adapter must change some logit of its base (see `evaluate.adapter_effect`)

A canary depends on the base, the benchmarks, the packages and the device alone; one that passed for them is remembered.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterator, Sequence
from dataclasses import asdict, replace
from importlib.metadata import version
from typing import Any

from harness.backends import open_lm, stream
from harness.benchmarks import Item, LoadedBenchmark
from harness.compare import compare
from harness.early import in_order
from harness.evaluate import cell_of, fill
from harness.fingerprint import digest_of
from harness.models import CheckedModel, LoadedModels
from harness.specs import Policy
from harness.store import Score, Store
from harness.verdict import REGRESSED, judge

REPEATED = 4  # items a benchmark
DAMAGED = 30  # items
SAME = {True: 1e-3, False: 2e-2}  # of a probability, in float32 or less; what is right or wrong must not change at all
MARGIN = 0.05  # that the damaged base must be shown to have lost

CanaryCell = tuple[LoadedBenchmark, int, Sequence[Item]]  # with its seed, and the items that are judged


class CanaryFailed(RuntimeError):
    """The instrument itself is broken, so whatever it says of the candidate means nothing."""


def repeat(base: CheckedModel, cells: Sequence[CanaryCell], store: Store, models: LoadedModels) -> dict[str, Any]:
    """Base against base on a few items of each benchmark, whose cell was filled in full batches.

    Raises `CanaryFailed` at the first flip.
    """
    for benchmark, seed, judged in cells:
        cell = cell_of(base, benchmark, seed, models)
        key = f"canary/repeat/{cell.key}/{_instrument(models)}"
        if not store.note(key):
            fill(base, benchmark, seed, store, models, judged)
            stored = store.get(cell)
            for item, metrics in _again(base, benchmark, seed, models, in_order(judged)[:REPEATED]):
                _same(benchmark.name, item, stored[item.id].metrics, metrics, SAME[models.dtype == "float32"])
            store.put_note(key, True)
    return {"name": "repeat", "items": sum(min(REPEATED, len(judged)) for *_, judged in cells), "flips": 0}


def _instrument(models: LoadedModels) -> str:
    """Digest of what computes the scores: the packages and the device."""
    import torch

    device = torch.cuda.get_device_name(models.device) if models.device.startswith("cuda") else "cpu"
    return digest_of([device, *(version(name) for name in ("torch", "transformers", "peft", "lm_eval"))])[:12]


def _again(base, benchmark, seed, models, items) -> Iterator[tuple[Item, dict[str, float]]]:
    """The items' metrics, read and written with two rows at a time."""
    with models.active(base) as loaded:
        lm = open_lm(loaded, models.tokenizer(base), seed, small=True)
        requests = [benchmark.requests(item, seed, lm.apply_chat_template) for item in items]
        flat = [(n, k) for n, made in enumerate(requests) for k in range(len(made))]
        answers: dict[tuple[int, int], Any] = {}
        for index, answer in stream(lm, [requests[n][k] for n, k in flat]):
            answers[flat[index]] = answer
        for n, item in enumerate(items):
            responses = [answers[n, k] for k in range(len(requests[n]))]
            yield item, benchmark.score(item, requests[n], responses, lambda text: len(lm.tok_encode(text)))


def _same(name: str, item: Item, first: dict[str, float], second: dict[str, float], tolerance: float) -> None:
    for metric, value in first.items():
        if abs(value - second[metric]) > tolerance:
            raise CanaryFailed(
                f"canary 'repeat': the base against itself flips on item {item.id} of {name} ({metric} {value:g}, then"
                f" {second[metric]:g} in another batch); use --dtype float32, or find what is not deterministic."
            )


def damaged(base: CheckedModel, cells: Sequence[CanaryCell], store: Store, models: LoadedModels) -> dict[str, Any]:
    """The base against itself with reversed layers, by the probability of reference texts; must be REGRESSED.

    On the benchmark with the shortest prompts.
    """
    benchmark, seed, judged = min(cells, key=lambda cell: _prompt_length(cell[0]))
    cell = cell_of(base, benchmark, seed, models)
    key = f"canary/damaged/{cell.key}/{_instrument(models)}"
    if (known := store.note(key)) is None:
        items = in_order(judged)[:DAMAGED]
        references = _references(base, benchmark, seed, store, models, items)
        with models.active(base) as loaded:
            whole = _probabilities(loaded, base, benchmark, seed, models, references)
            with reversed_layers(loaded):
                broken = _probabilities(loaded, base, benchmark, seed, models, references)
        sides = [
            {seed: {i: Score(cell, i, {"probability": p}, []) for i, p in side.items()}} for side in (whole, broken)
        ]
        found = compare(benchmark.name, "probability", [(i.id, i.stratum) for i in items], *sides)
        known = asdict(replace(judge(found, MARGIN, 0.0, Policy()), seeds=()))
        known = {k: known[k] for k in ("base", "candidate", "change", "low", "high", "items", "verdict")}
    if known["verdict"] != REGRESSED:
        raise CanaryFailed(
            f"canary 'damaged': the base with its layers reversed is {known['verdict']} on {benchmark.name}"
            f" (probability of the reference {known['base']:.3f}, damaged {known['candidate']:.3f}); the gate would not"
            " see a broken model."
        )
    store.put_note(key, known)
    return {"name": "damaged", "benchmark": benchmark.name, **known}


def _prompt_length(benchmark: LoadedBenchmark) -> int:
    request = benchmark.requests(benchmark.items[0], 0, lambda messages, **_: str(messages))[0]
    return len(request.args[0])


def _references(base, benchmark, seed, store, models, items) -> dict[str, tuple[Item, Any]]:
    """Item id -> (item, the request for its reference text): gold solution, right choice, or the base's own answer."""
    from lm_eval.api.instance import Instance

    fill(base, benchmark, seed, store, models, items)
    stored = store.get(cell_of(base, benchmark, seed, models))
    template = models.tokenizer(base)
    found = {}
    for item in items:
        requests = benchmark.requests(item, seed, _template_of(template))
        request = benchmark.reference_request(item, requests)
        if request is None:
            answer = stored[item.id].responses[0] or " "
            request = Instance("loglikelihood", item.doc, (requests[0].args[0], answer), 0, metadata=("", item.id, 1))
        found[item.id] = (item, request)
    return found


def _template_of(tokenizer):
    def render(messages, add_generation_prompt: bool = True):
        return tokenizer.apply_chat_template(
            messages, tokenize=False, add_generation_prompt=add_generation_prompt,
            continue_final_message=not add_generation_prompt,
        )  # fmt: skip

    return render


def _probabilities(loaded, base, benchmark, seed, models, references) -> dict[str, float]:
    lm = open_lm(loaded, models.tokenizer(base), seed)
    ids = list(references)
    requests = [references[i][1] for i in ids]
    found = {}
    for index, (loglikelihood, _) in stream(lm, requests):
        found[ids[index]] = math.exp(loglikelihood / len(requests[index].args[1].encode()))
    return found


@contextlib.contextmanager
def reversed_layers(model) -> Iterator[None]:
    """The model with its decoder layers in reverse order; as it was on leaving."""
    from torch.nn import ModuleList

    layers = max((m for m in model.modules() if isinstance(m, ModuleList)), key=len)
    original = list(layers)
    try:
        _install(layers, original[::-1])
        yield
    finally:
        _install(layers, original)


def _install(layers, order) -> None:
    for index, layer in enumerate(order):
        layers[index] = layer
        for module in layer.modules():
            if hasattr(module, "layer_idx"):
                module.layer_idx = index
