"""Would stored answers pay as drafts? A merged model's greedy texts beside those of base and candidate.

A draft is verified by reading it like a prompt and holds up to the first token that differs; from there on the text is
written as without it. What such drafts can give at best is calculated here from the shared starts and the two measured
speeds. Drafts that find their place again after a difference could give more, and are not calculated.
"""

from __future__ import annotations

import tempfile
import time
from pathlib import Path
from typing import Any

import torch

from bench.speed import results
from bench.speed.growth import loaded
from bench.speed.one import sides
from bench.tables import table
from harness.backends import reader
from harness.checkpoints import CheckedModel, check
from harness.models import LoadedModels
from harness.token_tree import common_length
from mitigations.merge import merge

SCALES = (0.1, 0.25, 0.5, 0.75, 0.9)
ITEMS, NEW_TOKENS = 60, 128
PAYS = 1.3  # times as fast, from which drafts would be worth their code


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


def measure() -> None:
    benchmark = loaded("ifeval", items=ITEMS, max_gen_toks=NEW_TOKENS)
    torch.set_num_threads(2)
    models, (base, candidate) = LoadedModels(), sides()
    drafts = [answers(models, side, benchmark)[0] for side in (base, candidate)]
    found = []
    for scale in SCALES:
        with tempfile.TemporaryDirectory() as folder:
            merged = check(merge(base, candidate, Path(folder) / "merged", scale), base)
            texts, writing, reading = answers(models, merged, benchmark)
        held = sum(max(common_length(text, draft[n]) for draft in drafts) for n, text in enumerate(texts))
        tried = sum(max(len(draft[n]) for draft in drafts) for n in range(len(texts)))
        written = sum(map(len, texts))
        with_drafts = min(tried, 2 * held + 8 * len(texts)) / reading + (written - held) / writing
        row = {"scale": scale, "held": held / written, "writing": writing, "reading": reading}
        found.append(row | {"at_best": written / writing / with_drafts})
        print(found[-1], flush=True)
    results.write("drafts", {"rows": found})


def section(found: dict[str, Any]) -> list[str]:
    rows = [
        (f"{r['scale']:g}", f"{100 * r['held']:.0f}%", f"{r['writing']:.0f}", f"{r['reading']:.0f}",
         f"{r['at_best']:.2f}")
        for r in found["rows"]
    ]  # fmt: skip
    best = max(found["rows"], key=lambda row: row["at_best"])
    verdict = "worth building, and not built yet" if best["at_best"] >= PAYS else "not built"
    return [
        "## Stored answers as drafts",
        "A merge's greedy texts could be drafted from the stored ones of base and fine-tune: a draft is read like a"
        " prompt and holds up to the first token that differs. Calculated from the shared starts of"
        f" {ITEMS} IFEval answers and the measured speeds: what such drafts give at best. From {PAYS:g} times as fast"
        f" they would pay. At most {best['at_best']:.2f}, at scale {best['scale']:g}: {verdict}.",
        table(("scale", "tokens as in a draft", "written, tokens/s", "read, tokens/s", "times as fast"), rows),
    ]
