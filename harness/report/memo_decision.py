"""Page 1 of the memo: the decision in words, what was tested, and the table; for readers who know no statistics.

Nothing is said that the verdict does not hold, and INCONCLUSIVE never reads as safe.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from harness.report.foreign import shown
from harness.report.numbers import confidence, count, limit, points, rate, signed
from harness.report.words import candidates, change, date, judged, largest, listed, name, ranged
from harness.specs import CHOICE_PROB, GOLD_PROB

Document = Mapping[str, Any]
SAFE, HURT, UNKNOWN = "safe", "hurt", "unknown"  # what the decision rests on; the colour of page 1
ROWS = 14  # in the table of page 1; the Markdown has them all
WORST_FIRST = ("REGRESSED", "INCONCLUSIVE", "PASS")
MODELS, MEASURED = 3, 3  # candidates and kinds of score that are named
SENTENCE, FIGURE = 300, 20  # columns of the recommendation, and of a name beside the figure
RIGHT = "the share of questions answered right"
MEASURES = {
    GOLD_PROB: "how likely the model finds the right answer, byte by byte",
    CHOICE_PROB: "how likely the model finds the right choice among those offered",
    "acc": RIGHT,
    "acc_norm": RIGHT,
    "exact_match": RIGHT,
    "prompt_level_strict_acc": "the share of requests in which every instruction was followed",
    "inst_level_strict_acc": "the share of instructions that were followed",
}


def decision(document: Document) -> dict[str, Any]:
    """Title, the word of the decision with its headline and story, facts, what was tested, and the table."""
    kind = grounds(document)
    names = candidates(document, 60)
    title = {SAFE: f"Ship {names}", HURT: f"Do not ship {names}", UNKNOWN: f"Do not ship {names} yet"}[kind]
    headline, story = {SAFE: _safe, HURT: _hurt, UNKNOWN: _unknown}[kind](document)
    return {
        "title": title,
        "grounds": kind,
        "word": document["decision"],
        "headline": headline,
        "story": " ".join([*story, *_gain(document)]),
        "recommendation": "" if kind == SAFE else shown(document["recommendation"], SENTENCE),
        "facts": _facts(document),
        "tested": _tested(document),
        "legend": [
            ["PASS", "even the low end of the range is a smaller loss than allowed"],
            ["REGRESSED", "even the high end of the range is a larger loss than allowed"],
            ["INCONCLUSIVE", "neither is shown; the loss may be larger than allowed"],
        ],
        "results": _results(document),
    }


def grounds(document: Document) -> str:
    """SAFE only for SHIP; UNKNOWN where nothing is shown to have regressed and yet nothing may ship."""
    if document["decision"] == "SHIP":
        return SAFE
    return HURT if judged(document, "REGRESSED") else UNKNOWN


def _safe(document: Document) -> tuple[str, list[str]]:
    rows = document["benchmarks"]
    low = min(rows, key=lambda row: row["low"] / row["margin"])
    every = {1: "the one benchmark", 2: "both benchmarks"}.get(len(rows), f"all {count(len(rows))} benchmarks")
    return f"On {every} the loss is shown to be smaller than allowed.", [
        f"{name(low)} comes closest to its limit: it changed by {signed(low['change'] / 100)} points, and even the low"
        f" end of its range, {signed(low['low'] / 100)}, is a smaller loss than the {limit(low['margin'])} allowed."
        " This says nothing of skills that were not tested; page 3 has more on that."
    ]


def _hurt(document: Document) -> tuple[str, list[str]]:
    row, unclear = largest(document), judged(document, "INCONCLUSIVE")
    others = [r for r in judged(document, "REGRESSED") if r is not row]
    lost, allowed = points(-row["change"] / 100), limit(row["margin"])
    specs = [c["spec"] for c in document["candidates"]]
    whose = f" by candidate {specs.index(row['model']) + 1}" if len(specs) > 1 and row["model"] in specs else ""
    headline = f"{lost} points were lost on {name(row)}{whose}; at most {allowed} are allowed."
    story = [
        f"The score there went from {points(row['base'] / 100)} to {points(row['candidate'] / 100)}. Even the high end"
        f" of the range, a loss of {points(-row['high'] / 100)}, is more than allowed."
    ]
    story += [f"The same holds for {listed(others)}."] if others else []
    story += [f"On {listed(unclear)} the data cannot tell, which is no sign of safety."] if unclear else []
    return headline, [*story, _passed(document)]


def _unknown(document: Document) -> tuple[str, list[str]]:
    unclear = judged(document, "INCONCLUSIVE")
    story = [
        "Nothing is shown to have lost more than allowed, but that is not the same as safe: the loss may be larger."
    ]
    story += [_open(row) for row in unclear[:2]]
    return f"On {listed(unclear, 3)} the data cannot tell whether too much was lost.", [*story, _passed(document)]


def _open(row: Mapping[str, Any]) -> str:
    """Why one benchmark is inconclusive, or what would decide it."""
    if row["base"] - row["floor"] <= row["margin"]:
        return (
            f"On {name(row)} even the base scores {points(row['base'] / 100)}, too close to guessing"
            f" ({points(row['floor'] / 100)}) for a loss of {limit(row['margin'])} to show."
        )
    parts = [part for part in row["reason"].split("; ") if not part.startswith(("about these", "about the recipe"))]
    return f"For {name(row)}, {shown(parts[-1].replace(' items', ' questions'), 150)}."


def _passed(document: Document) -> str:
    passed, total = len(judged(document, "PASS")), len(document["benchmarks"])
    if not passed:
        return f"None of the {count(total)} benchmarks passed." if total > 1 else "No other benchmark was judged."
    return f"{count(passed)} of {count(total)} benchmarks passed."


def _gain(document: Document) -> list[str]:
    if not document["domain"] or len(document["candidates"]) > 1:  # page 2 says it of each
        return []
    row = document["domain"][0]
    start = f"On {name(row)}, the domain of the tuning,"
    if row["low"] > 0:
        return [f"{start} {points(row['change'] / 100)} points were gained."]
    if row["high"] < 0:
        return [f"{start} points were lost as well: {change(row)}."]
    return [f"{start} no gain is shown: {change(row)} points."]


def _facts(document: Document) -> list[list[str]]:
    models = document["candidates"]
    numbered = len(models) > 1
    facts = [[f"Candidate {n}" if numbered else "Candidate", _model(m)] for n, m in enumerate(models[:MODELS], 1)]
    facts += [["", f"and {count(len(models) - MODELS)} more"]] if len(models) > MODELS else []
    return [
        *facts,
        ["Base model", _model(document["base"])],
        ["Audited", f"{date(document['created'])}, with the basket {shown(document['basket'], 40, middle=True)}"],
    ]


def _model(model: Mapping[str, Any]) -> str:
    return f"{shown(model['spec'], 64, middle=True)} ({model['digest'][:12]})"


def _tested(document: Document) -> str:
    items = {row["name"]: row["items"] for row in document["benchmarks"]}
    policy = document["policy"]
    error = rate(policy["alpha"])
    what = f"{count(sum(items.values()))} questions of {count(len(items))} benchmark{'s' * (len(items) > 1)}"
    others = "Other questions would have given a somewhat different change, so"
    if policy["stopping"] == "early" and policy["estimand"] == "benchmark":
        others = "The benchmarks have more questions, which were left out once the answer was clear; so"
    return (
        f"The model before tuning (base) and after it (tuned) answered the same {what}, put in the same words. The"
        f" change is tuned minus base, question by question. {others} each change stands with a range. In at most"
        f" {error} of such audits the true change lies below the range, and in at most {error} above it. How large a"
        " loss is allowed was set for each benchmark."
    )


# ---- the table -------------------------------------------------------------------------------------------------------


def _results(document: Document) -> dict[str, Any]:
    """rows: all; kept: the places of those that fit on the page, what did not pass first; more: what is left out."""
    rows = document["benchmarks"]
    order = sorted(range(len(rows)), key=lambda at: (WORST_FIRST.index(rows[at]["verdict"]), at))
    kept, left = sorted(order[:ROWS]), order[ROWS:]
    verdicts = [rows[at]["verdict"] for at in left]
    counted = [f"{count(verdicts.count(kind))} {kind}" for kind in WORST_FIRST if kind in verdicts]
    numbers = {c["spec"]: n for n, c in enumerate(document["candidates"], 1)} if len(document["candidates"]) > 1 else {}
    return {
        "rows": [_result(row, numbers.get(row["model"])) for row in rows],
        "kept": kept,
        "more": f"Left out here and in the figure: {', '.join(counted)}; memo.md lists all." if left else "",
        "level": confidence(document["policy"]["alpha"]),
        "note": _measures(rows),
    }


def _result(row: Mapping[str, Any], candidate: int | None) -> dict[str, str]:
    whose = f" ({candidate})" if candidate else ""
    return {
        "name": name(row) + whose,
        "short": shown(row["name"], FIGURE, middle=True) + whose,
        "items": count(row["items"]),
        "base": points(row["base"] / 100),
        "tuned": points(row["candidate"] / 100),
        "change": signed(row["change"] / 100),
        "range": ranged(row),
        "margin": limit(row["margin"]),
        "verdict": row["verdict"],
    }


def _measures(rows: Sequence[Mapping[str, Any]]) -> str:
    """What the scores of the table are, by metric."""
    by: dict[str, list[Mapping[str, Any]]] = {}
    for row in rows:
        what = MEASURES.get(row["metric"].partition(",")[0], f"the mean of {shown(row['metric'], 40, middle=True)}")
        by.setdefault(what, []).append(row)
    parts = [f"{what} ({listed(found)})" for what, found in by.items()]
    parts = [*parts[:MEASURED], "others as verdict.json says"] if len(parts) > MEASURED else parts
    return f"Scores run from 0 to 100: {'; '.join(parts)}."
