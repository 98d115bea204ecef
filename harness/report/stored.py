"""What verdict.json and scores.jsonl hold so that an audit can be judged again without its models: written and read.

scores.jsonl has one line per (model, benchmark, seed, item). A model is named by its side (base, candidate,
candidate-2, …), a mitigated one by its digest. verdict.json holds under "settings" what the basket said and what only
loaded tasks know, and under "scores" the digest of scores.jsonl, so that the two cannot be mixed up.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from harness.benchmarks import Item, item_named
from harness.checkpoints import CheckedModel
from harness.judging import Judged, Judging
from harness.recorded import Held, RecordedBenchmark, Told
from harness.specs import Basket, Benchmark, Experiment, Policy, Unusable
from harness.store import Cell, Score
from harness.trial import part_of, subset, subset_seeds

OF_THIS_MACHINE = ("domain", "general")  # files of an experiment, which judging does not read


def settings_of(audit: Judging) -> dict[str, Any]:
    """The basket as it was judged, and what only its loaded benchmarks know. floor: a proportion."""
    experiment = audit.basket.experiment and {
        key: value for key, value in asdict(audit.basket.experiment).items() if key not in OF_THIS_MACHINE
    }
    benchmarks = [
        {
            **asdict(loaded.benchmark),
            "guessing": loaded.floor(),
            "planned": loaded.planned,
            "effective_seeds": audit.seeds(name),
            "sampled_at": loaded.temperature,
            "groups": dict(loaded.groups),
            "digest": loaded.digest,
        }
        for name, loaded in audit.benchmarks.items()
    ]
    return {
        "seeds": audit.basket.seeds,
        "recipe": audit.options.recipe,
        "experiment": experiment,
        "benchmarks": benchmarks,
    }


def basket_of(document: Mapping[str, Any]) -> Basket:
    """The basket that `settings_of` wrote down."""
    settings = document["settings"]
    fields = Benchmark.__dataclass_fields__
    benchmarks = [
        Benchmark(**{key: _tuple(value) for key, value in row.items() if key in fields})
        for row in settings["benchmarks"]
    ]
    experiment = settings["experiment"]
    return Basket(
        name=document["basket"],
        benchmarks=tuple(benchmarks),
        seeds=tuple(settings["seeds"]),
        policy=Policy(**document["policy"]),
        experiment=experiment and Experiment(**{key: _tuple(value) for key, value in experiment.items()}),
    )


def benchmarks_of(
    document: Mapping[str, Any], basket: Basket, items: Mapping[str, Sequence[Item]], told: Mapping[str, Told]
) -> dict[str, RecordedBenchmark]:
    """The benchmarks of a basket that `basket_of` read. items: those that have scores, by benchmark, as `told` is."""
    return {
        row["name"]: RecordedBenchmark(
            benchmark=basket.named(row["name"]),
            items=tuple(items[row["name"]]),
            told=told.get(row["name"], Told()),
            planned=row["planned"],
            digest=row["digest"],
            guessing=row["guessing"],
            seeds=tuple(row["effective_seeds"]),
            temperature=row["sampled_at"],
            groups=row["groups"],
        )
        for row in document["settings"]["benchmarks"]
    }


def _tuple(value: Any) -> Any:
    return tuple(value) if isinstance(value, list) else value


# ---- scores ----------------------------------------------------------------------------------------------------------


def score_lines(
    audit: Judging, mitigated: Mapping[str, Any] = {}, rows: Sequence[Mapping[str, Any]] = ()
) -> Iterator[str]:
    """The lines of scores.jsonl. mitigated, rows: what came of the mitigations, and their rows of verdict.json."""
    for side, name, seed in audit.work():
        scores = audit.scores(audit.sides[side], name, seed)
        yield from _lines(side, audit.benchmarks[name], seed, audit.items(name), scores)
    for model, name, seed, items in _mitigated_cells(audit, mitigated, rows):
        scores = audit.scores(model, name, seed, items)
        yield from _lines(model.digest, audit.benchmarks[name], seed, items, scores, seen=False)


def _lines(
    model: str, loaded: Judged, seed: int, items: Sequence[Item], scores: Mapping[str, Score], seen: bool = True
) -> Iterator[str]:
    """seen: with what a reader wants to see and only the task can tell: the question, and what was answered."""
    name = loaded.benchmark.name
    for item in items:
        score = scores[item.id]
        row = {"model": model, "benchmark": name, "seed": seed, "item": item.id, "metrics": score.metrics}
        row |= {"responses": score.responses, "prompt": score.prompt, "tokens": score.tokens}
        kinds = loaded.kinds(item)
        if model == "base":
            row |= {"question": loaded.question(item)} | ({"kinds": kinds} if kinds else {})
        if seen and loaded.writes(seed):
            answer = loaded.answer(item, score)
            row |= {"answer": answer} if [answer] != score.responses[:1] else {}
            row |= {"followed": told} if kinds and (told := loaded.followed(item, score)) is not None else {}
        yield json.dumps(row, ensure_ascii=False) + "\n"


def _mitigated_cells(
    audit: Judging, mitigated: Mapping[str, Any], rows: Sequence[Mapping[str, Any]]
) -> Iterator[tuple[CheckedModel, str, int, list[Item]]]:
    """(model, benchmark, seed, items) of all that the mitigations were judged on; nothing twice."""
    models: dict[str, CheckedModel] = {}
    asked: dict[tuple[str, str, int], set[str]] = {}
    for row in rows:
        if "error" in row:
            continue
        outcome = mitigated[row["name"]]
        for trial in (*outcome.trials, outcome.confirmed):
            models[trial.model.digest] = trial.model
            for name in (*(v.name for v in trial.verdicts), audit.basket.domains[0].name):
                part = part_of(trial.half, name, trial.picked_on)
                found = subset(audit, name, part, audit.basket.experiment or Experiment())
                for seed in subset_seeds(audit, name, audit.basket.experiment or Experiment()):
                    asked.setdefault((trial.model.digest, name, seed), set()).update(item.id for item in found)
        for name in audit.benchmarks if row["full"] else ():
            for seed in audit.seeds(name):
                asked[row["digest"], name, seed] = {item.id for item in audit.items(name)}
    known = {model.digest for model in audit.sides.values()}
    for (digest, name, seed), wanted in asked.items():
        if digest not in known:
            yield models[digest], name, seed, [item for item in audit.items(name) if item.id in wanted]


def read_scores(path: Path, sides: Mapping[str, str]) -> tuple[Held, dict[str, Told]]:
    """scores.jsonl -> its scores in the order of the lines, and by benchmark what a reader sees of the items.

    sides: side -> digest. `Unusable` for a line that is none of ours.
    """
    held: dict[tuple[str, str, int], dict[str, Score]] = {}
    told: dict[str, Told] = {}
    with path.open(encoding="utf-8") as file:
        for number, line in enumerate(file, 1):
            try:
                row = json.loads(line)
                digest = sides.get(row["model"], row["model"])
                cell = Cell(digest, row["benchmark"], row["seed"])
                score = Score(cell, row["item"], row["metrics"], row["responses"], row["prompt"], row["tokens"])
            except (ValueError, KeyError, TypeError) as error:
                raise Unusable(
                    f"{path}, line {number}, is no score ({type(error).__name__}: {error}); name the scores.jsonl that"
                    " an audit wrote."
                ) from None
            held.setdefault((digest, cell.benchmark, cell.seed), {})[score.item] = score
            told.setdefault(cell.benchmark, Told()).keep(score, row)
    return held, told


def items_of(held: Held, base: str, names: Iterable[str]) -> dict[str, list[Item]]:
    """Benchmark -> the items that the base has scores of, in the order in which they were judged."""
    found: dict[str, list[Item]] = {}
    for name in names:
        cells = [scores for (digest, benchmark, _), scores in held.items() if (digest, benchmark) == (base, name)]
        found[name] = [item_named(key) for key in cells[0]] if cells else []
    return found
