"""Canaries: an audit whose instrument does not work ends with an error, not with a verdict.

repeat    the base answers a few items again, in other batches and another order: what decides must stay
damaged   the base with its layers in reverse order must be found to have regressed, if it has anything to lose
effect    an adapter must change some logit of its base (see `evaluate.adapter_effect`)

A canary depends on the base, the benchmarks, the packages and the device alone; one that passed for them is remembered.
"""

from __future__ import annotations

import contextlib
import functools
import math
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from importlib.metadata import version
from typing import Any

from harness.backends import open_lm, reader, stream
from harness.benchmarks import Item, LoadedBenchmark
from harness.checkpoints import CheckedModel
from harness.compare import compare
from harness.early import in_order
from harness.evaluate import cell_of, fill
from harness.fingerprint import digest_of
from harness.models import LoadedModels
from harness.specs import Policy
from harness.store import Score, Store
from harness.tokenizers import rendered
from harness.verdict import REGRESSED, judge

REPEATED = 4  # items a benchmark
DAMAGED = 30  # items
# Of the deciding metric, and how many items of a benchmark may change by more. In float32 none does; in half precision,
# which a server may use whatever --dtype says, about one text in ten parts at a near tie when the batch changes.
SAME, FLIPS = {True: 1e-3, False: 2e-2}, {True: 0, False: 1}
MARGIN = 0.05  # that the damaged base must be shown to have lost
# What the base must give a reference per byte to have that to lose. A model that knows nothing, for which all of 50,000
# tokens are equal, still gives words of six bytes 0.16; the embedded one gives facts of chemistry 0.32.
KNOWN = 0.2

CanaryCell = tuple[LoadedBenchmark, int, Sequence[Item]]  # with its seed, and the items that are judged


class CanaryFailed(RuntimeError):
    """The instrument itself is broken, so whatever it says of the candidate means nothing."""


def repeat(base: CheckedModel, cells: Sequence[CanaryCell], store: Store, models: LoadedModels) -> dict[str, Any]:
    """Base against base on a few items of each benchmark, whose cell was filled in full batches.

    Raises `CanaryFailed` at the first flip too many.
    """
    exact = models.dtype == "float32" and base.spec.kind != "served"
    asked: dict[int, list[tuple[str, LoadedBenchmark, Item]]] = {}
    keys = []
    for benchmark, seed, judged in cells:
        key = f"canary/repeat-2/{cell_of(base, benchmark, seed, models).key}/{_instrument(models)}"
        keys.append(key)
        if not store.note(key):
            fill(base, benchmark, [seed], store, models, judged)
            asked.setdefault(seed, []).extend((key, benchmark, item) for item in in_order(judged)[:REPEATED])
    for seed, again in asked.items():
        # all of them before any is judged: a failure would hold the model open, switched to the base
        answered = list(_again(base, seed, models, [(benchmark, item) for _, benchmark, item in again]))
        flips = dict.fromkeys((key for key, *_ in again), 0)
        for (key, benchmark, item), metrics in zip(again, answered, strict=True):
            first = store.get(cell_of(base, benchmark, seed, models))[item.id].metrics
            flips[key] += _differs(benchmark, item, first, metrics, exact, flips[key])
        for key, count in flips.items():
            store.put_note(key, {"flips": count})
    items = sum(min(REPEATED, len(judged)) for *_, judged in cells)
    return {"name": "repeat", "items": items, "flips": sum(store.note(key)["flips"] for key in keys)}


def _instrument(models: LoadedModels) -> str:
    """Digest of what computes the scores: the packages and the device."""
    import torch

    device = torch.cuda.get_device_name(models.device) if models.device.startswith("cuda") else "cpu"
    return digest_of([device, *(version(name) for name in ("torch", "transformers", "peft", "lm_eval"))])[:12]


def _again(base, seed, models, items: Sequence[tuple[LoadedBenchmark, Item]]) -> Iterator[dict[str, float]]:
    """The metrics of items of several benchmarks, read and written a few rows at a time, all mixed."""
    with reader(models, base, seed, small=True) as lm:
        requests = [benchmark.requests(item, seed, lm.apply_chat_template) for benchmark, item in items]
        flat = [(n, k) for n, made in enumerate(requests) for k in range(len(made))]
        answers: dict[tuple[int, int], Any] = {}
        for index, answer in stream(lm, [requests[n][k] for n, k in flat]):
            answers[flat[index]] = answer
        for n, (benchmark, item) in enumerate(items):
            responses = [answers[n, k] for k in range(len(requests[n]))]
            yield benchmark.score(item, requests[n], responses, lambda text: len(lm.tok_encode(text)))


def _differs(
    benchmark: LoadedBenchmark, item: Item, first: dict[str, float], again: dict[str, float], exact: bool, before: int
) -> bool:
    """True if the deciding metric of an item changed; `CanaryFailed` if that is more than honest arithmetic does.

    before: items of the benchmark that changed already.
    """
    metric = benchmark.benchmark.metric
    flips = abs(first[metric] - again[metric]) > SAME[exact]
    if flips and before >= FLIPS[exact]:
        raise CanaryFailed(
            f"canary 'repeat': the base against itself flips on item {item.id} of {benchmark.name} ({metric}"
            f" {first[metric]:g}, then {again[metric]:g} in another batch); use --dtype float32, of a served model in"
            " its server, or find what is not deterministic."
        )
    return flips


def damaged(base: CheckedModel, cells: Sequence[CanaryCell], store: Store, models: LoadedModels) -> dict[str, Any]:
    """The base against itself with reversed layers, by the probability of reference texts; must be REGRESSED.

    On the benchmark with the shortest prompts of those whose references the base knows. The verdict is None, with a
    reason, where it knows none: such a base is for the floor of each benchmark to judge.
    """
    if base.spec.kind == "served" or models.backend != "hf":
        reason = "the layers of a model that another program runs cannot be reversed"
        return {"name": "damaged", "benchmark": None, "verdict": None, "reason": reason}
    for benchmark, seed, judged in sorted(cells, key=lambda cell: _prompt_length(cell[0])):
        key = f"canary/damaged/{cell_of(base, benchmark, seed, models).key}/{_instrument(models)}"
        if (known := store.note(key)) is None:
            known = _damage(base, benchmark, seed, in_order(judged)[:DAMAGED], store, models)
            if known["verdict"] not in (REGRESSED, None):
                raise CanaryFailed(
                    f"canary 'damaged': the base with its layers reversed is {known['verdict']} on {benchmark.name}"
                    f" (probability of the reference {known['base']:.3f}, damaged {known['candidate']:.3f}); the gate"
                    " would not see a broken model."
                )
            store.put_note(key, known)
        if known["verdict"] is not None:
            return {"name": "damaged", "benchmark": benchmark.name, **known}
    reason = f"the base gives the references of every benchmark less than {KNOWN:g} per byte, so it has nothing to lose"
    return {"name": "damaged", "benchmark": None, "verdict": None, "reason": reason}


def _damage(base, benchmark, seed, items, store, models) -> dict[str, Any]:
    """What reversing the layers does on the items; verdict None where the base does not know their references."""
    references = _references(base, benchmark, seed, store, models, items)
    with models.active(base) as loaded:
        whole = _probabilities(loaded, base, benchmark, seed, models, references)
        if sum(whole.values()) < KNOWN * len(items):  # an item without a reference is none that the base knows
            return {"verdict": None}
        with reversed_layers(loaded):
            broken = _probabilities(loaded, base, benchmark, seed, models, references)
    cell = cell_of(base, benchmark, seed, models)
    sides = [{seed: {i: Score(cell, i, {"probability": p}, []) for i, p in side.items()}} for side in (whole, broken)]
    paired = [(item.id, item.stratum) for item, _ in references.values()]
    found = asdict(judge(compare(benchmark.name, "probability", paired, *sides), MARGIN, 0.0, Policy()))
    return {k: found[k] for k in ("base", "candidate", "change", "low", "high", "items", "verdict")}


def _prompt_length(benchmark: LoadedBenchmark) -> int:
    request = benchmark.requests(benchmark.items[0], 0, lambda messages, **_: str(messages))[0]
    return len(request.args[0])


def _references(base, benchmark, seed, store, models, items) -> dict[str, tuple[Item, Any]]:
    """Item id -> (item, the request for its reference text): gold solution, right choice, or the base's own answer.

    Items whose documents name no right choice are left out.
    """
    from lm_eval.api.instance import Instance

    fill(base, benchmark, [seed], store, models, items)
    stored = store.get(cell_of(base, benchmark, seed, models))
    template = models.tokenizer(base)
    found = {}
    for item in items:
        requests = benchmark.requests(item, seed, functools.partial(rendered, template))
        request = benchmark.reference_request(item, requests)
        if request is None and benchmark.output_type != "generate_until":
            continue
        if request is None:
            answer = stored[item.id].responses[0] or " "
            request = Instance("loglikelihood", item.doc, (requests[0].args[0], answer), 0, metadata=("", item.id, 1))
        found[item.id] = (item, request)
    return found


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

    from harness.blocks import stack_of

    found = stack_of(model)  # not the longest list, which may be the experts of one layer
    layers = found[1] if found else max((m for m in model.modules() if isinstance(m, ModuleList)), key=len)
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
