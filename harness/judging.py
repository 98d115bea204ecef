"""What follows from scores, wherever they come from: comparisons and verdicts of base and candidates on a basket.

    Judging              scores and a few facts come from a subclass; all that is judged is here
    audit.Audit          evaluates what is missing
    recorded.Recorded    has only what was written before: by an earlier run, or by lm-eval

The reports ask for no more than this, and none of it needs a model.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from harness.benchmarks import Item
from harness.checkpoints import CheckedModel
from harness.compare import Comparison, Unpaired, compare
from harness.early import items_needed
from harness.specs import GOLD_PROB, Basket, Benchmark, Policy, Unusable
from harness.store import Score
from harness.verdict import INCONCLUSIVE, Verdict, judge, judge_early, judge_recipe

Wanted = tuple[CheckedModel, str, Sequence[int], Sequence[Item]]  # (model, benchmark, seeds, items) that are compared


@dataclass(frozen=True)
class Options:
    """What the command line and the basket's [run] table say, already merged. store: None where no model runs."""

    base: str
    candidates: tuple[str, ...]
    out: Path
    store: Path | None = None
    backend: str = "hf"
    device: str = "auto"
    dtype: str = "auto"
    trust_remote_code: bool = False
    recipe: bool = False
    mitigate: tuple[str, ...] = ()  # names of mitigations to try
    workers: int = 1  # processes that share the work
    digests: Mapping[str, str] = field(default_factory=dict)  # of served models, where another process has taken them


class Judged(Protocol):
    """A benchmark as far as judging goes.

    items: those whose scores can be had; planned: how many the whole benchmark has; temperature: of what is written;
    groups: task -> the part of the benchmark that it belongs to, if it has parts.
    """

    benchmark: Benchmark
    items: tuple[Item, ...]
    planned: int
    digest: str
    temperature: float
    groups: Mapping[str, str]

    def floor(self) -> float:
        """Score of guessing, a proportion."""

    def effective_seeds(self, seeds: Sequence[int]) -> tuple[int, ...]:
        """Those that are replicates of the deciding metric."""

    def writes(self, seed: int) -> bool:
        """True if the task's own requests are made under this seed."""

    def question(self, item: Item) -> str:
        """What a user would ask."""

    def kinds(self, item: Item) -> list[str]:
        """The kinds of instruction that an item gives; empty for a benchmark that gives none."""

    def followed(self, item: Item, score: Score) -> list[bool] | None:
        """Which of these an answer follows; None where the scorer does not judge each."""

    def answer(self, item: Item, score: Score) -> str:
        """What a model wrote, or of given choices the one that it finds most likely; empty if it was asked for none."""

    def expected(self, item: Item) -> str:
        """The right choice, or the text that an answer is compared with; empty where that is not known."""


class Judging(ABC):
    """Base and candidates on the benchmarks of a basket, whose scores can be asked for.

    environment: device, dtype and backend that the scores come from; packages: versions of what they depend on.
    """

    basket: Basket
    options: Options
    base: CheckedModel
    candidates: tuple[CheckedModel, ...]
    benchmarks: Mapping[str, Judged]
    environment: dict[str, str]
    packages: dict[str, str]
    _items: dict[str, tuple[Item, ...]]

    live = False  # models run
    checks: tuple[str, ...] = ()  # names of the canaries that there are
    origin: tuple[str, ...] = ()  # in words: where the scores come from, if no model runs
    provenance: Mapping[str, Any] = {}  # the same as values, for verdict.json
    command: str | None = None  # that gave the scores, if it was another one than this process runs
    created: str | None = None  # when that was (ISO 8601), if it was not now

    @abstractmethod
    def scores(
        self, model: CheckedModel, benchmark: str, seed: int, items: Sequence[Item] | None = None
    ) -> dict[str, Score]:
        """Scores of a cell by item id, in the order of the items; items: by default those that are judged."""

    @abstractmethod
    def canaries(self) -> list[dict[str, Any]]:
        """What testing the instrument gave."""

    @property
    def whole(self) -> frozenset[str]:
        """Benchmarks whose seeds are evaluated together."""
        return frozenset()

    def make_ready(self, wanted: Sequence[Wanted]) -> None:  # noqa: B027 (nothing to do by default)
        """Called before these items are compared; several workers who call it share the work."""

    def _at_hand(self, benchmark: str) -> bool:
        """True if all scores of base and first candidate are there, and none would have to be evaluated."""
        return True

    def holds(self, model: CheckedModel) -> bool:
        """True if every score of a model can be had."""
        return True

    @property
    def policy(self) -> Policy:
        return self.basket.policy

    # ---- what there is -------------------------------------------------------------------------------------------

    @property
    def sides(self) -> dict[str, CheckedModel]:
        """Every model once, by a stable name: base, candidate, candidate-2, …; equal digests share one entry."""
        named = {"base": self.base}
        for n, candidate in enumerate(self.candidates, 1):
            if candidate.digest not in {m.digest for m in named.values()}:
                named["candidate" if n == 1 else f"candidate-{n}"] = candidate
        return named

    def seeds(self, benchmark: str) -> tuple[int, ...]:
        """The seeds of a benchmark that change anything."""
        loaded = self.benchmarks[benchmark]
        return loaded.effective_seeds(loaded.benchmark.seeds or self.basket.seeds)

    def written(self, benchmark: str) -> tuple[int, ...]:
        """Those of the seeds under which answers are written."""
        return tuple(seed for seed in self.seeds(benchmark) if self.benchmarks[benchmark].writes(seed))

    def replicates(self, benchmark: str, metric: str | None = None) -> tuple[int, ...]:
        """The seeds under which a metric is measured, by default the deciding one."""
        metric = metric or self.benchmarks[benchmark].benchmark.metric
        return self.seeds(benchmark) if metric == GOLD_PROB else self.written(benchmark)

    def work(self) -> Iterator[tuple[str, str, int]]:
        """(side, benchmark, seed) of every cell."""
        for side in self.sides:
            for name in self.benchmarks:
                for seed in self.seeds(name):
                    yield side, name, seed

    def stops_early(self, benchmark: str) -> bool:
        return self.policy.stopping == "early" and self.benchmarks[benchmark].benchmark.role == "skill"

    def items(self, benchmark: str) -> tuple[Item, ...]:
        """The items that are judged: all, or those needed to decide."""
        if not self.stops_early(benchmark):
            return self.benchmarks[benchmark].items
        if benchmark not in self._items:
            loaded = self.benchmarks[benchmark]
            self._items[benchmark] = items_needed(
                loaded.items, self.policy.batch, lambda items: self._decided(benchmark, items)
            )
        return self._items[benchmark]

    def _decided(self, benchmark: str, items: Sequence[Item]) -> bool:
        """True if every candidate has its verdict on these items."""
        self.make_ready([(model, benchmark, self.seeds(benchmark), items) for model in self.sides.values()])
        return all(self._judged_early(c, benchmark, items).verdict != INCONCLUSIVE for c in self.candidates)

    # ---- comparisons and verdicts --------------------------------------------------------------------------------

    def comparison(
        self,
        candidate: CheckedModel,
        benchmark: str,
        metric: str | None = None,
        items: Sequence[Item] | None = None,
        seeds: Sequence[int] | None = None,
    ) -> Comparison:
        """Base against a candidate on one benchmark, by its deciding metric or another that was stored."""
        metric = metric or self.benchmarks[benchmark].benchmark.metric
        seeds = seeds or self.replicates(benchmark, metric)
        items = self.items(benchmark) if items is None else items
        return compare(
            benchmark,
            metric,
            [(item.id, item.stratum) for item in items],
            {seed: self.scores(self.base, benchmark, seed, items) for seed in seeds},
            {seed: self.scores(candidate, benchmark, seed, items) for seed in seeds},
        )

    def verdict(self, candidate: CheckedModel, benchmark: str) -> Verdict:
        """The verdict of one benchmark on one candidate alone."""
        if self.stops_early(benchmark):
            return self._judged_early(candidate, benchmark, self.items(benchmark))
        return judge(self.comparison(candidate, benchmark), *self.limits(benchmark), self.policy)

    def _judged_early(self, candidate: CheckedModel, benchmark: str, items: Sequence[Item]) -> Verdict:
        found = self.comparison(candidate, benchmark, items=items)
        return judge_early(found, self.benchmarks[benchmark].planned, *self.limits(benchmark), self.policy)

    def limits(self, benchmark: str) -> tuple[float, float]:
        """(margin, floor) as proportions."""
        loaded = self.benchmarks[benchmark]
        return loaded.benchmark.margin / 100, loaded.floor()

    @property
    def subjects(self) -> tuple[str, ...]:
        """What the decision is about: each candidate, or the recipe that they are runs of."""
        if self.options.recipe:
            return (f"recipe of {len(self.candidates)} runs",)
        return tuple(c.spec.text for c in self.candidates)

    def judged(self, subject: int, benchmark: str) -> Verdict:
        """The verdict that counts for the decision, of one benchmark on one of `subjects`."""
        if not self.options.recipe:
            return self.verdict(self.candidates[subject], benchmark)
        runs = [self.comparison(candidate, benchmark) for candidate in self.candidates]
        return judge_recipe(runs, *self.limits(benchmark), self.policy)

    def detectable_seen(self, benchmark: str) -> float | None:
        """Smallest margin that the items resolve at the spread between base and candidate, if all scores are there."""
        if not self._at_hand(benchmark):
            return None
        try:
            comparison = self.comparison(self.candidates[0], benchmark, items=self.benchmarks[benchmark].items)
        except Unpaired:  # said by the verdict, not by the plan
            return None
        return judge(comparison, *self.limits(benchmark), self.policy).detectable


def check_recipe(base: CheckedModel, candidates: Sequence[CheckedModel], policy: Policy) -> None:
    """Training runs of one recipe count only if each was really trained; `Unusable` otherwise."""
    if len(candidates) < 2:
        raise Unusable("--recipe judges several training runs together; name each with its own --candidate.")
    texts = {base.digest: base.spec.text}
    for candidate in candidates:
        if candidate.digest in texts:
            raise Unusable(
                f"--recipe: '{candidate.spec.text}' and '{texts[candidate.digest]}' are the same model; name runs that"
                " were each trained with a seed of their own."
            )
        texts[candidate.digest] = candidate.spec.text
    if policy.stopping == "early":
        raise Unusable('--recipe needs every item of every run; leave --stop-early out and set stopping = "fixed".')


def check_out(out: Path) -> None:
    """The reports are written at the end of the work, so that they can be is tried at its start."""
    import tempfile

    try:
        out.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=out):
            pass
    except OSError as error:
        raise Unusable(f"--out {out} cannot be written ({error.strerror}); name another directory.") from None
