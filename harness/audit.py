"""One audit: options -> checked models and benchmarks -> cells to evaluate -> comparisons -> the verdict of everything.

`prepare` does all checks that need no loaded model, so that bad input is said before any work. An `Audit` holds no
results: whatever it is asked for comes from the store.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from harness import models as model_files
from harness.benchmarks import LoadedBenchmark, load_benchmarks
from harness.compare import Comparison, compare
from harness.evaluate import adapter_effect, cell_of, fill
from harness.models import CheckedModel, LoadedModels
from harness.specs import Basket, Unusable, parse_model
from harness.store import Cell, Score, Store
from harness.verdict import Verdict, judge


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
    evaluated: int = field(default=0)

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
        work = [(self.sides[side], name, seed) for side, name, seed in self.work()]
        return [self.cell(*w) for w in work], sum(len(self.benchmarks[name].items) for _, name, _ in work)

    def scores(self, model: CheckedModel, benchmark: str, seed: int) -> dict[str, Score]:
        """Scores of a cell by item id, evaluating what is missing."""
        loaded = self.benchmarks[benchmark]
        self.evaluated += fill(model, loaded, seed, self.store, self.models)
        stored = self.store.get(self.cell(model, benchmark, seed))
        return {item.id: stored[item.id] for item in loaded.items}

    def comparison(self, candidate: CheckedModel, benchmark: str, metric: str | None = None) -> Comparison:
        """Base against a candidate on one benchmark, by its deciding metric or another that was stored."""
        loaded, seeds = self.benchmarks[benchmark], self.seeds(benchmark)
        return compare(
            benchmark,
            metric or loaded.benchmark.metric,
            [(item.id, item.stratum) for item in loaded.items],
            {seed: self.scores(self.base, benchmark, seed) for seed in seeds},
            {seed: self.scores(candidate, benchmark, seed) for seed in seeds},
        )

    def verdict(self, candidate: CheckedModel, benchmark: str) -> Verdict:
        """The verdict of one benchmark on one candidate."""
        loaded = self.benchmarks[benchmark]
        comparison = self.comparison(candidate, benchmark)
        return judge(comparison, loaded.benchmark.margin / 100, loaded.floor(), self.basket.policy)

    def check_effect(self) -> dict[str, float]:
        """Largest logit change of each adapter, by digest; raises `Unusable` for one that does nothing."""
        return {c.digest: adapter_effect(c, self.models, self.store) for c in self.candidates if c.is_adapter}


def prepare(basket: Basket, options: Options) -> Audit:
    """Everything that can be known before a model is loaded; raises `Unusable`."""
    if options.backend != "hf":
        raise Unusable(f"--backend {options.backend} is unknown; write --backend hf.")
    device = model_files.pick_device(options.device)
    dtype = model_files.pick_dtype(options.dtype, device)
    specs = [parse_model(text) for text in (options.base, *options.candidates)]
    if not options.candidates:
        raise Unusable("no candidate to judge; name one with --candidate SPEC.")
    base = model_files.check(specs[0], None, options.trust_remote_code)
    candidates = tuple(model_files.check(spec, base, options.trust_remote_code) for spec in specs[1:])
    chat = any(b.chat for b in basket.benchmarks)
    for candidate in candidates:
        model_files.check_tokenizers(base, candidate, chat, options.trust_remote_code)
    return Audit(
        basket=basket,
        options=options,
        base=base,
        candidates=candidates,
        benchmarks=load_benchmarks(basket),
        store=Store(options.store),
        models=LoadedModels(device, dtype, options.trust_remote_code),
    )


def package_versions(
    names: Sequence[str] = ("torch", "transformers", "peft", "lm_eval", "datasets", "numpy", "scipy"),
) -> dict[str, Any]:
    """Installed versions of what scores depend on."""
    from importlib.metadata import version

    return {name: version(name) for name in names}
