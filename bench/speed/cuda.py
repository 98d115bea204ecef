"""On a GPU, in bfloat16: the embedded model and a 7B-shaped one of random weights, by us and by lm-eval's backend.

Both behind lm-eval's evaluator on the same documents. Random weights write until the limit, which is the worst case for
writing. In bfloat16 two batch sizes of lm-eval differ too: items scored alike are counted for both.
"""

from __future__ import annotations

import statistics
import time
from typing import Any

import torch
from lm_eval.models.huggingface import HFLM
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer, LlamaConfig

from bench.speed import results
from bench.speed.growth import loaded
from bench.speed.lm_eval_runs import run_lm_eval
from bench.tables import table
from harness import assets
from harness.attention import LETHE
from harness.backends import open_lm
from harness.engine import Engine

RUNS = 3
BATCHES = (16, 64)  # of lm-eval's backend; the faster one counts
SHAPE_7B = {  # Mistral 7B's, arXiv:2310.06825; the embedded tokenizer's vocabulary
    "hidden_size": 4096, "intermediate_size": 14336, "num_hidden_layers": 32, "num_attention_heads": 32,
    "num_key_value_heads": 8, "max_position_embeddings": 8192,
}  # fmt: skip
PLANS = {
    "mmlu": {"items": 171, "metric": "acc"},
    "gsm8k": {"items": 110, "max_gen_toks": 200, "metric": "exact_match,flexible-extract"},
    "ifeval": {"items": 200, "max_gen_toks": 256},
}


def embedded(attention: str, device: str):
    path = assets.base_model()
    model = AutoModelForCausalLM.from_pretrained(path, dtype=torch.bfloat16, attn_implementation=attention)
    return model.to(device).eval()


def random_7b(attention: str, device: str, shape: dict[str, int] | None = None):
    """A Llama of random weights, the same ones at each call; made where it will run."""
    vocabulary = AutoConfig.from_pretrained(assets.base_model()).vocab_size
    config = LlamaConfig(**(shape or SHAPE_7B), vocab_size=vocabulary, tie_word_embeddings=False)
    torch.manual_seed(0)
    with torch.device(device):
        return AutoModelForCausalLM.from_config(config, dtype=torch.bfloat16, attn_implementation=attention).eval()


def measure(device: str = "cuda", models=None, plans=None, runs: int = RUNS) -> None:
    """Seconds and GiB of each model and benchmark, ours and theirs in turn, medians of `runs`."""
    tokenizer = AutoTokenizer.from_pretrained(assets.base_model())
    found = []
    for name, make in (models or {"embedded, 135M": embedded, "random, 7B": random_7b}).items():
        ours, theirs = make(LETHE, device), make("sdpa", device)
        engines = {"ours": open_lm(ours, tokenizer, 0)}  # as an audit does
        if not isinstance(engines["ours"], Engine):
            raise SystemExit(f"an audit would not read {name} by our engine here")
        engines |= {
            f"lm_eval {batch}": HFLM(pretrained=theirs, tokenizer=tokenizer, batch_size=batch) for batch in BATCHES
        }
        for benchmark, changes in (plans or PLANS).items():
            chosen = loaded(benchmark, temperature=0.0, gold=None, answers="all", **changes)
            metrics, row = {}, {}
            for who, lm in engines.items():
                row[who], metrics[who] = _timed(chosen, lm, device, runs)
            reference = metrics[f"lm_eval {BATCHES[0]}"]
            same = {who: sum(scored[item] == reference[item] for item in reference) for who, scored in metrics.items()}
            found.append({"model": name, "benchmark": benchmark, "items": len(chosen.items), "same": same, **row})
            print(found[-1], flush=True)
            results.write("cuda", {"device": _device_name(device), "rows": found})
        del ours, theirs, engines
        if device != "cpu":
            torch.cuda.empty_cache()


def _device_name(device: str) -> str:
    return device if device == "cpu" else torch.cuda.get_device_name(device)


def _timed(benchmark, lm, device: str, runs: int) -> tuple[dict[str, float], dict[str, Any]]:
    """Time and memory, and each item's metrics; one run is not counted where there are several, as CUDA warms up."""
    seconds = []
    for _ in range(runs + (runs > 1)):
        if device != "cpu":
            torch.cuda.reset_peak_memory_stats(device)
        started = time.perf_counter()
        metrics, _ = run_lm_eval(benchmark, lm)
        seconds.append(time.perf_counter() - started)
    peak = 0.0 if device == "cpu" else torch.cuda.max_memory_allocated(device) / 2**30
    return {"seconds": statistics.median(seconds[runs > 1 :]), "gib": peak}, metrics


def section(found: dict[str, Any]) -> list[str]:
    rows = []
    for row in found["rows"]:
        theirs = min((row[f"lm_eval {batch}"] for batch in BATCHES), key=lambda side: side["seconds"])
        ours = row["ours"]
        rows.append(
            (row["model"], row["benchmark"], str(row["items"]), f"{theirs['seconds']:.1f}", f"{ours['seconds']:.1f}",
             f"{theirs['seconds'] / ours['seconds']:.1f}", f"{theirs['gib']:.1f}", f"{ours['gib']:.1f}",
             f"{row['same']['ours']}", f"{row['same'][f'lm_eval {BATCHES[1]}']}")
        )  # fmt: skip
    head = (
        "model",
        "benchmark",
        "items",
        "lm-eval, s",
        "Lethe, s",
        "times as fast",
        "lm-eval, GiB",
        "Lethe, GiB",
        "scored as lm-eval",
        "lm-eval's other batch",
    )
    return [
        "## On a GPU",
        f"{found['device']}, bfloat16, one model each, medians of {RUNS} runs in one process, both behind"
        f" lm-eval's evaluator; lm-eval at the faster of batches of {' and '.join(map(str, BATCHES))}. GiB: the most"
        " that was allocated, with both engines' models in memory.",
        table(head, rows),
    ]
