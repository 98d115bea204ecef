"""One audit: options -> checked models and benchmarks -> cells to evaluate -> scores, which `judging` judges.

`prepare` does all checks that need no loaded model, so that bad input is said before any work. An `Audit` holds no
results: whatever it is asked for comes from the store.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from harness import canary
from harness.asked import Asked
from harness.benchmarks import Item, LoadedBenchmark, load_benchmarks
from harness.checkpoints import CheckedModel, check
from harness.evaluate import adapter_effect, cell_of, fill, package_versions
from harness.judging import Judging, Options, Wanted, check_out, check_recipe
from harness.models import LoadedModels, pick_device, pick_dtype
from harness.router import load_isolation, routed
from harness.served import check_loglikelihoods
from harness.specs import Basket, ModelSpec, Unusable, parse_model
from harness.store import Cell, Score, Store
from harness.tokenizers import check_tokenizers
from harness.vllm_backend import parse_backend

CANARIES = ("effect", "repeat", "damaged")


@dataclass
class Audit(Judging):
    """Base and candidates on the benchmarks of a basket. An audit whose scores are all stored loads no model."""

    basket: Basket
    options: Options
    base: CheckedModel
    candidates: tuple[CheckedModel, ...]
    benchmarks: dict[str, LoadedBenchmark]
    store: Store
    models: LoadedModels
    _items: dict[str, tuple[Item, ...]] = field(default_factory=dict)

    live = True
    checks = CANARIES

    @property
    def environment(self) -> dict[str, str]:
        """What the models run on; the kind of device, as which of several equal ones differs from worker to worker."""
        device = self.models.device.partition(":")[0]
        return {"device": device, "dtype": self.models.dtype, "backend": self.options.backend}

    @property
    def packages(self) -> dict[str, str]:
        return package_versions()

    def cell(self, model: CheckedModel, benchmark: str, seed: int) -> Cell:
        return cell_of(model, self.benchmarks[benchmark], seed, self.models)

    def planned(self) -> tuple[list[Cell], int]:
        """All cells and the number of scores they have when they are full."""
        cells = {
            self.cell(part, name, seed): self.benchmarks[name].planned
            for side, name, seed in self.work()
            for part in self._asked(self.sides[side])
        }
        return list(cells), sum(cells.values())

    def _asked(self, model: CheckedModel) -> tuple[CheckedModel, ...]:
        """The models that are asked for the scores of one: itself, or those that a router chooses between."""
        return (self.base, model.routed) if model.routed else (model,)

    # ---- scores --------------------------------------------------------------------------------------------------

    def make_ready(self, wanted: Sequence[Wanted]) -> None:
        cells = [
            (model, benchmark, seed, items)
            for model, benchmark, seeds, items in wanted
            for seed in (seeds[:1] if benchmark in self.whole else seeds)
        ]
        for cell in [cell for cell in cells if not self._fill(*cell, wait=False)]:
            self._fill(*cell)

    @property
    def whole(self) -> frozenset[str]:
        return frozenset(name for name, loaded in self.benchmarks.items() if loaded.temperature > 0)

    def _fill(self, model: CheckedModel, benchmark: str, seed: int, items: Sequence[Item], wait: bool = True) -> bool:
        """The cell of a seed; with it those of the others, where the seeds ask the same and only the noise differs.

        False where some of it was left to another worker, which happens only without `wait`.
        """
        loaded, seeds = self.benchmarks[benchmark], self.seeds(benchmark) if benchmark in self.whole else (seed,)
        filled = [fill(asked, loaded, seeds, self.store, self.models, items, wait) for asked in self._asked(model)]
        return None not in filled

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

    def _at_hand(self, benchmark: str) -> bool:
        wanted, seeds = {item.id for item in self.benchmarks[benchmark].items}, self.seeds(benchmark)
        sides = (self.base, self.candidates[0])
        cells = [self.cell(asked, benchmark, seed) for model in sides for asked in self._asked(model) for seed in seeds]
        return all(self.store.items(cell) >= wanted for cell in cells)

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
    check_out(options.out)
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
        models=LoadedModels(device, dtype, options.trust_remote_code, backend, arguments, asked, candidates),
    )
