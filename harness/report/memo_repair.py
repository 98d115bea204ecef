"""Page 3 of the memo: the mitigation experiment, advice for the next cycle, method and limits, how to run it again."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from harness.report.foreign import shown
from harness.report.numbers import confidence, count, limit, percent, points, rate, signed
from harness.report.tradeoff import setting, worst
from harness.report.verdict_text import digest_of_verdict
from harness.report.words import candidates, changed_margins, date, judged, listed, name, share

Document = Mapping[str, Any]
SPEC, COMMAND, ERROR = 60, 600, 150  # columns
SHORT = 12  # characters of a digest that are printed
BENCHMARKS = 12  # whose digests are printed


def repair(document: Document) -> dict[str, Any]:
    """The mitigations that were tried: one sentence that answers whether one closes the gap, and their table."""
    tried = document["mitigations"]
    head = [
        "Mitigation",
        "Setting",
        "Loss given back",
        "Gain kept",
        "Worst change",
        "Closes the gap",
        "In full",
    ]
    return {
        "text": _repair_text(document),
        "head": head if any("error" not in row for row in tried) else [],
        "rows": [_tried(row) for row in tried if "error" not in row],
        "errors": [
            f"{row['name'].capitalize()} could not be tried: {shown(row['error'], ERROR)}"
            for row in tried
            if "error" in row
        ],
    }


def _repair_text(document: Document) -> str:
    tried = document["mitigations"]
    if not tried:
        if document["decision"] == "SHIP":
            return "No mitigation was tried, as there is no regression to repair."
        if not judged(document, "REGRESSED"):
            return "No mitigation was tried: nothing is shown to have regressed, so there is no known loss to repair."
        return "No mitigation was tried, so it is not known whether one would close the gap."
    floor = f"more than {percent(document['retention_floor'] / 100)}" if "retention_floor" in document else "enough"
    return (
        f"{_answer(tried)} Each was judged once, on questions that had no part in choosing its setting."
        f" It closes the gap if every benchmark passes there and {floor} of the domain gain is shown to be kept; one of"
        " them is then judged in full, on all questions, as any candidate is. Ranges are in brackets."
    )


def _answer(tried: Sequence[Mapping[str, Any]]) -> str:
    """Whether one closes the gap; what all questions say counts more than what those do that judged it."""
    closing = [row["name"] for row in tried if row.get("closes_gap")]
    named = " and ".join(closing)
    full = {row["name"]: row["full"]["decision"] for row in tried if row.get("full")}
    if failed := [name for name in closing if full.get(name) == "BLOCKED"]:
        return (
            f"On the questions that judged it {named} close{'s' * (len(closing) == 1)} the gap, but on all of them"
            f" {' and '.join(failed)} does not pass every benchmark."
        )
    if closing:
        return f"{named.capitalize()} close{'s' * (len(closing) == 1)} the gap on the questions that judged it."
    if passing := [name for name, decision in full.items() if decision == "SHIP"]:
        return (
            f"Judged on all questions, {' and '.join(passing)} passes every benchmark; on those that judged the"
            " mitigations, none is shown to close the gap."
        )
    return "No mitigation is shown to close the gap."


def _tried(row: Mapping[str, Any]) -> list[str]:
    lowest = worst(row["benchmarks"])
    return [
        row["name"],
        setting(row["setting"]),
        share(row, "closure"),
        share(row, "retention"),
        f"{name(lowest)} {signed(lowest['change'] / 100)}",
        row["answer"],
        (row["full"] or {}).get("decision", "not judged"),
    ]


# ---- method and limits -----------------------------------------------------------------------------------------------


def limits(document: Document) -> list[list[str]]:
    """(heading, sentences) on how the verdicts were reached and what they do not say."""
    changed = changed_margins(document)
    return [
        *([["Judged again", changed]] if changed else []),
        ["How sure this is", _errors(document)],
        ["How fine it looks", _resolution(document)],
        ["Repeats", _seeds(document)],
        ["The instrument", _instrument(document)],
        ["Not tested", _untested()],
    ]


def _errors(document: Document) -> str:
    policy, tests = document["policy"], len({row["name"] for row in document["benchmarks"]})
    error = rate(policy["alpha"])
    if policy["stopping"] == "early" and policy["estimand"] == "benchmark":
        about = (
            "Questions were asked until the verdict on all of the basket's questions was clear; so the verdicts are"
            " about these questions and these seeds, and not about the skill at large. There, a"
        )
    else:
        about = "A"
    return (
        f"{about} skill that truly lost its allowed amount or more passes with a chance of at most {error}; and a model"
        f" that lost so much anywhere ships with a chance of at most {error}, as every benchmark must pass. The gate"
        f" errs towards blocking: {_together(document, tests)}"
    )


def _together(document: Document, tests: int) -> str:
    """What several tests cost a sound model."""
    if tests == 1:
        return "what is not clear does not ship."
    return (
        f"if each of {count(tests)} tests passed {confidence(document['policy']['alpha'])} of sound models, together"
        f" they would pass about {percent(document['joint_power'])} of them."
    )


def _resolution(document: Document) -> str:
    rows = {row["name"]: row for row in document["benchmarks"]}
    coarse = [row for row in rows.values() if row["detectable"] > row["margin"]]
    if not coarse:
        return "Every benchmark has enough questions to pass its limit four times in five if nothing has changed."
    parts = [f"{points(row['detectable'] / 100)} on {name(row)} (it is {limit(row['margin'])})" for row in coarse[:4]]
    more = f" and {count(len(coarse) - 4)} more" if len(coarse) > 4 else ""
    return (
        "With so few questions, a model that has not changed would pass four times in five only if the limit were"
        f" {', '.join(parts)}{more}. There, INCONCLUSIVE is likely even for a sound model: ask more questions."
    )


def _seeds(document: Document) -> str:
    rows = document["benchmarks"]
    seeds = sorted({seed for row in rows for seed in row["seeds"]})
    told = (
        f"Seeds {', '.join(map(str, seeds[:8]))}{' …' * (len(seeds) > 8)} changed the worked examples shown before a"
        " question or the dice of sampling, alike for both models."
        if len(seeds) > 1
        else f"All was asked once, under seed {seeds[0]}; how much that choice matters is not known."
    )
    still = [row for row in rows if row.get("seeds_without_effect")]
    told += f" On {listed(still)} some or all seeds change nothing and count once." if still else ""
    if runs := document["training_runs"]:
        number = len({row["model"] for row in runs})
        return f"{told} {count(number)} training runs were judged together as one recipe."
    return (
        f"{told} Each candidate is one training run: the same recipe trained again may forget more or less than this."
    )


def _instrument(document: Document) -> str:
    told = []
    for check in document["canaries"]:
        if check["name"] == "repeat":
            told.append(
                f"asked {count(check['items'])} questions again, the base changed {count(check['flips'])} scores"
            )
        if check["name"] == "damaged" and check.get("verdict") == "REGRESSED":
            told.append("a base damaged on purpose was found to have regressed")
        if check["name"] == "effect" and check["logit_change"]:
            told.append("the adapter does change what the model says")
    if not told:
        return "The instrument was not tested in this audit."
    return f"It was tested in this audit: {'; '.join(told)}."


def _untested() -> str:
    return (
        "Whatever is not in the table on page 1. Unless a benchmark there covers it, nothing is said about harmful or"
        " biased answers, refusals, privacy, other languages, long documents, the use of tools, or the truth of what"
        " the model says on its new domain. Small losses within the limits add up over successive fine-tunes."
    )


# ---- again -----------------------------------------------------------------------------------------------------------


def again(document: Document) -> dict[str, Any]:
    """The command, what it ran on, and digests of all that went in."""
    packages, run = document["packages"], document["run"]
    digests = {
        row["name"]: f"{name(row)} {row['digest'][:8]}" for row in (*document["benchmarks"], *document["domain"])
    }
    benchmarks = list(digests.values())
    more = f" and {count(len(benchmarks) - BENCHMARKS)} more" if len(benchmarks) > BENCHMARKS else ""
    return {
        "command": shown(document.get("command", "not recorded"), COMMAND),
        "digests": [
            ["verdict.json", digest_of_verdict(document)[:SHORT]],
            ["Base", f"{shown(document['base']['spec'], SPEC, middle=True)} {document['base']['digest'][:SHORT]}"],
            *[
                ["Candidate", f"{shown(c['spec'], SPEC, middle=True)} {c['digest'][:SHORT]}"]
                for c in document["candidates"][:3]
            ],
            ["Benchmarks", ", ".join(benchmarks[:BENCHMARKS]) + more],
            ["Code", f"{document['code'][:SHORT]}; {', '.join(f'{key} {packages[key]}' for key in sorted(packages))}"],
            ["Ran on", f"{run['device']}, {run['dtype']}, {run['backend']}"],
        ],
        "running": f"Safety memo: {candidates(document, 60)}",
        "foot": f"{date(document['created'])} · verdict {digest_of_verdict(document)[:SHORT]}",
    }
