"""A benchmark run by our engine and by `lm_eval.simple_evaluate`: both sides of every comparison with lm-eval."""

from __future__ import annotations

from pathlib import Path
from random import Random
from typing import Any

from harness.attention import LETHE
from harness.benchmarks import LoadedBenchmark
from harness.engine import Engine
from harness.fingerprint import digest_of

Run = tuple[dict[str, dict[str, Any]], dict[str, list]]  # metrics and responses by item id


def run_ours(benchmark: LoadedBenchmark, path: Path, shuffled: int | None = None, **options) -> Run:
    """By our engine; shuffled: seed of another order of the requests; options: the engine's."""
    from transformers import AutoModelForCausalLM, AutoTokenizer

    model = AutoModelForCausalLM.from_pretrained(path, attn_implementation=LETHE).eval()
    engine = Engine(model, AutoTokenizer.from_pretrained(path), **options)
    requests = {item.id: benchmark.requests(item, 0, engine.apply_chat_template) for item in benchmark.items}
    flat = [(item, n) for item in requests for n in range(len(requests[item]))]
    if shuffled is not None:
        Random(shuffled).shuffle(flat)
    responses: dict[str, list] = {item: [None] * len(made) for item, made in requests.items()}
    for index, answer in engine.stream([requests[item][n] for item, n in flat]):
        item, n = flat[index]
        responses[item][n] = answer
    metrics = {item.id: benchmark.score(item, requests[item.id], responses[item.id]) for item in benchmark.items}
    return metrics, responses


def run_theirs(benchmark: LoadedBenchmark, path: Path, batch: int = 8) -> Run:
    """By lm-eval's evaluator and Hugging Face backend."""
    from lm_eval.models.huggingface import HFLM
    from transformers import AutoModelForCausalLM, AutoTokenizer

    model, tokenizer = AutoModelForCausalLM.from_pretrained(path).eval(), AutoTokenizer.from_pretrained(path)
    return run_lm_eval(benchmark, HFLM(pretrained=model, tokenizer=tokenizer, batch_size=batch))


def run_lm_eval(benchmark: LoadedBenchmark, lm) -> Run:
    """The items that were drawn, with lm-eval's own prompts, batches and scoring."""
    from lm_eval import simple_evaluate

    wanted = {item.id for item in benchmark.items}
    ids = {
        name: [f"{name}:{digest_of(dict(doc))[:12]}" for doc in task.eval_docs]
        for name, task in benchmark.tasks.items()
    }
    samples = {name: [n for n, key in enumerate(keys) if key in wanted] for name, keys in ids.items()}
    found = simple_evaluate(
        model=lm,
        tasks=[task for name, task in benchmark.tasks.items() if samples[name]],
        samples={name: indices for name, indices in samples.items() if indices},
        apply_chat_template=benchmark.benchmark.chat,
        fewshot_as_multiturn=benchmark.benchmark.chat,
        log_samples=True,
        bootstrap_iters=0,
    )
    metrics: dict[str, dict[str, Any]] = {}
    responses = {}
    for name, rows in found["samples"].items():
        for row in rows:
            key = ids[name][row["doc_id"]]
            suffix = "" if row["filter"] == "none" else f",{row['filter']}"
            metrics.setdefault(key, {}).update({m + suffix: row[m] for m in row["metrics"]})
            responses[key] = [r[0] for r in row["resps"]]
    return metrics, responses
