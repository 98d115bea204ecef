"""A benchmark of ours run by `lm_eval.simple_evaluate` on an lm-eval LM: the other side of every comparison."""

from __future__ import annotations

from typing import Any

from harness.benchmarks import LoadedBenchmark
from harness.fingerprint import digest_of


def run_lm_eval(benchmark: LoadedBenchmark, lm) -> tuple[dict[str, dict[str, Any]], dict[str, list]]:
    """(metrics, responses) by item id of the items that were drawn: lm-eval's own prompts, batches and scoring."""
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
