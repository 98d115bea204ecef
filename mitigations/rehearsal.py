"""General data for replay that the base writes itself: its own answers to general prompts, without the faulty ones.

    rehearse(base, prompts, Path("general.jsonl"), models)     # Rehearsal(…, kept=152, dropped={"looping": 5})

What the base would have said is what a fine-tune must not forget, and needs no data of its training. Self-synthesised
rehearsal: Huang et al. 2024, arXiv:2403.01244.
"""

from __future__ import annotations

import json
import math
import os
import shutil
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from harness import assets
from harness.backends import open_lm, stream
from harness.checkpoints import CheckedModel
from harness.evaluate import ENGINE_VERSION, package_versions
from harness.faults import FAULTS, faults
from harness.fingerprint import digest_of
from harness.jsonl import write
from harness.models import LoadedModels
from harness.specs import Unusable

VERSION = 1  # raise it when the same prompts may give other rows
MAX_TOKENS = 200  # of an answer: those that are longer are not whole, and are dropped
DUPLICATE = "duplicate"
ROWS, COUNTS = "general.jsonl", "counts.json"


@dataclass(frozen=True)
class Rehearsal:
    """path: JSONL of {"prompt", "response"}; kept: its rows; dropped: how many prompts gave none, by reason."""

    path: Path
    kept: int
    dropped: dict[str, int]


def rehearse(
    base: CheckedModel, prompts: Sequence[str], out: Path, models: LoadedModels, max_tokens: int = MAX_TOKENS
) -> Rehearsal:
    """The base's greedy answers of fewer than `max_tokens` tokens, written to the file `out`.

    Asked through its chat template if it has one; else an answer ends with its paragraph. Dropped are answers that are
    empty, truncated or looping (`harness.faults`), and duplicates: prompts that come again, and answers that another
    prompt has got. The answers are kept in the cache, by base, prompts and settings. `Unusable` if none is left.
    """
    _check(base, prompts, max_tokens)
    key = key_of(base, prompts, models, max_tokens)[:24]
    made = assets.publish(
        assets.cache_dir() / "rehearsals" / key, lambda folder: _make(base, prompts, models, max_tokens, folder)
    )
    counts = json.loads((made / COUNTS).read_text())
    out.parent.mkdir(parents=True, exist_ok=True)
    scratch = out.with_name(f".{out.name}.{os.getpid()}")
    shutil.copyfile(made / ROWS, scratch)
    scratch.replace(out)  # whole or not at all
    return Rehearsal(out, counts["kept"], counts["dropped"])


def key_of(base: CheckedModel, prompts: Sequence[str], models: LoadedModels, max_tokens: int = MAX_TOKENS) -> str:
    """A digest of all that the answers depend on."""
    asked = {"base": base.digest, "dtype": models.dtype, "prompts": list(prompts), "max_tokens": max_tokens}
    made_by = [models.backend, models.device.partition(":")[0], package_versions()]
    return digest_of([VERSION, ENGINE_VERSION, asked, made_by])


def _check(base: CheckedModel, prompts: Sequence[str], max_tokens: int) -> None:
    if not prompts:
        raise Unusable("there is no prompt to rehearse; give at least one.")
    for number, prompt in enumerate(prompts, 1):
        if not prompt.strip():
            raise Unusable(f"prompt {number} of {len(prompts)} to rehearse is empty; write one, or remove it.")
    if not 1 <= max_tokens < (base.positions or math.inf):
        most = f" to below the {base.positions} positions of '{base.spec.text}'" if base.positions else ""
        raise Unusable(f"max_tokens = {max_tokens} is no length of an answer; write a number from 1 up{most}.")


def _make(base: CheckedModel, prompts: Sequence[str], models: LoadedModels, max_tokens: int, folder: Path) -> None:
    distinct = list(dict.fromkeys(prompts))
    tokenizer = models.tokenizer(base)
    with models.active(base) as loaded:
        lm = open_lm(loaded, tokenizer, seed=0)
        chat = lm.apply_chat_template if tokenizer.chat_template else None
        answers = dict(stream(lm, [_request(prompt, chat, max_tokens) for prompt in distinct]))
    rows, dropped = [], Counter({DUPLICATE: len(prompts) - len(distinct)})
    given: set[str] = set()
    for n, prompt in enumerate(distinct):
        answer = answers[n]
        found = faults(answer, len(lm.tok_encode(answer)), max_tokens)
        fault = next((name for name in FAULTS if found[name]), DUPLICATE if answer.strip() in given else None)
        if fault is None:
            rows.append({"prompt": prompt, "response": answer})
            given.add(answer.strip())
        else:
            dropped[fault] += 1
    counts = {reason: count for reason, count in sorted(dropped.items()) if count}
    if not rows:
        listed = ", ".join(f"{count} {reason}" for reason, count in counts.items())
        raise Unusable(
            f"no answer of '{base.spec.text}' to the {len(prompts)} prompts can be rehearsed ({listed}); replay general"
            ' rows of your own, a JSONL file of {"prompt", "response"}.'
        )
    write(folder / ROWS, rows)
    (folder / COUNTS).write_text(json.dumps({"kept": len(rows), "dropped": counts}))


def _request(prompt: str, chat: Callable[..., str] | None, max_tokens: int):
    """As recipes.sft trains it: a chat turn, or where the model has no template a line of its own."""
    from lm_eval.api.instance import Instance

    context = chat([{"role": "user", "content": prompt}]) if chat else prompt + "\n"
    settings = {"until": [] if chat else ["\n\n"], "max_gen_toks": max_tokens, "do_sample": False}
    return Instance("generate_until", {}, (context, settings), 0)
