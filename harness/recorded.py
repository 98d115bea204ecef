"""An audit whose scores are all there already: of an earlier run, or from what lm-eval wrote. No model is loaded."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from harness.benchmarks import Item
from harness.checkpoints import CheckedModel
from harness.compare import Unpaired
from harness.judging import Judging, Options
from harness.specs import Basket, Benchmark, Unusable
from harness.store import Score

Held = Mapping[tuple[str, str, int], Mapping[str, Score]]  # (model's digest, benchmark, seed) -> item id -> score


@dataclass
class Told:
    """What a reader sees of the items of a benchmark, which only a loaded task could tell again.

    questions, kinds, expected: by item id; answers, followed: by (model's digest, seed, item id).
    """

    questions: dict[str, str] = field(default_factory=dict)
    kinds: dict[str, list[str]] = field(default_factory=dict)
    expected: dict[str, str] = field(default_factory=dict)
    answers: dict[tuple[str, int, str], str] = field(default_factory=dict)
    followed: dict[tuple[str, int, str], list[bool]] = field(default_factory=dict)

    def keep(self, score: Score, row: Mapping[str, Any]) -> None:
        """What a row tells under the keys question, kinds, expected, answer and followed, each only where it has it."""
        key = (score.cell.model, score.cell.seed, score.item)
        for told, name, at in (
            (self.questions, "question", score.item),
            (self.kinds, "kinds", score.item),
            (self.expected, "expected", score.item),
            (self.answers, "answer", key),
            (self.followed, "followed", key),
        ):
            if name in row:
                told[at] = row[name]


@dataclass(frozen=True)
class RecordedBenchmark:
    """A benchmark as `judging.Judged` asks for it. guessing: its floor, a proportion; seeds: the effective ones."""

    benchmark: Benchmark
    items: tuple[Item, ...]
    planned: int
    digest: str
    guessing: float
    seeds: tuple[int, ...]
    temperature: float = 0.0
    groups: Mapping[str, str] = field(default_factory=dict)
    told: Told = field(default_factory=Told)

    @property
    def name(self) -> str:
        return self.benchmark.name

    def floor(self) -> float:
        return self.guessing

    def effective_seeds(self, seeds: Sequence[int]) -> tuple[int, ...]:
        return self.seeds

    def writes(self, seed: int) -> bool:
        return self.benchmark.writes(seed)

    def question(self, item: Item) -> str:
        return self.told.questions.get(item.id, "")

    def kinds(self, item: Item) -> list[str]:
        return self.told.kinds.get(item.id, [])

    def followed(self, item: Item, score: Score) -> list[bool] | None:
        return self.told.followed.get((score.cell.model, score.cell.seed, item.id))

    def answer(self, item: Item, score: Score) -> str:
        written = score.responses[0] if score.responses and isinstance(score.responses[0], str) else ""
        return self.told.answers.get((score.cell.model, score.cell.seed, item.id), written)

    def expected(self, item: Item) -> str:
        return self.told.expected.get(item.id, "")


@dataclass
class Recorded(Judging):
    """Scores that were written before.

    tested: what testing the instrument gave when they were made; environment, packages: they come from; origin: in
    words; provenance: the same as keys of verdict.json; command, created: that gave them and when, if not this one now.
    """

    basket: Basket
    options: Options
    base: CheckedModel
    candidates: tuple[CheckedModel, ...]
    benchmarks: dict[str, RecordedBenchmark]
    held: Held
    environment: dict[str, str]
    packages: dict[str, str]
    tested: list[dict[str, Any]] = field(default_factory=list)
    origin: tuple[str, ...] = ()
    provenance: dict[str, Any] = field(default_factory=dict)
    command: str | None = None
    created: str | None = None
    _items: dict[str, tuple[Item, ...]] = field(default_factory=dict)

    def scores(
        self, model: CheckedModel, benchmark: str, seed: int, items: Sequence[Item] | None = None
    ) -> dict[str, Score]:
        """Raises `Unpaired` if a score that is asked for was not recorded."""
        items = self.items(benchmark) if items is None else items
        held = self.held.get((model.digest, benchmark, seed), {})
        if missing := [item.id for item in items if item.id not in held]:
            raise Unpaired(
                f"{benchmark}: {model.spec.text} has no recorded score of {len(missing)} of {len(items)} items under"
                f" seed {seed} ({missing[0]} is the first); evaluate them."
            )
        return {item.id: held[item.id] for item in items}

    def canaries(self) -> list[dict[str, Any]]:
        return self.tested

    def holds(self, model: CheckedModel) -> bool:
        return all(
            item.id in self.held.get((model.digest, name, seed), {})
            for name in self.benchmarks
            for seed in self.seeds(name)
            for item in self.items(name)
        )

    def check(self) -> None:
        """Makes every comparison once; `Unusable` for what cannot be paired, before anything is said of it."""
        try:
            for candidate in self.candidates:
                for name in self.benchmarks:
                    self.comparison(candidate, name, items=self.benchmarks[name].items)
        except Unpaired as error:
            raise Unusable(str(error)) from None
