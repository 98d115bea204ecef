"""One audit: options -> checked models and benchmarks -> cells to evaluate -> comparisons -> the verdict of everything.

`prepare` does all checks that need no loaded model, so that bad input is said before any work. An `Audit` holds no
results: whatever it is asked for comes from the store.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from harness import canary
from harness.asked import Asked
from harness.benchmarks import Item, LoadedBenchmark, load_benchmarks
from harness.checkpoints import CheckedModel, check
from harness.compare import Comparison, Unpaired, compare
from harness.early import items_needed
from harness.evaluate import adapter_effect, cell_of, fill
from harness.models import LoadedModels, pick_device, pick_dtype
from harness.router import load_isolation, routed
from harness.served import check_loglikelihoods
from harness.specs import GOLD_PROB, Basket, ModelSpec, Policy, Unusable, parse_model
from harness.store import Cell, Score, Store
from harness.tokenizers import check_tokenizers
from harness.verdict import INCONCLUSIVE, Verdict, judge, judge_early, judge_recipe
from harness.vllm_backend import parse_backend

CANARIES = ("effect", "repeat", "damaged")


@dataclass(frozen=True)
class Options:
    """What the command line and the basket's [run] table say, already merged."""

    base: str
    candidates: tuple[str, ...]
    out: Path
    store: Path
    backend: str = "hf"
    device: str = "auto"
    dtype: str = "auto"
    trust_remote_code: bool = False
    recipe: bool = False
    mitigate: tuple[str, ...] = ()  # names of mitigations to try
    workers: int = 1  # processes that share the work
    digests: Mapping[str, str] = field(default_factory=dict)  # of served models, where another process has taken them


@dataclass
class Audit:
    """Base and candidates on the benchmarks of a basket. An audit whose scores are all stored loads no model."""

    basket: Basket
    options: Options
    base: CheckedModel
    candidates: tuple[CheckedModel, ...]
    benchmarks: dict[str, LoadedBenchmark]
    store: Store
    models: LoadedModels
    _items: dict[str, tuple[Item, ...]] = field(default_factory=dict)

    @property
    def policy(self) -> Policy:
        return self.basket.policy

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

    def work(self) -> Iterator[tuple[str, str, int]]:
        """(side, benchmark, seed) of every cell."""
        for side in self.sides:
            for name in self.benchmarks:
                for seed in self.seeds(name):
                    yield side, name, seed

    def cell(self, model: CheckedModel, benchmark: str, seed: int) -> Cell:
        return cell_of(model, self.benchmarks[benchmark], seed, self.models)

    def planned(self) -> tuple[list[Cell], int]:
        """All cells and the number of scores they have when they are full."""
        cells = {
            self.cell(part, name, seed): len(self.benchmarks[name].items)
            for side, name, seed in self.work()
            for part in self._asked(self.sides[side])
        }
        return list(cells), sum(cells.values())

    def _asked(self, model: CheckedModel) -> tuple[CheckedModel, ...]:
        """The models that are asked for the scores of one: itself, or those that a router chooses between."""
        return (self.base, model.routed) if model.routed else (model,)

    # ---- items and scores ----------------------------------------------------------------------------------------

    def stops_early(self, benchmark: str) -> bool:
        return self.policy.stopping == "early" and self.benchmarks[benchmark].benchmark.role == "skill"

    def items(self, benchmark: str) -> tuple[Item, ...]:
        """The items that are judged: all, or those needed to decide, which are evaluated on the way."""
        if not self.stops_early(benchmark):
            return self.benchmarks[benchmark].items
        if benchmark not in self._items:
            loaded = self.benchmarks[benchmark]
            self._items[benchmark] = items_needed(
                loaded.items, self.policy.batch, lambda items: self._decided(benchmark, items)
            )
        return self._items[benchmark]

    def _decided(self, benchmark: str, items: Sequence[Item]) -> bool:
        """True if every candidate has its verdict on these items, which are evaluated on all models first."""
        for model in self.sides.values():
            for seed in self.seeds(benchmark):
                self._fill(model, benchmark, seed, items)
        return all(self._judged_early(c, benchmark, items).verdict != INCONCLUSIVE for c in self.candidates)

    def _fill(self, model: CheckedModel, benchmark: str, seed: int, items: Sequence[Item]) -> None:
        """The cell of a seed; with it those of the others, where the seeds ask the same and only the noise differs."""
        loaded = self.benchmarks[benchmark]
        seeds = self.seeds(benchmark) if loaded.temperature > 0 else (seed,)
        for asked in self._asked(model):
            fill(asked, loaded, seeds, self.store, self.models, items)

    def scores(
        self, model: CheckedModel, benchmark: str, seed: int, items: Sequence[Item] | None = None
    ) -> dict[str, Score]:
        """Scores of a cell by item id, evaluating what is missing; items: by default those that are judged."""
        items = self.items(benchmark) if items is None else items
        self._fill(model, benchmark, seed, items)
        sides = []
        for asked in self._asked(model):
            stored = self.store.get(self.cell(asked, benchmark, seed))
            sides.append({item.id: stored[item.id] for item in items})
        return routed(*sides, self._to_adapter(model, benchmark, items)) if model.routed else sides[0]

    def _to_adapter(self, model: CheckedModel, benchmark: str, items: Sequence[Item]) -> dict[str, bool]:
        """By item id whether a router hands the item's question to the adapter."""
        questions = [self.benchmarks[benchmark].question(item) for item in items]
        chosen = load_isolation(model.path).router.domain(questions)
        return {item.id: bool(on) for item, on in zip(items, chosen, strict=True)}

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
        seeds = seeds or (self.seeds(benchmark) if metric == GOLD_PROB else self.written(benchmark))
        items = self.items(benchmark) if items is None else items
        return compare(
            benchmark,
            metric,
            [(item.id, item.stratum) for item in items],
            {seed: self.scores(self.base, benchmark, seed, items) for seed in seeds},
            {seed: self.scores(candidate, benchmark, seed, items) for seed in seeds},
        )

    # ---- verdicts ------------------------------------------------------------------------------------------------

    def verdict(self, candidate: CheckedModel, benchmark: str) -> Verdict:
        """The verdict of one benchmark on one candidate alone."""
        if self.stops_early(benchmark):
            return self._judged_early(candidate, benchmark, self.items(benchmark))
        return judge(self.comparison(candidate, benchmark), *self.limits(benchmark), self.policy)

    def _judged_early(self, candidate: CheckedModel, benchmark: str, items: Sequence[Item]) -> Verdict:
        found = self.comparison(candidate, benchmark, items=items)
        planned = len(self.benchmarks[benchmark].items)
        return judge_early(found, planned, *self.limits(benchmark), self.policy)

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
        """Smallest margin that the items resolve at the spread between base and candidate, if all scores are stored."""
        loaded, seeds = self.benchmarks[benchmark], self.seeds(benchmark)
        for model in (self.base, self.candidates[0]):
            cells = [self.cell(asked, benchmark, seed) for asked in self._asked(model) for seed in seeds]
            if not all(self.store.items(cell) >= {item.id for item in loaded.items} for cell in cells):
                return None
        try:
            comparison = self.comparison(self.candidates[0], benchmark, items=loaded.items)
        except Unpaired:  # said by the verdict, not by the plan
            return None
        return judge(comparison, *self.limits(benchmark), self.policy).detectable

    # ---- the instrument ------------------------------------------------------------------------------------------

    def canaries(self) -> list[dict[str, Any]]:
        """Runs every canary that has not run yet; raises `CanaryFailed` or, for an idle adapter, `Unusable`."""
        return [self.canary(name) for name in CANARIES]

    def canary(self, name: str) -> dict[str, Any]:
        if name == "effect":
            return {"name": "effect", "logit_change": self.check_effect()}
        run = {"repeat": canary.repeat, "damaged": canary.damaged}[name]
        cells = [(loaded, self.seeds(name)[0], self.items(name)) for name, loaded in self.benchmarks.items()]
        return run(self.base, cells, self.store, self.models)

    def check_effect(self) -> dict[str, float]:
        """Largest logit change of each adapter, by digest; raises `Unusable` for one that does nothing."""
        adapters = [c.routed or c for c in self.candidates]
        return {c.digest: adapter_effect(c, self.models, self.store) for c in adapters if c.is_adapter}

    def further(self, spec: ModelSpec) -> CheckedModel:
        """Another candidate, checked as those that were named; `Unusable` if it cannot be judged beside the base."""
        checked = check(spec, self.base, self.options.trust_remote_code)
        check_tokenizers(
            self.base, checked, any(b.chat for b in self.basket.benchmarks), self.options.trust_remote_code
        )
        return checked


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


def _check_out(out: Path) -> None:
    """The reports are written at the end of the work, so that they can be is tried at its start."""
    import tempfile

    try:
        out.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=out):
            pass
    except OSError as error:
        raise Unusable(f"--out {out} cannot be written ({error.strerror}); name another directory.") from None


def _checked(spec: ModelSpec, base: CheckedModel | None, options: Options) -> CheckedModel:
    found = check(spec, base, options.trust_remote_code)
    return replace(found, digest=options.digests.get(spec.text, found.digest))


def _asked(benchmarks: dict[str, LoadedBenchmark], models: Sequence[CheckedModel], backend: str) -> Asked:
    """What the models will be asked; `Unusable` where another program reads them and cannot answer it."""
    asked = Asked(benchmarks)
    for model in models:
        if model.spec.kind == "served" or backend != "hf":
            asked.refuse_sampling("a server" if model.spec.kind == "served" else f"--backend {backend}")
        if model.spec.kind == "served" and any(benchmark.needs_loglikelihoods for benchmark in benchmarks.values()):
            check_loglikelihoods(model)
    return asked


def prepare(basket: Basket, options: Options) -> Audit:
    """Everything that can be known before a model is loaded; raises `Unusable`."""
    backend, arguments = parse_backend(options.backend, options.workers)
    _check_out(options.out)
    device = pick_device(options.device)
    dtype = pick_dtype(options.dtype, device)
    specs = [parse_model(text) for text in (options.base, *options.candidates)]
    if not options.candidates:
        raise Unusable("no candidate to judge; name one with --candidate SPEC.")
    if len({spec.kind == "served" for spec in specs}) == 2:
        raise Unusable("base and candidate must be read by the same program; serve both, or neither.")
    base = _checked(specs[0], None, options)
    candidates = tuple(_checked(spec, base, options) for spec in specs[1:])
    benchmarks = load_benchmarks(basket)
    for benchmark in benchmarks.values():
        benchmark.check_room(base.positions)
    asked = _asked(benchmarks, (base, *candidates), backend)
    chat = any(b.chat for b in basket.benchmarks)
    for candidate in candidates:
        check_tokenizers(base, candidate, chat, options.trust_remote_code)
    if options.recipe:
        check_recipe(base, candidates, basket.policy)
    return Audit(
        basket=basket,
        options=options,
        base=base,
        candidates=candidates,
        benchmarks=benchmarks,
        store=Store(options.store),
        models=LoadedModels(device, dtype, options.trust_remote_code, backend, arguments, asked),
    )
