"""Which benchmarks are judged from samples: those of a basket, or every task that all sides share."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from harness.faults import FAULTS
from harness.samples.files import KINDS, Answered, Side, read_task
from harness.specs import CHOICE_PROB, Basket, Benchmark, Unusable

Rows = dict[str, list[dict[int, Answered]]]  # task -> documents by lm-eval's number, of each side


@dataclass(frozen=True)
class Chosen:
    """A benchmark with the tasks behind it. groups: task -> the group that holds it below the benchmark, if any."""

    benchmark: Benchmark
    tasks: tuple[str, ...]
    groups: Mapping[str, str]


def read(task: str, sides: Sequence[Side], rows: Rows) -> list[dict[int, Answered]]:
    """How each side answered a task; each file is read once."""
    if task not in rows:
        rows[task] = [read_task(side.tasks[task]) for side in sides]
    return rows[task]


def of_basket(basket: Basket, sides: Sequence[Side]) -> list[Chosen]:
    """The benchmarks of a basket; `Unusable` for one that a side has no samples of."""
    found = []
    for benchmark in basket.benchmarks:
        tasks = list(dict.fromkeys(task for side in sides for task in _tasks_of(benchmark.task, side)))
        for side in sides:
            missing = [task for task in tasks or [benchmark.task] if task not in side.tasks]
            if missing:
                raise Unusable(
                    f"benchmark '{benchmark.name}': '{side.spec.text}' holds no samples of task {missing[0]}; it has"
                    f" {', '.join(sorted(side.tasks)[:20])}."
                )
        found.append(Chosen(benchmark, tuple(tasks), _parts(benchmark.task, sides[0])))
    return found


def shared(sides: Sequence[Side], rows: Rows) -> list[Chosen]:
    """Every task that all sides have; the members of a group that are scored alike are one benchmark."""
    both = set.intersection(*(set(side.tasks) for side in sides))
    if not both:
        listed = "; ".join(f"'{side.spec.text}' has {', '.join(sorted(side.tasks)[:20])}" for side in sides)
        raise Unusable(f"the samples have no task in common ({listed}); run lm_eval on both with the same --tasks.")
    if not (both := {task for task in both if _is_scored(task, sides, rows)}):
        raise Unusable(
            "no task that the samples have in common has a score of each document: their metrics are of a whole set, as"
            " F1 is; run lm_eval with other --tasks."
        )
    members = {member for group in sides[0].groups.values() for member in group}
    roots = [name for name in sorted({*sides[0].groups, *both}) if name not in members]
    names = dict.fromkeys(name for root in roots for name in _judged_as(root, sides, both, rows))
    return [Chosen(Benchmark(name, name), tuple(_tasks_of(name, sides[0])), _parts(name, sides[0])) for name in names]


def _judged_as(name: str, sides: Sequence[Side], both: set[str], rows: Rows) -> Iterator[str]:
    """A task or group itself if all of it can be judged as one, else what it consists of."""
    tasks = _tasks_of(name, sides[0])
    if set(tasks) <= both and len({_kind(task, sides, rows) for task in tasks}) == 1:
        yield name
        return
    for member in sides[0].groups.get(name, ()):
        yield from _judged_as(member, sides, both, rows)


def _kind(task: str, sides: Sequence[Side], rows: Rows) -> tuple:
    """What tasks of one benchmark must have in common."""
    samples = sides[0].tasks[task]
    return samples.config.get("output_type"), samples.shots, first_metric(read(task, sides, rows)[0])


def _is_scored(task: str, sides: Sequence[Side], rows: Rows) -> bool:
    return sides[0].tasks[task].config.get("output_type") in KINDS and bool(first_metric(read(task, sides, rows)[0]))


def first_metric(rows: Mapping[int, Answered]) -> str | None:
    """The task's own first metric, under its first filter; None where none is a score of a single document."""
    return next((m for m in next(iter(rows.values())).metrics if m not in (*FAULTS, CHOICE_PROB)), None)


def _tasks_of(name: str, side: Side) -> list[str]:
    """The single tasks behind a task, group or tag, in the side's order."""
    if name in side.groups:
        return list(dict.fromkeys(task for member in side.groups[name] for task in _tasks_of(member, side)))
    if name in side.tasks:
        return [name]
    tags = {task: samples.config.get("tag") for task, samples in side.tasks.items()}
    return sorted(task for task, tag in tags.items() if tag == name or (isinstance(tag, list) and name in tag))


def _parts(name: str, side: Side) -> dict[str, str]:
    """Task -> the group directly below `name` that holds it; empty where `name` holds its tasks directly."""
    below = [member for member in side.groups.get(name, ()) if member in side.groups]
    return {task: part for part in below for task in _tasks_of(part, side)}
