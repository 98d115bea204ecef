"""Our scores beside lm-eval's over many items, at several batch sizes and orders: docs/same-scores.md.

    python -m bench.speed.same_scores [--items 200] [--only mmlu,ifeval]

On the embedded base, greedy, float32. The same items as an audit's and more; where a text parts from lm-eval's, the two
tokens at which it parts are shown with their logits, which are then all but equal.
"""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path
from typing import Any

from bench.speed import results
from bench.speed.lm_eval_runs import Run, run_ours, run_theirs
from bench.speed.one import LETTERS, QUICK
from fixtures.embedded import chemistry_data
from harness import assets
from harness.baskets import load_basket
from harness.benchmarks import LoadedBenchmark, load_benchmarks
from harness.token_tree import common_length

PAGE = Path(__file__).resolve().parent.parent.parent / "docs" / "same-scores.md"
NAMES = ("mmlu", "letters", "gsm8k", "ifeval", "instructions", "chemistry")
NEW_TOKENS = 64
SETTINGS = {  # how we batch: rows written together and tokens read together
    "1 at a time": {"slots": 1, "pack_tokens": 1},
    "7 at a time": {"slots": 7, "pack_tokens": 7 * 32, "shuffled": 7},
    "64 at a time": {"slots": 64, "pack_tokens": 64 * 32, "shuffled": 64},
}


def loaded(name: str, items: int) -> LoadedBenchmark:
    """So many items of a benchmark, spread over all it has, or all; greedy."""
    chemistry_data()
    basket = load_basket(QUICK)
    wanted = replace(LETTERS if name == "letters" else basket.named(name), items=None, temperature=0.0)
    if wanted.max_gen_toks:
        wanted = replace(wanted, max_gen_toks=NEW_TOKENS)
    whole = load_benchmarks(replace(basket, benchmarks=(wanted,), seeds=(0,)))[name]
    whole.items = whole.items[:: max(1, len(whole.items) // items)][:items]
    return whole


def differences(ours: Run, theirs: Run, items: int) -> dict[str, Any]:
    """Largest difference of a log-likelihood; metrics, greedy choices and texts that differ, over all `items`.

    Raises ValueError where lm-eval has scored other items or none: nothing that was not compared counts as equal.
    """
    if set(ours[0]) != set(theirs[0]) or len(theirs[0]) != items or not all(theirs[0].values()):
        raise ValueError(f"lm-eval scored {len(theirs[0])} items and we {len(ours[0])} of {items}")
    metrics, choices, largest, texts = 0, 0, 0.0, []
    for item, expected in theirs[0].items():
        for name, value in expected.items():
            value = float(sum(value) / len(value) if isinstance(value, list) else value)
            metrics += abs(ours[0][item][name] - value) > 1e-9
        for got, want in zip(ours[1][item], theirs[1][item], strict=False):  # a gold solution is ours alone
            if isinstance(want, str):
                texts += [(item, got, want)] * (got != want)
            else:
                largest = max(largest, abs(got[0] - float(want[0])))
                choices += bool(got[1]) != (str(want[1]) == "True")
    return {"metrics": metrics, "choices": choices, "loglikelihood": largest, "texts": texts}


def tie(benchmark: LoadedBenchmark, path: Path, item_id: str, ours: str, theirs: str) -> dict[str, Any]:
    """Where two texts part: both tokens and their logits there, by the plain model without batches and cache."""
    import torch
    from lm_eval.models.huggingface import HFLM
    from transformers import AutoModelForCausalLM, AutoTokenizer

    model, tokenizer = AutoModelForCausalLM.from_pretrained(path).eval(), AutoTokenizer.from_pretrained(path)
    lm = HFLM(pretrained=model, tokenizer=tokenizer)
    item = next(item for item in benchmark.items if item.id == item_id)
    prompt = lm.tok_encode(benchmark.requests(item, 0, lm.apply_chat_template)[0].args[0])
    one, other = (tokenizer.encode(text, add_special_tokens=False) for text in (ours, theirs))
    at = common_length(one, other)
    with torch.inference_mode():
        logits = model(torch.tensor([prompt + one[:at]])).logits[0, -1]
    tokens = [text[at] if at < len(text) else tokenizer.eos_token_id for text in (one, other)]
    values = [float(logits[token]) for token in tokens]
    return {"item": item_id, "at": at, "tokens": tokens, "logits": values, "apart": abs(values[0] - values[1])}


def measure(items: int, names: tuple[str, ...]) -> None:
    path = assets.base_model()
    for name in names:
        benchmark = loaded(name, items)
        theirs = run_theirs(benchmark, path)
        found = {"items": len(benchmark.items), "settings": {}}
        for setting, options in SETTINGS.items():
            seen = differences(run_ours(loaded(name, items), path, **options), theirs, len(benchmark.items))
            seen["ties"] = [tie(benchmark, path, *text) for text in seen.pop("texts")]
            found["settings"][setting] = seen
            print(name, len(benchmark.items), setting, seen, flush=True)
        results.write("same_scores", results.read("same_scores") | {name: found})


def page(found: dict[str, Any]) -> str:
    lines = [
        "# Parity with lm-eval",
        "",
        "Our engine beside `lm_eval.simple_evaluate` with its Hugging Face backend (batches of 8) on the embedded base,"
        f" greedy, float32, at most {NEW_TOKENS} new tokens; 7 and 64 at a time in shuffled orders. Written by"
        " `python -m bench.speed.same_scores`.",
        "",
        "| benchmark | items | batches | metrics that differ | greedy or not, differs |"
        " largest log-likelihood difference | texts that part |",
        "|---|---|---|---|---|---|---|",
    ]
    ties = []
    for name, row in found.items():
        for setting, seen in row["settings"].items():
            cells = name, row["items"], setting, seen["metrics"], seen["choices"], f"{seen['loglikelihood']:.1e}"
            lines.append(f"| {' | '.join(map(str, cells))} | {len(seen['ties'])} |")
            ties += [(name, setting, tie) for tie in seen["ties"]]
    lines += ["", "Where a text parts, the two tokens and their logits by the plain model:", ""] if ties else [""]
    for name, setting, tie in ties:
        one, other = tie["logits"]
        lines.append(
            f"- {name}, {setting}, {tie['item']}, token {tie['at']}: {tie['tokens'][0]} at {one:.6f} against"
            f" {tie['tokens'][1]} at {other:.6f}, {tie['apart']:.1e} apart"
        )
    return "\n".join([*lines, ""]).rstrip("\n") + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--items", type=int, default=200)
    parser.add_argument("--only", default=",".join(NAMES))
    given = parser.parse_args()
    measure(given.items, tuple(given.only.split(",")))
    PAGE.write_text(page(results.read("same_scores")))


if __name__ == "__main__":
    main()
