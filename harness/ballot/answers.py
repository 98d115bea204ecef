"""Both models' answers to the prompts of a ballot, by the engine, from and into the store as every other score.

Greedy by default. At a temperature above 0 both models are sampled with the same noise. A model with a chat template
is asked in a turn of the user; one without gets the prompt as a line of its own, as `recipes` train it, and ends its
answer with its paragraph.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from harness.asked import Asked
from harness.assets import cache_dir
from harness.ballot.prompts import Pair, prompt_id
from harness.benchmarks import Item
from harness.checkpoints import CheckedModel, check
from harness.evaluate import adapter_effect, cell_of, fill
from harness.faults import FAULTS, faults
from harness.fingerprint import digest_of
from harness.models import LoadedModels, pick_device, pick_dtype
from harness.router import load_isolation, routed
from harness.specs import Benchmark, ModelSpec, Unusable, parse_model
from harness.store import Score, Store
from harness.tokenizers import check_tokenizers, rendered

ASKING_VERSION = 1  # raise it when the same prompts may be asked otherwise


@dataclass(frozen=True)
class Asking:
    """How prompts are asked. chat: through the chat template; seed: of the noise, where the temperature is above 0."""

    chat: bool
    max_gen_toks: int = 220
    temperature: float = 0.0
    seed: int = 0


class PromptSet:
    """Prompts as a benchmark of texts without right answers, as far as filling cells of the store goes.

    What is scored is the form of each answer alone (`faults`); the text itself is the response that is kept.
    """

    name, output_type = "ballot", "generate_until"

    def __init__(self, prompts: Sequence[str], asking: Asking):
        self.asking = asking
        self.items = tuple(Item(prompt_id(prompt), self.name, {"prompt": prompt}) for prompt in prompts)
        self.benchmark = Benchmark(self.name, self.name, chat=asking.chat, seeds=(asking.seed,))
        settings = {key: value for key, value in asdict(asking).items() if key != "seed"}
        self.digest = digest_of({"ballot": ASKING_VERSION, **settings})

    @property
    def temperature(self) -> float:
        return self.asking.temperature

    def effective_seeds(self, seeds: Sequence[int]) -> tuple[int, ...]:
        return tuple(seeds) if self.temperature else tuple(seeds)[:1]

    def requests(self, item: Item, seed: int, chat_template: Callable[..., str] | None = None) -> list[Any]:
        """One generation request, as lm-eval writes it; its noise is keyed by the prompt."""
        from lm_eval.api.instance import Instance

        prompt = item.doc["prompt"]
        context = chat_template([{"role": "user", "content": prompt}]) if self.asking.chat else prompt + "\n"
        settings: dict[str, Any] = {"until": [] if self.asking.chat else ["\n\n"]}
        settings |= {"max_gen_toks": self.asking.max_gen_toks, "do_sample": self.temperature > 0}
        settings |= {"temperature": self.temperature} if self.temperature else {}
        return [Instance("generate_until", item.doc, (context, settings), 0, (self.name, item.id, 1))]

    def score(
        self, item: Item, requests: list[Any], responses: list[Any], count_tokens: Callable[[str], int] = len
    ) -> dict[str, float]:
        return faults(responses[0], count_tokens(responses[0]), self.asking.max_gen_toks)

    def check_metric(self, metrics: dict[str, float], item: Item) -> None:
        """No metric decides; the editors do."""


@dataclass(frozen=True)
class Writers:
    """Base and candidate, ready to answer; what they wrote before comes from the store."""

    base: CheckedModel
    candidate: CheckedModel
    models: LoadedModels
    store: Store
    asking: Asking


def writers(
    base: str | ModelSpec,
    candidate: str | ModelSpec,
    *,
    store: Path | None = None,
    device: str = "auto",
    dtype: str = "auto",
    trust_remote_code: bool = False,
    max_gen_toks: int = Asking.max_gen_toks,
    temperature: float = 0.0,
    seed: int = 0,
) -> Writers:
    """Checks both models as an audit does, before one is loaded; raises `Unusable`."""
    specs = [parse_model(text) if isinstance(text, str) else text for text in (base, candidate)]
    for spec in specs:
        if spec.kind == "samples":
            raise Unusable(
                f"'{spec.text}' answers no new prompt; name a model, or texts that are there with --answers."
            )
    if len({spec.kind == "served" for spec in specs}) == 2:
        raise Unusable("base and candidate must be read by the same program; serve both, or neither.")
    checked = check(specs[0], None, trust_remote_code)
    tuned = check(specs[1], checked, trust_remote_code)
    tokenizer = check_tokenizers(checked, tuned, False, trust_remote_code)
    chat = bool(tokenizer.chat_template)
    check_tokenizers(checked, tuned, chat, trust_remote_code)
    for model in (checked, tuned):
        if not 1 <= max_gen_toks < (model.positions or float("inf")):
            most = f" below the {model.positions} positions of '{model.spec.text}'" if model.positions else ""
            raise Unusable(f"--max-tokens {max_gen_toks} is no length of an answer; write a number from 1 up{most}.")
    device = pick_device(device)
    models = LoadedModels(device, pick_dtype(dtype, device), trust_remote_code)
    asking = Asking(chat, max_gen_toks, temperature, seed)
    return Writers(checked, tuned, models, Store(store or cache_dir() / "store"), asking)


def check_room(prompts: Sequence[str], asking: Asking, models: Sequence[CheckedModel], tokenizer) -> None:
    """`Unusable` for a prompt that does not fit into a model with its answer: editors would see more than the model."""
    positions = min((model.positions for model in models if model.positions), default=None)
    asked = PromptSet(prompts, asking)
    for number, item in enumerate(asked.items if positions else (), 1):
        (request,) = asked.requests(item, 0, functools.partial(rendered, tokenizer))
        if (length := len(tokenizer.encode(request.args[0]))) + asking.max_gen_toks > positions:
            raise Unusable(
                f"prompt {number} of the head-to-head ({request.doc['prompt'][:60]!r}) has {length} tokens, which with"
                f" {asking.max_gen_toks} of an answer do not fit into {positions} positions; shorten it, or leave it"
                " out."
            )


def write_answers(writers: Writers, prompts: Sequence[str]) -> tuple[list[Pair], dict[str, dict[str, int]]]:
    """Both models' answers, and how many of each side's are empty, truncated or looping.

    An adapter that changes no logit of its base is `Unusable`: its head-to-head would be a base against itself. So is
    a prompt without room for its answer (`check_room`).
    """
    both = writers.base, writers.candidate
    check_room(prompts, writers.asking, both, writers.models.tokenizer(writers.base))
    asked = PromptSet(prompts, writers.asking)
    writers.models.asked = Asked({asked.name: asked})
    tuned = writers.candidate.routed or writers.candidate
    if tuned.is_adapter:
        adapter_effect(tuned, writers.models, writers.store)
    sides = {"base": _scores(writers, writers.base, asked), "candidate": _scores(writers, tuned, asked)}
    if writers.candidate.routed:
        chosen = load_isolation(writers.candidate.path).router.domain(list(prompts))
        to_adapter = {item.id: bool(on) for item, on in zip(asked.items, chosen, strict=True)}
        sides["candidate"] = routed(sides["base"], sides["candidate"], to_adapter)
    texts = {name: [scores[item.id].responses[0] for item in asked.items] for name, scores in sides.items()}
    found = {
        name: {fault: int(sum(score.metrics[fault] for score in scores.values())) for fault in FAULTS}
        for name, scores in sides.items()
    }
    return [Pair(*row) for row in zip(prompts, texts["base"], texts["candidate"], strict=True)], found


def _scores(writers: Writers, model: CheckedModel, asked: PromptSet) -> dict[str, Score]:
    seed = writers.asking.seed if asked.temperature else 0
    fill(model, asked, (seed,), writers.store, writers.models)
    stored = writers.store.get(cell_of(model, asked, seed, writers.models))
    return {item.id: stored[item.id] for item in asked.items}
