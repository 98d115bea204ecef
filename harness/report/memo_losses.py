"""Page 2 of the memo: was the domain gain worth it, and what exactly was forgotten."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from harness.report.foreign import shown
from harness.report.memo_decision import HURT, SAFE, UNKNOWN, grounds
from harness.report.numbers import count, percent, points, signed, times
from harness.report.tradeoff import CANDIDATE, JUDGED, TRIED, Run, runs
from harness.report.words import change, name, ranged

Document = Mapping[str, Any]
KINDS = 6  # rows of the table
QUESTION, ANSWER = 180, 260  # columns of an example
ANSWERS = {
    SAFE: "Yes, by the limits that were set: every loss is shown to be smaller than allowed.",
    HURT: "Not by the limits that were set: a larger loss than allowed is shown.",
    UNKNOWN: "That cannot be said yet: whether more was lost than allowed is not known.",
}
NO_GAIN = "No gain is shown that could be worth a loss."
OUTCOME = {
    "yes": "is shown to close the gap",
    "no": "does not close the gap",
    "cannot tell": "is not shown to close the gap",
}


def worth(document: Document) -> dict[str, str]:
    """The trade of gain and loss in words, and what the plot shows; no caption where there is no plot."""
    models = runs(document)
    if not models:
        text = "The basket has no domain set, so what the tuning gained was not measured and cannot be weighed here."
        return {"text": text, "caption": ""}
    told = [_answer(document), *[_told(document, run) for run in models if run.kind == CANDIDATE][:3]]
    tried = [row for row in document["mitigations"] if "error" not in row]
    judged = [run for run in models if run.kind == JUDGED]
    told += [f"{_named(run)} {_gained(run.gain)} and {_outcome(row)}." for run, row in zip(judged, tried, strict=True)]
    return {"text": " ".join(filter(None, told)), "caption": _caption({run.kind for run in models})}


def _answer(document: Document) -> str:
    """Of one candidate alone: several may differ, and the decision is about all of them."""
    if len(document["candidates"]) > 1:
        return ""
    return ANSWERS[grounds(document)] if document["domain"][0]["low"] > 0 else NO_GAIN


def _named(run: Run) -> str:
    """'Merge (scale 0.25)'."""
    what, _, setting = run.name.partition(", ")
    return what.capitalize() + (f" ({setting})" if setting else "")


def _gained(gain: float) -> str:
    """As estimated. gain: in points."""
    return f"gains {points(gain / 100)} points" if gain >= 0 else f"loses {points(-gain / 100)} points"


def _outcome(row: Mapping[str, Any]) -> str:
    """What all questions say of a mitigation where they were asked, else what those do that judged it."""
    full = (row["full"] or {}).get("decision")
    if full == "SHIP":
        return "passes every benchmark on all questions"
    if full and row["answer"] == "yes":
        return "closes the gap on the questions that judged it, but does not pass on all of them"
    return OUTCOME[row["answer"]]


def _caption(kinds: set[str]) -> str:
    parts = ["Each mark is one model: a star for a candidate, on all questions"]
    if JUDGED in kinds:
        parts.append("dots for mitigations, on questions that chose none of their settings")
    if TRIED in kinds:
        parts.append("rings for settings tried on those that did choose")
    return (
        f"{'; '.join(parts)}. Upwards is less forgotten: 0% is no change. Marks are estimates: only a green one is"
        " shown to be within every limit. The line joins the models that no other beats on both counts."
    )


def _told(document: Document, run: Run) -> str:
    gain = next(row for row in document["domain"])
    start = "The candidate" if run.name == "candidate" else f"Candidate {run.name.rpartition(' ')[2]}"
    if run.name in ("candidate", "candidate 1"):
        much = f"changed by {change(gain)} points"
        if gain["low"] > 0:
            much = f"gained {points(gain['change'] / 100)} points {ranged(gain)}"
        gained = f"{much} on {name(gain)}, the domain of the tuning"
    else:
        gained = f"changed by {signed(run.gain / 100)} points there"
    worst = shown(run.worst, 28, middle=True)
    if run.share >= 0:
        return f"{start} {gained}, and no benchmark's score fell; page 1 says how sure that is."
    much = f"{times(-run.share)} times" if run.share < -1 else f"{percent(-run.share)} of"
    return f"{start} {gained}; its worst loss, on {worst}, is put at {much} what is allowed."


def lost(document: Document) -> dict[str, Any]:
    """Items lost and won, kinds or subjects, and examples; empty lists where the verdict holds none."""
    found = document.get("forgotten")
    if not found:
        return {"text": "The verdict does not say which questions were lost.", "table": None, "examples": []}
    return {
        "text": _counted(found),
        "table": _kinds(found) or _subjects(found),
        "examples": [_example(example) for example in found["examples"]],
    }


def _counted(found: Mapping[str, Any]) -> str:
    what = shown(found["benchmark"], 28, middle=True)
    start = {
        "REGRESSED": f"The largest regression is {what}.",
        "INCONCLUSIVE": f"Nothing is shown to have regressed; {what} comes closest to it, and is not shown to be safe.",
        "PASS": f"Every benchmark passed; {what} came closest to its limit.",
    }[found["verdict"]]
    examples = " Some of them stand below with their scores, cut where they are long." if found["examples"] else ""
    return (
        f"{start} Of its {count(found['items'])} questions {count(found['lost'])} scored lower after tuning, and"
        f" {count(found['gained'])} higher: a small change can hide many of both.{examples}"
    )


def _kinds(found: Mapping[str, Any]) -> dict[str, Any] | None:
    rows = found["kinds"].get(found["benchmark"], [])
    if not rows:
        return None
    return {
        "title": "Kinds of instruction, those that lost most first",
        "head": ["Instruction", "Asked", "Base follows", "Tuned follows", "Lost", "Won"],
        "rows": [
            [_plain(row["name"], 44), count(row["asked"]), percent(row["base"] / 100),
             percent(row["candidate"] / 100), count(row["lost"]), count(row["gained"])]
            for row in rows[:KINDS]
        ],
        "more": _more(len(rows)),
    }  # fmt: skip


def _subjects(found: Mapping[str, Any]) -> dict[str, Any] | None:
    rows = found["subjects"]
    if not rows:
        return None
    return {
        "title": "Subjects that fell most; with so few questions each, only those marked are shown to have fallen",
        "head": ["Subject", "Questions", "Base", "Tuned", "Change", "Shown"],
        "rows": [
            [_plain(row["name"], 44), count(row["items"]), points(row["base"] / 100),
             points(row["candidate"] / 100), signed(row["change"] / 100), "yes" if row["fell"] else "no"]
            for row in rows[:KINDS]
        ],
        "more": _more(len(rows)),
    }  # fmt: skip


def _plain(name: str, width: int) -> str:
    """'length_constraints:number_words' -> 'length constraints: number words'."""
    return shown(name, width, middle=True).replace("_", " ").replace(":", ": ")


def _more(rows: int) -> str:
    return f"{count(rows - KINDS)} more in verdict.json." if rows > KINDS else ""


def _example(example: Mapping[str, Any]) -> dict[str, str]:
    kinds = ", ".join(_plain(kind, 30) for kind in example["kinds"][:3])
    return {
        "about": f"({kinds})" if kinds else "",
        "question": shown(example["question"], QUESTION) or "(none)",
        "before": shown(example["before"], ANSWER) or "(no text)",
        "after": shown(example["after"], ANSWER) or "(no text)",
        "base": points(example["base"] / 100),
        "tuned": points(example["candidate"] / 100),
    }
