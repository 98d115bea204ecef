"""LoRA isolation: the adapter is switched on for prompts of its domain, and off for all others, which the base answers.

    isolation = isolate(base, candidate, domain_prompts, general_prompts, Path("isolated"), ambiguous=near_the_domain)
    isolation.certificate     # "0 of 1000 fresh general prompts went to the adapter: … at most 0.30 points …"

With the adapter off the base answers to the last bit, so nothing can be forgotten but by a prompt that takes the wrong
way. How often that happens is measured here, on prompts that the router was not trained on, and bounded exactly
(Clopper and Pearson 1934, Biometrika 26:404-413). The bound speaks of prompts like those it was measured on.

Routing requests to LoRA adapters: Zhao et al. 2024, LoraRetriever, arXiv:2402.09997. LoRA: Hu et al. 2021,
arXiv:2106.09685. The router is in `harness.router`. What ships is a directory: the adapter, the router, the note of
origin with all rates, and a short program that serves them.
"""

from __future__ import annotations

import json
import math
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from harness.checkpoints import ADAPTER_WEIGHTS, NOTE, TOKENIZER_FILES, CheckedModel, weights_digest
from harness.fingerprint import digest_of
from harness.router import Router, router_digest
from harness.specs import Unusable
from harness.stats.interval import Interval
from harness.stats.proportions import clopper_pearson
from mitigations.overlap import prompts_without_overlaps
from recipes.adapter import made_whole

FEWEST = 50  # prompts of any set: fewer than 50 fresh ones leave 6 points open even if all go the right way
HELD_BACK = 5  # where no fresh prompts are given, every fifth is kept from training and measured on

# Needs transformers, peft, scikit-learn and safetensors, and nothing of Lethe; a test compares its decisions to ours.
SERVE = '''"""Answers one prompt: with the adapter where the router finds it to be of the domain, else with the base.

    python serve.py "PROMPT" [BASE]      BASE: a directory or hub id, where the base has moved
"""

import contextlib
import json
import sys
from pathlib import Path

from peft import PeftModel
from safetensors.numpy import load_file
from sklearn.feature_extraction.text import HashingVectorizer
from transformers import AutoModelForCausalLM, AutoTokenizer

HERE = Path(__file__).resolve().parent
ROUTER = json.loads((HERE / "router" / "router.json").read_text())
WEIGHTS = load_file(HERE / "router" / "router.safetensors")["weights"]


def to_adapter(prompt: str) -> bool:
    return (HashingVectorizer(**ROUTER["features"]).transform([prompt]) @ WEIGHTS)[0] > ROUTER["threshold"]


def main(prompt: str, base: str = "", revision: str = "main") -> None:
    if not base:
        base, revision = (json.loads((HERE / "lethe.json").read_text())["base"][key] for key in ("load", "revision"))
    tokenizer = AutoTokenizer.from_pretrained(base, revision=revision)
    model = AutoModelForCausalLM.from_pretrained(base, revision=revision, use_safetensors=True)
    model = PeftModel.from_pretrained(model, HERE / "adapter").eval()
    turns, text = [{"role": "user", "content": prompt}], prompt
    if chat := bool(tokenizer.chat_template):
        text = tokenizer.apply_chat_template(turns, tokenize=False, add_generation_prompt=True)
    ids = tokenizer(text, add_special_tokens=not chat, return_tensors="pt", return_token_type_ids=False)
    on = to_adapter(prompt)
    with contextlib.nullcontext() if on else model.disable_adapter():
        answer = model.generate(**ids, max_new_tokens=256, do_sample=False)
    print("by the adapter" if on else "by the base", file=sys.stderr)
    print(tokenizer.decode(answer[0, ids["input_ids"].shape[1] :], skip_special_tokens=True))


if __name__ == "__main__":
    main(*sys.argv[1:3]) if sys.argv[1:] else sys.exit(__doc__)
'''


@dataclass(frozen=True)
class Misrouted:
    """`wrong` of `prompts` prompts took the wrong way."""

    wrong: int
    prompts: int

    @property
    def bounds(self) -> Interval:
        """The rate in [0, 1] with exact bounds, each at 95%."""
        return clopper_pearson(self.wrong, self.prompts)


@dataclass(frozen=True)
class Isolation:
    """A directory that ships, and how its router did on prompts it was not trained on.

    general: went to the adapter; domain: stayed with the base; ambiguous: went to the adapter, None if none were given.
    """

    path: Path
    general: Misrouted
    domain: Misrouted
    ambiguous: Misrouted | None

    @property
    def loss_at_most(self) -> float:
        """What general prompts can lose at 95% confidence, in [0, 1]: each prompt sent wrong loses 1 at most."""
        return self.general.bounds.high

    @property
    def certificate(self) -> str:
        points = math.ceil(1e4 * self.loss_at_most) / 100  # a bound is never rounded down
        return (
            f"{self.general.wrong} of {self.general.prompts} fresh general prompts went to the adapter: on prompts like"
            f" these the routed model loses at most {points:.2f} points against the base, at 95% confidence."
        )


def isolate(
    base: CheckedModel,
    candidate: CheckedModel,
    domain_prompts: Sequence[str],
    general_prompts: Sequence[str],
    out: str | Path,
    *,
    fresh_domain: Sequence[str] | None = None,
    fresh_general: Sequence[str] | None = None,
    ambiguous: Sequence[str] = (),
    benchmarks: Mapping[str, Sequence[str]] = {},
    seed: int = 0,
) -> Isolation:
    """Trains a router between the two sets of prompts, measures it on fresh ones and writes `out`, new or empty.

    fresh_domain, fresh_general: measured on and never trained on; None keeps every fifth of the others back, which
    vouches for less where prompts share their wording. ambiguous: general prompts near the domain, counted apart.
    benchmarks: the texts that the routed model is judged on (`overlap.benchmark_texts`): prompts that hold one of them
    are dropped, and how many goes to the note under "dropped". Raises `Unusable`.
    """
    _check_models(base, candidate)
    dropped: dict[str, dict[str, int]] = {}
    domain, fresh_domain = _fresh("domain", domain_prompts, fresh_domain, benchmarks, dropped)
    general, fresh_general = _fresh("general", general_prompts, fresh_general, benchmarks, dropped)
    ambiguous = _without(ambiguous, general)
    _check_sides([*domain, *fresh_domain], [*general, *fresh_general, *ambiguous])
    router = Router.fit(domain, general, seed)
    isolation = Isolation(
        path=Path(out),
        general=_count(router.domain(fresh_general)),
        domain=_count(~router.domain(fresh_domain)),
        ambiguous=_count(router.domain(ambiguous)) if ambiguous else None,
    )
    with made_whole(isolation.path) as made:
        _copy_adapter(candidate, made / "adapter")
        router.save(made / "router")
        (made / "serve.py").write_text(SERVE, encoding="utf-8")
        trained = {"threshold": router.threshold, "seed": seed, **_learned(made / "router", domain, general)}
        note = {**_origin(base, candidate), "router": trained, "dropped": dropped, **_found(isolation)}
        (made / NOTE).write_text(json.dumps(note, indent=2, sort_keys=True) + "\n")
    return isolation


def _check_models(base: CheckedModel, candidate: CheckedModel) -> None:
    if candidate.base is None:
        raise Unusable(
            f"candidate '{candidate.spec.text}' has full weights, which cannot be switched off for a prompt; isolate an"
            " adapter, or merge this candidate with the base."
        )
    if candidate.base.digest != base.digest:
        raise Unusable(
            f"candidate '{candidate.spec.text}' sits on '{candidate.base.spec.text}' and not on '{base.spec.text}';"
            " name its own base."
        )


def _without(prompts: Sequence[str], others: Sequence[str] = ()) -> list[str]:
    """The prompts that hold text, each once, without those of `others`."""
    known = set(others)
    return [prompt for prompt in dict.fromkeys(prompts) if prompt.strip() and prompt not in known]


def _fresh(
    name: str,
    prompts: Sequence[str],
    fresh: Sequence[str] | None,
    benchmarks: Mapping[str, Sequence[str]],
    dropped: dict[str, dict[str, int]],
) -> tuple[list[str], list[str]]:
    """Distinct prompts to train on, and others to measure on; what holds an item is counted in `dropped`."""
    prompts, dropped[name] = prompts_without_overlaps(_without(prompts), benchmarks)
    if fresh is None:
        fresh = [prompt for prompt in prompts if int(digest_of(prompt)[:8], 16) % HELD_BACK == 0]
        prompts = _without(prompts, fresh)
    else:
        fresh, dropped[f"fresh {name}"] = prompts_without_overlaps(_without(fresh), benchmarks)
    fresh = _without(fresh, prompts)
    for kind, found in ((name, prompts), (f"fresh {name}", fresh)):
        if len(found) < FEWEST:
            raise Unusable(
                f"{len(found)} distinct {kind} prompts are too few; give at least {FEWEST}, better hundreds (and"
                f" {HELD_BACK} times as many where fresh ones are to be kept back)."
            )
    return prompts, fresh


def _check_sides(domain: Sequence[str], general: Sequence[str]) -> None:
    on_both = set(domain).intersection(general)
    if on_both:
        raise Unusable(
            f"prompt {min(on_both)!r} is given as domain and as general ({len(on_both)} such); leave each on one side."
        )


def _count(wrong: Any) -> Misrouted:
    return Misrouted(int(wrong.sum()), len(wrong))


def _copy_adapter(candidate: CheckedModel, made: Path) -> None:
    """What acts of the adapter, and its note of origin, by which the gate recognises the base."""
    made.mkdir()
    for name in ("adapter_config.json", ADAPTER_WEIGHTS, NOTE, *TOKENIZER_FILES):
        if (candidate.path / name).is_file():
            shutil.copyfile(candidate.path / name, made / name)
    note = json.loads((made / NOTE).read_text(encoding="utf-8")) if (made / NOTE).is_file() else {}
    if "base_weights" not in note:
        note["base_weights"] = weights_digest(candidate.base)
        (made / NOTE).write_text(json.dumps(note, indent=2, sort_keys=True) + "\n")


def _learned(router: Path, domain: Sequence[str], general: Sequence[str]) -> dict[str, Any]:
    """The saved router by digest, and what it has learned from."""
    counts = {"domain_prompts": len(domain), "general_prompts": len(general)}
    return {"digest": router_digest(router), **counts, "prompts": digest_of([domain, general])}


def _origin(base: CheckedModel, candidate: CheckedModel) -> dict[str, Any]:
    hub = base.spec.kind == "hub"
    return {
        "kind": "isolation",
        "base": {
            "spec": base.spec.text,
            "load": base.spec.location if hub else str(base.path.resolve()),  # what transformers can load
            "revision": base.spec.revision or "main",
            "digest": base.digest,
        },
        "base_weights": weights_digest(base),
        "candidate": {"spec": candidate.spec.text, "digest": candidate.digest},
    }


def _found(isolation: Isolation) -> dict[str, Any]:
    """Rates in [0, 1]."""
    sets = {"general": isolation.general, "domain": isolation.domain, "ambiguous": isolation.ambiguous}
    return {
        "misrouted": {
            name: {"wrong": found.wrong, "prompts": found.prompts, **found.bounds._asdict()}
            for name, found in sets.items()
            if found is not None
        },
        "certificate": {"text": isolation.certificate, "loss_at_most": isolation.loss_at_most, "confidence": 0.95},
    }
