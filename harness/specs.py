"""The vocabulary: what a model, a benchmark, a basket and a policy are, and how text names a model.

Everything here is a frozen value. Whatever cannot be used raises `Unusable` with one sentence that ends in the remedy;
the command line turns it into exit status 4 before any model is loaded. Baskets are read in `baskets`.
"""

from __future__ import annotations

import os.path
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any


class Unusable(Exception):
    """Options, basket, models or data that cannot be used: one sentence with the remedy."""


# ---- models ----------------------------------------------------------------------------------------------------------

FORMS = "org/name[@revision], a local directory, embedded:NAME, samples:DIR or served:URL#MODEL"


@dataclass(frozen=True)
class ModelSpec:
    """A model as the user names it.

    text: as written; kind: hub, local, adapter, routed, embedded, samples or served; location: hub id, directory, name
    or URL; revision: of a hub id; served_name: the model's name at a served URL.
    """

    text: str
    kind: str
    location: str
    revision: str | None = None
    served_name: str | None = None

    @property
    def name(self) -> str:
        """A short name for tables and test ids."""
        return Path(self.location).name if self.kind in ("local", "adapter", "routed", "samples") else self.text


def parse_model(text: str) -> ModelSpec:
    """SPEC -> ModelSpec; raises `Unusable` for forms that are none of `FORMS`."""
    text = text.strip()
    if not text:
        raise Unusable(f"model '' names nothing; write one of {FORMS}.")
    scheme, colon, rest = text.partition(":")
    if colon and scheme in ("embedded", "samples"):
        if not rest:
            raise Unusable(f"model '{text}' names nothing behind '{scheme}:'; write one of {FORMS}.")
        return ModelSpec(text, scheme, rest)
    if colon and scheme == "served":
        url, _, name = rest.partition("#")
        if not url.startswith(("http://", "https://")) or not name:
            raise Unusable(f"model '{text}' is no served model; write served:http://host:port/v1#MODEL.")
        return ModelSpec(text, "served", url, served_name=name)
    path = Path(os.path.expanduser(text))  # a shell expands ~ in `--base ~/m` but not in `--base=~/m`
    if path.is_dir():
        return _directory(text, path)
    if path.is_file():
        raise Unusable(f"model '{text}' is a file; name the directory that save_pretrained wrote.")
    if text.startswith((".", "/", "~")) or text.endswith("/"):
        raise Unusable(f"model '{text}' is a directory that does not exist; check the path.")
    name, at, revision = text.partition("@")
    if at and not revision:
        raise Unusable(f"model '{text}' names no revision behind '@'; write org/name@revision, or leave '@' out.")
    if name.count("/") == 1 and all(name.split("/")) and ":" not in name:
        return ModelSpec(text, "hub", name, revision or None)
    raise Unusable(f"model '{text}' has no form that is known; write one of {FORMS}.")


def _directory(text: str, path: Path) -> ModelSpec:
    if (path / "router" / "router.json").is_file():
        return ModelSpec(text, "routed", str(path.resolve()))
    if (path / "adapter_config.json").is_file():
        return ModelSpec(text, "adapter", str(path.resolve()))
    if (path / "config.json").is_file():
        return ModelSpec(text, "local", str(path.resolve()))
    raise Unusable(
        f"model directory '{text}' has neither config.json nor adapter_config.json; "
        "name the directory that save_pretrained wrote."
    )


# ---- benchmarks and baskets ------------------------------------------------------------------------------------------

CHOICE_PROB, GOLD_PROB = "choice_prob", "gold_prob_per_byte"  # our metrics beside a task's own, see `benchmarks`


@dataclass(frozen=True)
class Benchmark:
    """One benchmark of a basket.

    name: in tables; task: an lm-eval task, group or tag; metric: the one that decides, in [0, 1] per item; margin: the
    largest loss we accept, in points; items: how many, drawn once and evenly over a group's tasks (None: all);
    fewshot: shots (None: the task's own); chat: prompts through the chat template; seeds: replicates (empty: those
    of the basket); temperature: 0 is greedy; max_gen_toks: length limit of an answer (None: the task's own); gold: a
    template over the document for the solution whose probability per byte is reported; floor: the score of guessing,
    in points (None: known from the task); role: `skill` is judged, `domain` measures the gain; answers: under which
    seeds answers are written, `all` or the `first` alone, where they stand beside a metric that does not read them.
    """

    name: str
    task: str
    metric: str = "acc"
    margin: float = 3.0
    items: int | None = None
    fewshot: int | None = None
    chat: bool = False
    seeds: tuple[int, ...] = ()
    temperature: float = 0.0
    max_gen_toks: int | None = None
    gold: str | None = None
    floor: float | None = None
    role: str = "skill"
    answers: str = "all"

    def writes(self, seed: int) -> bool:
        """True if answers are written under this seed, and not only the gold solution's probability read."""
        return self.answers == "all" or seed == self.seeds[0]


@dataclass(frozen=True)
class Policy:
    """How verdicts are reached.

    alpha: one-sided error rate of each bound. stopping: `fixed` evaluates every item; `early` looks after every `batch`
    items (`harness.early.looks`), in one seeded order, and stops a benchmark that is decided. estimand: what an early
    verdict is about: the `benchmark`, whose other items it spares, or the `population` that the items are a sample of.
    multiplicity: how the evidence of several regressions is adjusted, `holm` or `none`.
    """

    alpha: float = 0.05
    stopping: str = "fixed"
    estimand: str = "benchmark"
    batch: int = 50
    multiplicity: str = "holm"


@dataclass(frozen=True)
class Experiment:
    """How mitigations are tried: a setting is picked on one half of the items and judged on the other.

    domain: the JSONL of {"prompt", "response"} that the candidate was trained on, or `embedded:chemistry`; general:
    JSONL of general rows to replay (None: the base's own answers to prompts of ours). items: at most so many of each
    half of a benchmark; seeds: at most so many orders of shots (where answers are sampled, all seeds count). scales:
    the shares of its update that a merge keeps; shares: of general rows among all that replay trains on; kl: weight of
    the divergence from the base on them. retention: the least share of the domain gain to keep, in percent.
    """

    domain: str | None = None
    general: str | None = None
    items: int = 100
    seeds: int = 1
    scales: tuple[float, ...] = (0.25, 0.5, 0.75)
    shares: tuple[float, ...] = (0.1,)
    kl: float = 0.0
    retention: float = 80.0


@dataclass(frozen=True)
class Basket:
    """The benchmarks one audit runs.

    documents: `hub` or `embedded`; tasks: folder with lm-eval tasks of the user; experiment: None where mitigations are
    tried only if the command line asks for them; run: options of the command line; file: that it was read from.
    """

    name: str
    benchmarks: tuple[Benchmark, ...]
    seeds: tuple[int, ...] = (0,)
    documents: str = "hub"
    tasks: str | None = None
    policy: Policy = Policy()
    experiment: Experiment | None = None
    run: dict[str, Any] = field(default_factory=dict)
    file: str | None = None

    @property
    def skills(self) -> tuple[Benchmark, ...]:
        return tuple(b for b in self.benchmarks if b.role == "skill")

    @property
    def domains(self) -> tuple[Benchmark, ...]:
        return tuple(b for b in self.benchmarks if b.role == "domain")

    def named(self, name: str) -> Benchmark:
        for benchmark in self.benchmarks:
            if benchmark.name == name:
                return benchmark
        known = ", ".join(b.name for b in self.benchmarks)
        raise Unusable(f"benchmark '{name}' is not in basket '{self.name}'; it has {known}.")
