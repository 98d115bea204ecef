"""Several audits of successive fine-tunes against the original base: the drift that each step's own margin hides.

    python -m harness.report history out/step-1 out/step-2 out/step-3

Each audit must have judged one candidate against the same base. "Since the base" is that audit's own verdict; "this
step alone" pairs a candidate with the one before it, item by item, from both scores.jsonl, and judges it by the same
margin. Three steps that lose two points each pass one by one under a margin of five, and have lost six together.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from harness.compare import Comparison, Unpaired, compare
from harness.recorded import Recorded
from harness.report import again
from harness.report.foreign import markdown, shown
from harness.report.numbers import confidence, interval, limit
from harness.report.terminal import aligned
from harness.report.words import change as in_words
from harness.specs import Unusable
from harness.verdict import INCONCLUSIVE, PASS, REGRESSED, Verdict, judge

HEAD = ("benchmark", "step", "since the base", "margin", "verdict", "this step alone", "verdict alone")
NAME = 60  # columns of a model or a folder
SAME = ("digest", "metric")  # of two rows whose numbers can stand in one line


@dataclass(frozen=True)
class Step:
    """One audit. told: its verdict.json; audit: its scores, None where scores.jsonl was not kept."""

    folder: Path
    told: Mapping[str, Any]
    audit: Recorded | None

    @property
    def candidate(self) -> str:
        return self.told["candidates"][0]["spec"]

    def row(self, name: str) -> Mapping[str, Any] | None:
        """Its row of a benchmark, judged or of the domain."""
        return next((r for r in (*self.told["benchmarks"], *self.told["domain"]) if r["name"] == name), None)


@dataclass(frozen=True)
class Point:
    """One benchmark at one step.

    row: of verdict.json, None where it does not stand in one line with the others, and `why` says so. alone: the
    verdict of the step from the candidate before, None where `why_not_alone` says so, or on a domain set.
    """

    step: int
    row: Mapping[str, Any] | None
    why: str = ""
    alone: Verdict | None = None
    why_not_alone: str = ""


@dataclass(frozen=True)
class History:
    """points: by benchmark, one for each step."""

    steps: tuple[Step, ...]
    points: Mapping[str, tuple[Point, ...]]


def read(folders: Sequence[Path]) -> History:
    """The audits in these folders, the first step first; `Unusable` where they do not make one line."""
    steps = tuple(_step(folder) for folder in folders)
    first = steps[0].told["base"]
    for step in steps[1:]:
        base = step.told["base"]
        if base["digest"] != first["digest"]:
            raise Unusable(
                f"{step.folder} was judged against {_name(base['spec'])} ({base['digest'][:12]}) and {steps[0].folder}"
                f" against {_name(first['spec'])} ({first['digest'][:12]}); audit every step against the original base."
            )
    names = dict.fromkeys(row["name"] for part in ("benchmarks", "domain") for step in steps for row in step.told[part])
    return History(steps, {name: tuple(_points(steps, name)) for name in names})


def _name(text: object) -> str:
    return shown(text, NAME, middle=True)


def _step(folder: Path) -> Step:
    told = again.read_verdict(folder / "verdict.json")
    if len(told["candidates"]) != 1:
        raise Unusable(
            f"{folder} judged {len(told['candidates'])} candidates, and a history follows one fine-tune after another;"
            " audit each step alone."
        )
    kept = (folder / "scores.jsonl").is_file()
    return Step(folder, told, again.load(folder, folder)[0] if kept else None)


def _points(steps: Sequence[Step], name: str):
    first = next(row for step in steps if (row := step.row(name)))
    comparable = True  # the base is, which the first step begins with
    before: Step | None = None
    for number, step in enumerate(steps, 1):
        row = step.row(name)
        if why := _not_comparable(row, first):
            yield Point(number, None, why)
        elif not comparable:
            yield Point(number, row, "", None, f"step {number - 1} is not comparable")
        else:
            yield Point(number, row, "", *_alone(before, step, row))
        comparable, before = not why, step


def _not_comparable(row: Mapping[str, Any] | None, first: Mapping[str, Any]) -> str:
    """Why a row cannot stand in one line with the first one; empty where it can."""
    if row is None:
        return "it is not in this audit's basket"
    key = next((key for key in SAME if row[key] != first[key]), None)
    if key is None:
        return ""
    if key == "metric":
        return f"decided by {row['metric']}, and before by {first['metric']}"
    digests = f"digest {row['digest'][:12]}, before {first['digest'][:12]}"
    return f"it is another benchmark ({digests}): other documents, prompts or settings"


def _alone(before: Step | None, step: Step, row: Mapping[str, Any]) -> tuple[Verdict | None, str]:
    """(the verdict on the step from the candidate before, or None; why it is None)"""
    if "margin" not in row:
        return None, "a domain set is not judged"
    if step.audit is None or (before and before.audit is None):
        return None, "scores.jsonl was not kept"
    if before and "early" in (before.told["policy"]["stopping"], step.told["policy"]["stopping"]):
        return None, "items were judged until they decided on the base, and not on this step"
    name, audit = row["name"], step.audit
    try:
        if before is None:
            return audit.verdict(audit.candidates[0], name), ""
        return judge(_paired(before.audit, audit, name), *audit.limits(name), audit.policy), ""
    except Unpaired as error:
        return None, str(error)


def _paired(before: Recorded, after: Recorded, name: str) -> Comparison:
    """The candidate before against the one after, on the items that both were judged on; `Unpaired` if they differ."""
    items = after.items(name)
    if {item.id for item in items} != {item.id for item in before.items(name)}:
        raise Unpaired(f"{name}: the step before was judged on other items")
    sides = [
        {seed: audit.scores(audit.candidates[0], name, seed, items) for seed in audit.replicates(name)}
        for audit in (before, after)
    ]
    metric = after.benchmarks[name].benchmark.metric
    return compare(name, metric, [(item.id, item.stratum) for item in items], *sides)


# ---- what it says ----------------------------------------------------------------------------------------------------


def lines(history: History) -> list[str]:
    """The table and what follows from it, for a terminal."""
    found = [
        f"{who}: {_name(spec)} ({digest}){where and f', {_name(where)}'}"
        for who, spec, digest, where in _models(history)
    ]
    found += ["", *aligned([HEAD, *_rows(history)]), _legend(history)]
    return found + [f"  {sentence}" for sentence in sentences(history)]


def _models(history: History) -> list[tuple[str, str, str, str]]:
    """(base or step, its spec, the head of its digest, the folder of its audit)"""
    base = history.steps[0].told["base"]
    found = [("base", base["spec"], _name(base["digest"][:12]), "")]
    for number, step in enumerate(history.steps, 1):
        model = step.told["candidates"][0]
        found.append((f"step {number}", model["spec"], _name(model["digest"][:12]), str(step.folder)))
    return found


def _legend(history: History) -> str:
    levels = dict.fromkeys(confidence(step.told["policy"]["alpha"]) for step in history.steps)
    steps = " (by step)" if len(levels) > 1 else ""
    return (
        f"Points. Each bound holds with {', '.join(levels)} confidence{steps}. Alone: against the candidate of the step"
        " before."
    )


def _rows(history: History) -> list[tuple[str, ...]]:
    rows = []
    for name, points in history.points.items():
        for point in points:
            start = (shown(name, 40), str(point.step))
            if point.row is None:
                rows.append((*start, "not comparable", "", "", "", ""))
                continue
            change, margin = in_words(point.row), point.row.get("margin")
            if margin is None:
                rows.append((*start, change, "", "domain gain", "", ""))
                continue
            alone = interval(_bounds(point.alone)) if point.alone else "unknown"
            rows.append(
                (*start, change, limit(margin), point.row["verdict"], alone, point.alone.verdict if point.alone else "")
            )
    return rows


def _bounds(verdict: Verdict) -> SimpleNamespace:
    return SimpleNamespace(estimate=verdict.change, low=verdict.low, high=verdict.high)


def sentences(history: History) -> list[str]:
    """The drift of each benchmark, then what cannot be compared and what was measured otherwise."""
    last = len(history.steps)
    found = [said for name, points in history.points.items() if (said := _drift(shown(name, 40), points, last))]
    for name, points in history.points.items():
        for point in points:
            where = f"step {point.step} ({_name(str(history.steps[point.step - 1].folder))}), {shown(name, 40)}"
            if point.row is None:
                found.append(f"{where}: not comparable: {point.why}.")
            elif point.why_not_alone and "margin" in point.row:
                found.append(f"{where}: this step alone is unknown: {shown(point.why_not_alone, 200)}.")
    return found + _otherwise(history)


def _drift(name: str, points: Sequence[Point], steps: int) -> str | None:
    """What several steps lost together, where the last one is not shown to be within its margin."""
    told = [point for point in points if point.row is not None]
    last = told[-1].row
    if last.get("verdict", PASS) == PASS:
        return None
    at = f" at step {told[-1].step}" if told[-1].step < steps else ""
    since = f"{in_words(last)} points since the base{at}, margin {limit(last['margin'])}"
    hidden = len(told) > 1 and all(point.alone and point.alone.verdict == PASS for point in told)
    each = f", though each of the {len(told)} steps alone passed" if hidden else ""
    if last["verdict"] == INCONCLUSIVE:
        return f"{name}: not shown to be within its margin: {since}{each}."
    first = next(point.step for point in told if point.row["verdict"] == REGRESSED)
    when = "" if first == told[-1].step else f" (first at step {first})"
    return f"{name}: {'DRIFT' if hidden else 'REGRESSED'}{when}: {since}{each}."


def _otherwise(history: History) -> list[str]:
    """Steps whose scores come from other packages or another device than those of the step before, or judged so."""
    found = []
    for number, (before, after) in enumerate(pairwise(history.steps), 2):
        differing = [
            f"{_name(key)} {_name(str(after.told[part].get(key)))} instead of {_name(str(before.told[part].get(key)))}"
            for part in ("run", "packages", "policy")
            for key in sorted(before.told[part].keys() | after.told[part].keys())
            if before.told[part].get(key) != after.told[part].get(key)
        ]
        if differing:
            found.append(f"step {number} ran or was judged otherwise, which may show: {', '.join(differing)}.")
        if before.told["candidates"][0]["digest"] == after.told["candidates"][0]["digest"]:
            found.append(f"step {number} judged the same model as step {number - 1}.")
    return found


def write(history: History, out: Path) -> list[Path]:
    """Writes history.md and history.svg into `out`; the same audits give the same bytes."""
    from harness.judging import check_out
    from harness.report.history_plot import draw

    check_out(out)
    table = [HEAD, tuple("---" for _ in HEAD), *(tuple(markdown(cell) for cell in row) for row in _rows(history))]
    text = ["# Drift since the base", ""]
    for who, spec, digest, where in _models(history):
        text.append(f"- {who}: {markdown(_name(spec))} ({markdown(digest)}){where and f', {markdown(_name(where))}'}")
    text.append("")
    text += [f"| {' | '.join(row)} |" for row in table]
    text += ["", _legend(history), ""]
    text += ["![change since the base at each step](history.svg)", ""]
    text += [f"- {markdown(sentence)}" for sentence in sentences(history)]
    (out / "history.md").write_text("\n".join(text) + "\n", encoding="utf-8")
    draw(history, out / "history.svg")
    return [out / "history.md", out / "history.svg"]
