"""One measurement in a process of its own: a benchmark on base and candidate, by us or by lm-eval's own backend.

    python -m bench.speed.one --who ours --benchmark gsm8k --items 24

Prints one JSON object. Loading the models is not timed; building requests and scoring answers is, on both sides.
"""

from __future__ import annotations

import argparse
import json
import resource
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from bench.speed.lm_eval_runs import run_lm_eval
from fixtures.embedded import chemistry_data
from harness.baskets import load_basket
from harness.benchmarks import LoadedBenchmark, load_benchmarks
from harness.checkpoints import CheckedModel, check
from harness.evaluate import fill
from harness.models import LoadedModels
from harness.specs import Benchmark, parse_model
from harness.store import Store
from harness.tokenizers import load_tokenizer

QUICK = Path(__file__).resolve().parent.parent.parent / "fixtures" / "baskets" / "quick.toml"
LETTERS = Benchmark("letters", "mmlu", "acc", fewshot=5)
BENCHMARKS = ("mmlu", "letters", "gsm8k", "ifeval", "instructions", "chemistry")
SUBJECTS = {"mmlu": 19, "letters": 19}  # of the 57, with as many questions each as in the audit; base alone, not both


def loaded(name: str, items: int) -> LoadedBenchmark:
    """A benchmark of the embedded default, or MMLU by letters; greedy, and without what lm-eval would not score."""
    chemistry_data()
    basket = load_basket(QUICK)
    wanted = LETTERS if name == "letters" else basket.named(name)
    metric = {"gsm8k": "exact_match,flexible-extract", "chemistry": "exact_match"}.get(name, wanted.metric)
    wanted = replace(wanted, items=items, temperature=0.0, gold=None, answers="all", metric=metric)
    if name == "mmlu":
        wanted = replace(wanted, metric="acc")
    found = load_benchmarks(replace(basket, benchmarks=(wanted,), seeds=(0,)))[name]
    if name in SUBJECTS:
        subjects = sorted({item.stratum for item in found.items})[:: 57 // SUBJECTS[name]][: SUBJECTS[name]]
        found.items = tuple(item for item in found.items if item.stratum in subjects)
    return found


def sides() -> tuple[CheckedModel, CheckedModel]:
    base = check(parse_model("embedded:base"))
    return base, check(parse_model("embedded:chemistry"), base)


def our_runs(benchmark: LoadedBenchmark) -> tuple[list[Callable[[], None]], list[Any]]:
    """A call for each side, as an audit fills its cells, and the models behind them."""
    models = LoadedModels()
    base, candidate = sides()
    with models.active(base):
        pass
    with models.active(candidate) as held:
        pass

    def run(side: CheckedModel) -> None:
        with tempfile.TemporaryDirectory() as folder:
            fill(side, benchmark, [0], Store(folder), models)

    return [lambda: run(base), lambda: run(candidate)], [held]


def their_runs(benchmark: LoadedBenchmark, batch: int) -> tuple[list[Callable[[], None]], list[Any]]:
    """A call for each side, as `lm_eval --model hf` with its peft argument would run it, and the models behind them."""
    from lm_eval.models.huggingface import HFLM
    from peft import PeftModel
    from transformers import AutoModelForCausalLM

    base, candidate = sides()
    tokenizer = load_tokenizer(base)
    held = [AutoModelForCausalLM.from_pretrained(base.path).eval() for _ in range(2)]
    held[1] = PeftModel.from_pretrained(held[1], candidate.path).eval()
    backends = [HFLM(pretrained=model, tokenizer=tokenizer, batch_size=batch) for model in held]
    return [lambda lm=lm: run_lm_eval(benchmark, lm) for lm in backends], held


def measure(who: str, name: str, items: int, batch: int) -> dict[str, float | str]:
    """Seconds, tokens that went through the models, and the peak of the process's memory."""
    benchmark = loaded(name, items)
    runs, models = our_runs(benchmark) if who == "ours" else their_runs(benchmark, batch)
    runs = runs[:1] if name in SUBJECTS else runs
    tokens = [0]
    for model in models:
        model.get_input_embeddings().register_forward_hook(lambda _, given, __: _add(tokens, given[0].numel()))
    started = time.perf_counter()
    for run in runs:
        run()
    return {
        "who": who,
        "benchmark": name,
        "items": len(benchmark.items),
        "batch": batch,
        "seconds": time.perf_counter() - started,
        "tokens": tokens[0],
        "peak_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
    }


def _add(tokens: list[int], count: int) -> None:
    tokens[0] += count


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--who", choices=("ours", "lm_eval"), required=True)
    parser.add_argument("--benchmark", choices=BENCHMARKS, required=True)
    parser.add_argument("--items", type=int, required=True)
    parser.add_argument("--batch", type=int, default=16, help="of lm-eval's backend")
    given = parser.parse_args()
    sys.stdout.write(json.dumps(measure(given.who, given.benchmark, given.items, given.batch)) + "\n")


if __name__ == "__main__":
    main()
