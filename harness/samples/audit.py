"""The samples of two or more models, checked to be of the same questions, as an audit to judge.

pytest -m forgetting --base samples:DIR --candidate samples:DIR [--basket FILE]
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from harness.baskets import with_options
from harness.benchmarks import Item, draw, items_of
from harness.checkpoints import CheckedModel
from harness.fingerprint import digest_of
from harness.judging import Options, check_out, check_recipe
from harness.recorded import Held, Recorded, RecordedBenchmark, Told
from harness.report.foreign import shown
from harness.samples.benchmarks import Chosen, Rows, first_metric, of_basket, read, shared
from harness.samples.files import Answered, Side, read_side
from harness.samples.same import ADAPTERS, check_basket, check_same, model_arguments, settings_of
from harness.specs import Basket, Benchmark, Unusable, parse_model
from harness.store import Cell, Score


def prepare_samples(
    options: Options, basket: Basket | None, margins: Mapping[str, float], stop_early: bool = False
) -> Recorded:
    """The audit of options whose models are all `samples:DIR`; `Unusable` for what cannot be judged.

    basket: None judges every task that all sides share. margins: of the command line, in points.
    """
    check_out(options.out)
    sides = [read_side(parse_model(text)) for text in (options.base, *options.candidates)]
    rows: Rows = {}
    chosen = of_basket(basket, sides) if basket else shared(sides, rows)
    for task in (task for one in chosen for task in one.tasks):
        ours, *others = read(task, sides, rows)
        for side, theirs in zip(sides[1:], others, strict=True):
            check_same(sides[0], side, task, ours, theirs)
    made = with_options(_filled(basket, chosen, sides[0], rows), None, dict(margins), stop_early)
    chosen = [replace(one, benchmark=made.named(one.benchmark.name)) for one in chosen]
    benchmarks = {one.benchmark.name: _recorded(one, sides[0], rows, basket is not None) for one in chosen}
    models = [_model(side, n, chosen, rows) for n, side in enumerate(sides)]
    _check_applied(sides, models)
    if options.recipe:
        check_recipe(models[0], models[1:], made.policy)
    audit = Recorded(
        basket=made,
        options=options,
        base=models[0],
        candidates=tuple(models[1:]),
        benchmarks=benchmarks,
        held=_held(models, chosen, rows),
        **_surroundings(sides, chosen),
    )
    for one in chosen:
        name = one.benchmark.name
        audit.benchmarks[name] = replace(benchmarks[name], told=_told(one, models, rows))
    audit.check()
    audit.origin = tuple(_said(audit, sides, basket))
    return audit


def _filled(basket: Basket | None, chosen: Sequence[Chosen], base: Side, rows: Rows) -> Basket:
    """The basket with one seed, as samples are one replicate; without one, each task by its own first metric."""
    benchmarks = []
    for one in chosen:
        seed = base.tasks[one.tasks[0]].run["config"].get("fewshot_seed")
        benchmark = replace(one.benchmark, seeds=(seed if isinstance(seed, int) else 0,), answers="all")
        benchmarks.append(benchmark if basket else replace(benchmark, metric=first_metric(rows[one.tasks[0]][0])))
    made = replace(basket, experiment=None) if basket else Basket("samples", ())
    return replace(made, benchmarks=tuple(benchmarks), seeds=tuple(dict.fromkeys(b.seeds[0] for b in benchmarks)))


def _recorded(one: Chosen, base: Side, rows: Rows, named: bool) -> RecordedBenchmark:
    """A benchmark with the items that it is judged on. named: a basket says how many there must be."""
    benchmark = one.benchmark
    for task in one.tasks:
        samples = base.tasks[task]
        if named:
            check_basket(benchmark, samples, base)
            counts = samples.run.get("n-samples", {}).get(task, {})
            if benchmark.items is None and counts.get("effective") != counts.get("original"):
                raise Unusable(
                    f"benchmark '{benchmark.name}' asks for every document and '{base.spec.text}' holds"
                    f" {counts['effective']} of {counts['original']} of task {task}; run lm_eval without --limit, or"
                    " set items in the basket."
                )
        higher = samples.run.get("higher_is_better", {}).get(task, {})
        if higher.get(benchmark.metric.partition(",")[0]) is False:
            raise Unusable(
                f"benchmark '{benchmark.name}' is decided by {benchmark.metric}, of which less is better, so its fall"
                " is no loss; name another metric in a basket."
            )
    items = {task: list(_items(task, rows).values()) for task in one.tasks}
    answered = [row for task in one.tasks for row in rows[task][0].values()]
    kwargs = [base.tasks[task].config.get("generation_kwargs") or {} for task in one.tasks]
    return RecordedBenchmark(
        benchmark=benchmark,
        items=(drawn := draw(items, benchmark)),
        planned=len(drawn),
        digest=_digest(one, base, rows),
        guessing=_guessing(benchmark, answered),
        seeds=benchmark.seeds,
        temperature=max(float(given.get("temperature") or 0) for given in kwargs),
        groups=one.groups,
    )


def _digest(one: Chosen, base: Side, rows: Rows) -> str:
    """Of the settings and of every document, target and prompt."""
    tasks = {
        task: [settings_of(base.tasks[task]), sorted((n, *row.hashes, row.asked) for n, row in rows[task][0].items())]
        for task in one.tasks
    }
    return digest_of({"samples": 1, "tasks": tasks})


def _guessing(benchmark: Benchmark, rows: Sequence[Any]) -> float:
    """Score of guessing: the basket's, else one in the number of choices, else 0."""
    if benchmark.floor is not None:
        return benchmark.floor / 100
    return sum(1 / row.choices if row.choices else 0.0 for row in rows) / len(rows)


def _model(side: Side, n: int, chosen: Sequence[Chosen], rows: Rows) -> CheckedModel:
    """The model behind a side, known by what it answered."""
    answers = {
        task: [[doc, row.asked, row.responses, row.metrics] for doc, row in sorted(rows[task][n].items())]
        for one in chosen
        for task in one.tasks
    }
    return CheckedModel(side.spec, Path(side.spec.location), digest_of(answers))


def _check_applied(sides: Sequence[Side], models: Sequence[CheckedModel]) -> None:
    """An adapter that answers as its base does was not applied, and would pass every benchmark."""
    for side, model in zip(sides[1:], models[1:], strict=True):
        run = next(iter(side.tasks.values())).run
        if model.digest == models[0].digest and any(key in model_arguments(run) for key in ADAPTERS):
            raise Unusable(
                f"candidate '{side.spec.text}' answers every document exactly as its base: its adapter was not applied;"
                " run lm_eval with the right peft= again."
            )


def _items(task: str, rows: Rows) -> dict[int, Item]:
    """lm-eval's number of a document -> the item."""
    docs = sorted(rows[task][0])
    return dict(zip(docs, items_of(task, [rows[task][0][doc].doc for doc in docs]), strict=True))


def _scored(one: Chosen, model: CheckedModel, n: int, rows: Rows) -> Iterator[tuple[Score, Answered]]:
    """Every score of a benchmark on one side, with the answer that it is of."""
    cell = Cell(model.digest, one.benchmark.name, one.benchmark.seeds[0])
    for task in one.tasks:
        for doc, item in _items(task, rows).items():
            row = rows[task][n][doc]
            yield Score(cell, item.id, row.metrics, row.responses, row.asked), row


def _held(models: Sequence[CheckedModel], chosen: Sequence[Chosen], rows: Rows) -> Held:
    return {
        (model.digest, one.benchmark.name, one.benchmark.seeds[0]): {
            score.item: score for score, _ in _scored(one, model, n, rows)
        }
        for n, model in enumerate(models)
        for one in chosen
    }


def _told(one: Chosen, models: Sequence[CheckedModel], rows: Rows) -> Told:
    """What a reader sees of the benchmark's items."""
    told = Told()
    for n, model in enumerate(models):
        for score, row in _scored(one, model, n, rows):
            told.keep(score, row.told)
    return told


def _surroundings(sides: Sequence[Side], chosen: Sequence[Chosen]) -> dict[str, Any]:
    """environment, packages and provenance of the audit."""
    tasks = [task for one in chosen for task in one.tasks]
    run = sides[0].tasks[tasks[0]].run
    settings = settings_of(sides[0].tasks[tasks[0]])
    left_out = sorted({task for side in sides for task in side.tasks} - {*tasks})
    told = [{"spec": s.spec.text, "model": s.name, "files": s.files(tasks)} for s in sides]
    return {
        "environment": {
            "device": str(run["config"].get("device") or "unknown").partition(":")[0],
            "dtype": str(settings["the dtype"] or "unknown").removeprefix("torch."),
            "backend": f"lm_eval {settings['the backend'] or 'unknown'}",
        },
        "packages": {key: str(run.get(f"{key}_version")) for key in ("lm_eval", "transformers")},
        "provenance": {"samples": {"base": told[0], "candidates": told[1:], "not_judged": left_out}},
    }


def _said(audit: Recorded, sides: Sequence[Side], basket: Basket | None):
    """In words, for the header: which files, what was not asked for, what no one tested."""
    told = audit.provenance["samples"]
    for side, row in zip(sides, (told["base"], *told["candidates"]), strict=True):
        files = "; ".join(f"{shown(name, 60)} ({_listed(tasks)})" for name, tasks in row["files"].items())
        yield f"'{side.spec.text}' is {shown(row['model'], 60, middle=True)}, by {files}"
    if told["not_judged"]:
        why = "not all sides have them, or they score no single document"
        why = why if basket is None else "the basket does not name them"
        yield f"NOT JUDGED, as {why}: {_listed(told['not_judged'])}"
    if basket is None:
        yield "no --basket: every task that all sides share, each by its own first metric"
    elif basket.seeds != audit.basket.seeds:
        yield f"samples are one replicate each, and not the basket's seeds {', '.join(map(str, basket.seeds))}"
    for candidate in audit.candidates:
        if candidate.digest == audit.base.digest:
            yield f"NOTE: '{candidate.spec.text}' answers every document exactly as the base"
    yield "no model runs, so nothing tests the instrument that made these scores"


def _listed(tasks: Sequence[str]) -> str:
    more = f" and {len(tasks) - 4} more" if len(tasks) > 4 else ""
    return ", ".join(shown(task, 40) for task in tasks[:4]) + more
