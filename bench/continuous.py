"""transformers' own continuous batching beside our engine's writing, on the same prompts: which is the better engine?

    python -m bench.continuous [--items 32] [--tokens 64] [--device cpu]

Greedy, the embedded base, IFEval's prompts. What it printed stands in docs/speed.md.
"""

from __future__ import annotations

import argparse
import time

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer, GenerationConfig

from bench.growth import loaded
from harness import assets
from harness.attention import LETHE
from harness.engine import Engine


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--items", type=int, default=32)
    parser.add_argument("--tokens", type=int, default=64)
    parser.add_argument("--device", default="cpu")
    given = parser.parse_args()
    benchmark = loaded("ifeval", items=max(30, given.items), max_gen_toks=given.tokens)
    path = assets.base_model()
    tokenizer = AutoTokenizer.from_pretrained(path)
    dtype = torch.float32 if given.device == "cpu" else torch.bfloat16
    ours = AutoModelForCausalLM.from_pretrained(path, dtype=dtype, attn_implementation=LETHE).to(given.device).eval()
    engine = Engine(ours, tokenizer)
    requests = [benchmark.requests(item, 0, engine.apply_chat_template)[0] for item in benchmark.items[: given.items]]
    prompts = [engine.encode_request(request)[0] for request in requests]
    started = time.perf_counter()
    texts = engine.generate_until(requests)
    print(f"ours: {time.perf_counter() - started:.1f} s")
    theirs = AutoModelForCausalLM.from_pretrained(path, dtype=dtype).to(given.device).eval()
    settings = GenerationConfig(
        max_new_tokens=given.tokens, do_sample=False, eos_token_id=tokenizer.eos_token_id, pad_token_id=0
    )
    for name in ("generate_batch", "generate"):
        started = time.perf_counter()
        if name == "generate_batch":
            found = theirs.generate_batch(prompts, generation_config=settings)
            written = [found[key].generated_tokens for key in sorted(found, key=lambda key: int(key.split("_")[-1]))]
        else:
            batch = tokenizer.pad({"input_ids": prompts}, padding_side="left", return_tensors="pt").to(given.device)
            written = theirs.generate(**batch, generation_config=settings)[:, batch.input_ids.shape[1] :].tolist()
        took = time.perf_counter() - started
        same = sum(tokenizer.decode(w, skip_special_tokens=True) == t for w, t in zip(written, texts, strict=True))
        print(f"transformers' {name}: {took:.1f} s, {same} of {len(texts)} texts as ours", flush=True)


if __name__ == "__main__":
    main()
