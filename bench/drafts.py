"""Would stored answers pay as drafts? A merged model's greedy texts beside those of base and candidate.

    python -m bench.drafts [--items 60]

A draft is verified by reading it like a prompt and holds up to the first token that differs; from there on the text is
written as without it. So the best that drafts can give is calculated here from the shared starts and the two measured
speeds. Worth building from 1.3 times as fast on; what it printed stands in docs/speed.md.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from pathlib import Path

import torch

from bench.growth import loaded
from bench.speed_run import sides
from harness.backends import reader
from harness.checkpoints import CheckedModel, check
from harness.models import LoadedModels
from harness.token_tree import common_length
from mitigations.merge import merge

SCALES = (0.1, 0.25, 0.5, 0.75, 0.9)


def answers(models: LoadedModels, model: CheckedModel, benchmark) -> tuple[list[list[int]], float, float]:
    """The tokens of each greedy text, how many were written a second, and how many of a prompt are read a second."""
    with reader(models, model, 0) as lm:
        requests = [benchmark.requests(item, 0, lm.apply_chat_template)[0] for item in benchmark.items]
        prompts = [lm.encode_request(request)[0] for request in requests]
        started = time.perf_counter()
        dict(lm.score([(prompt, prompt[-1:]) for prompt in prompts]))
        reading = sum(map(len, prompts)) / (time.perf_counter() - started)
        started = time.perf_counter()
        texts = dict(lm.generate(requests))
        took = time.perf_counter() - started - sum(map(len, prompts)) / reading
        tokens = [lm.tok_encode(texts[n]) for n in range(len(requests))]
    return tokens, sum(map(len, tokens)) / took, reading


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--items", type=int, default=60)
    benchmark = loaded("ifeval", items=parser.parse_args().items, max_gen_toks=128)
    torch.set_num_threads(2)
    models, (base, candidate) = LoadedModels(), sides()
    drafts = [answers(models, side, benchmark)[0] for side in (base, candidate)]
    for scale in SCALES:
        with tempfile.TemporaryDirectory() as folder:
            merged = check(merge(base, candidate, Path(folder) / "merged", scale), base)
            texts, writing, reading = answers(models, merged, benchmark)
        held = sum(max(common_length(text, draft[n]) for draft in drafts) for n, text in enumerate(texts))
        tried = sum(max(len(draft[n]) for draft in drafts) for n in range(len(texts)))
        written = sum(map(len, texts))
        with_drafts = min(tried, 2 * held + 8 * len(texts)) / reading + (written - held) / writing
        print(
            f"scale {scale:g}: {100 * held / written:.0f}% of {written} tokens as in a draft; writing {writing:.0f} and"
            f" reading {reading:.0f} tokens a second; at best {written / writing / with_drafts:.2f} times as fast"
        )


if __name__ == "__main__":
    main()
