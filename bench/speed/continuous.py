"""transformers' own continuous batching beside our engine's writing, on the same prompts: which is the better engine?

Greedy, the embedded base, IFEval's prompts; `generate` is one padded batch.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from typing import Any

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer, GenerationConfig

from bench.speed import results
from bench.speed.growth import loaded
from bench.tables import table
from harness import assets
from harness.attention import LETHE
from harness.engine import Engine

ITEMS, NEW_TOKENS, RUNS = 32, 64, 3


def measure(device: str = "cpu") -> None:
    """By device: seconds, medians of `RUNS` in which the engines take turns, and how many texts are as ours."""
    path, dtype = assets.base_model(), torch.float32 if device == "cpu" else torch.bfloat16
    tokenizer = AutoTokenizer.from_pretrained(path)
    ours = AutoModelForCausalLM.from_pretrained(path, dtype=dtype, attn_implementation=LETHE).to(device).eval()
    theirs = AutoModelForCausalLM.from_pretrained(path, dtype=dtype).to(device).eval()
    engine = Engine(ours, tokenizer)
    benchmark = loaded("ifeval", items=ITEMS, max_gen_toks=NEW_TOKENS)
    requests = [benchmark.requests(item, 0, engine.apply_chat_template)[0] for item in benchmark.items]
    prompts = [engine.encode_request(request)[0] for request in requests]
    settings = GenerationConfig(
        max_new_tokens=NEW_TOKENS, do_sample=False, eos_token_id=tokenizer.eos_token_id, pad_token_id=0
    )
    engines: dict[str, Callable[[], list[str]]] = {
        "ours": lambda: engine.generate_until(requests),
        "generate_batch": lambda: _decoded(tokenizer, _continuous(theirs, prompts, settings)),
        "generate": lambda: _decoded(tokenizer, _padded(theirs, tokenizer, prompts, settings)),
    }
    seconds: dict[str, list[float]] = {name: [] for name in engines}
    texts = {}
    for _ in range(RUNS + 1):  # the first one warms up
        for name, write in engines.items():
            started = time.perf_counter()
            texts[name] = write()
            seconds[name].append(time.perf_counter() - started)
    found = {
        name: {
            "seconds": statistics.median(seconds[name][1:]),
            "as_ours": sum(one == other for one, other in zip(texts[name], texts["ours"], strict=True)),
        }
        for name in engines
    }
    print(device, found, flush=True)
    results.write("continuous", results.read("continuous") | {device: found})


def _decoded(tokenizer, written: list[list[int]]) -> list[str]:
    return [tokenizer.decode(tokens, skip_special_tokens=True) for tokens in written]


def _continuous(model, prompts, settings) -> list[list[int]]:
    found = model.generate_batch(prompts, generation_config=settings)
    return [found[key].generated_tokens for key in sorted(found, key=lambda key: int(key.split("_")[-1]))]


def _padded(model, tokenizer, prompts, settings) -> list[list[int]]:
    batch = tokenizer.pad({"input_ids": prompts}, padding_side="left", return_tensors="pt").to(model.device)
    return model.generate(**batch, generation_config=settings)[:, batch.input_ids.shape[1] :].tolist()


def section(found: dict[str, Any]) -> list[str]:
    names = {"ours": "Lethe", "generate_batch": "`generate_batch`", "generate": "`generate`"}
    rows = [
        (device, names[name], f"{row['seconds']:.1f}", f"{row['as_ours']} of {ITEMS}")
        for device, by_engine in found.items()
        for name, row in by_engine.items()
    ]
    return [
        "## transformers' continuous batching",
        f"{ITEMS} IFEval prompts, at most {NEW_TOKENS} new tokens, greedy, the embedded base; float32 on CPU, bfloat16"
        f" on a GPU, medians of {RUNS} runs in turn; `generate` writes them as one padded batch.",
        table(("device", "engine", "seconds", "texts as Lethe's"), rows),
    ]
