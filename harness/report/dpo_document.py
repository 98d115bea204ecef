"""verdict.json of a DPO release: three parts, each PASS, MISSED or INCONCLUSIVE, and the decision. Shares in points.

    accuracy          held-out pairs: does it prefer what editors chose
    head_to_head      blind votes: do editors prefer what it writes (`harness.ballot.results.document`)
    capability        the forgetting audit's own document (`harness.report.document`): did it get worse at anything

SHIP only if all three pass; exit 1 if one is shown to miss, else 10. Where programs voted, the document, its decision
and everything made from it say SIMULATED.
"""

from __future__ import annotations

import datetime
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from harness.ballot import results
from harness.preference_accuracy import HeldOut
from harness.report.document import code_digest
from harness.report.numbers import as_set, limit, points, rounded, signed
from harness.report.words import change
from harness.stats import Interval
from harness.target import INCONCLUSIVE, MISSED, PASS

SCHEMA = 1
PARTS = ("accuracy", "head-to-head", "capability")
ACCURACY, HEAD_TO_HEAD, CAPABILITY = "1 - Held-out accuracy", "2 - Blind head-to-head", "3 - General capability"
TRAINING = "4 - Training"
WANTED = 2.0  # points of general capability that a release may lose, where the items can show it
EXAMPLES = 3  # before and after, in the memo

Document = Mapping[str, Any]


def build(release) -> dict[str, Any]:
    """The document of a release (`fixtures.dpo_release.Release`), all of whose parts are worked out."""
    vote, capability = release.head_to_head, release.capability
    parts = {
        "accuracy": (release.accuracy.plain.verdict, release.accuracy.plain.reason),
        "head-to-head": (vote.verdict, vote.reason),
        "capability": _capability(capability),
    }
    verdicts = [verdict for verdict, _ in parts.values()]
    status = 1 if MISSED in verdicts else 10 if INCONCLUSIVE in verdicts else 0
    made = {
        "schema": SCHEMA,
        "gate": "dpo",
        "created": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "decision": "BLOCKED" if status else "SHIP",
        "exit": status,
        "simulated": list(vote.simulated) or False,
        "parts": [{"name": name, "verdict": verdict, "reason": reason} for name, (verdict, reason) in parts.items()],
        "base": {"spec": release.base.spec.text, "digest": release.base.digest},
        "candidates": [_candidate(release, run) for run in release.runs],
        "pairs": _pairs(release),
        "accuracy": _accuracy(release.accuracy),
        "chosen_likelihood": _chosen(release),
        "head_to_head": results.document(vote, release.key) | {"ballots": str(release.ballots)},
        "examples": [asdict(pair) for pair in release.answers[:EXAMPLES]],
        "capability": capability,
        "margin_wanted": WANTED,
        "code": code_digest(),
    }
    return made | {"next": next_steps(made)}


def label(document: Document) -> str:
    """What stands before every figure that rests on simulated votes."""
    return "SIMULATED " if document["simulated"] else ""


def part(document: Document, name: str) -> Mapping[str, str]:
    return next(row for row in document["parts"] if row["name"] == name)


def decision_line(document: Document) -> str:
    """One sentence: the decision, why, whether its votes are simulated, and the exit status."""
    words = {PASS: "passed", MISSED: "missed", INCONCLUSIVE: "inconclusive"}
    names = {"head-to-head": f"{label(document)}head-to-head"}
    grouped = [
        (kind, [names.get(row["name"], row["name"]) for row in document["parts"] if row["verdict"] == kind])
        for kind in (MISSED, INCONCLUSIVE, PASS)
    ]
    why = "; ".join(f"{', '.join(found)} {words[kind]}" for kind, found in grouped if found)
    return f"{document['decision']} (exit {document['exit']}): {why}"


def _capability(found: Document) -> tuple[str, str]:
    """The audit's decision as the verdict of a part. What regressed is named with its change."""
    rows = found["benchmarks"]
    verdict = {0: PASS, 1: MISSED}.get(found["exit"], INCONCLUSIVE)
    if verdict == PASS:
        return verdict, f"on all {len(rows)} benchmarks the loss is shown to be smaller than the margin"
    told = [
        f"{row['name']} {row['verdict'].lower()}: {change(row)}, margin {limit(row['margin'])}"
        for row in rows
        if row["verdict"] != PASS
    ]
    return verdict, "; ".join(told)


def _candidate(release, run: str) -> dict[str, Any]:
    found, note = release.candidate(run), release.note(run)
    return {
        "run": run,
        "spec": found.spec.text,
        "digest": found.digest,
        "adapter": found.is_adapter,
        "trained_on_these_pairs": release.saw_the_judges(run) is False or None,
        "settings": note.get("settings"),
        "training": note.get("training"),
    }


def _pairs(release) -> dict[str, Any]:
    material = release.material
    return {
        "name": material.name,
        "train": len(material.train),
        "held_out": len(material.held_out),
        "too_long": release.too_long,
        "ceiling": None if material.ceiling is None else rounded(100 * material.ceiling),
        **asdict(material.findings),
    }


def _accuracy(found: HeldOut) -> dict[str, Any]:
    return {
        "target": rounded(100 * found.plain.target),
        "pairs": found.plain.items,
        "runs": [rounded(100 * share) for share in found.by_run],
        "plain": _judged(found.plain),
        "per_token": _judged(found.per_token),
        "equal_length": found.matched and _judged(found.matched),
        "base": _points(found.base),
        "over_base": _points(found.over_base),
        "by_fault": {kind: {**_points(share), "pairs": n} for kind, (share, n) in found.by_fault.items()},
        "by_category": {kind: {**_points(share), "pairs": n} for kind, (share, n) in found.by_category.items()},
        "shortcuts": [
            {"name": rule.name, "accuracy": rounded(100 * rule.accuracy), "lead": _points(rule.lead)}
            for rule in found.shortcuts
        ],
    }


def _judged(found) -> dict[str, Any]:
    shares = {name: rounded(100 * getattr(found, name)) for name in ("share", "low", "high")}
    return shares | {"pairs": found.items, "verdict": found.verdict}


def _points(bound: Interval) -> dict[str, float]:
    return {"share": rounded(100 * bound.estimate), "low": rounded(100 * bound.low), "high": rounded(100 * bound.high)}


def _chosen(release) -> dict[str, Any]:
    """change, low, high: in nats an answer on the held-out pairs; falls: shown to be below 0; sustained: by run."""
    bound = release.chosen
    sustained = {run: release.note(run).get("training", {}).get("chosen", {}).get("sustained_fall")
                 for run in release.runs}  # fmt: skip
    return {
        "change": round(bound.estimate, 3),
        "low": round(bound.low, 3),
        "high": round(bound.high, 3),
        "falls": bound.high < 0,
        "sustained_fall_in_training": sustained,
    }


# ---- advice ----------------------------------------------------------------------------------------------------------


def next_steps(document: Document) -> list[str]:
    """What to do, each sentence from a figure of this document."""
    accuracy, vote = document["accuracy"], document["head_to_head"]
    told = []
    if (best := accuracy["shortcuts"][-1] if accuracy["shortcuts"] else None) and best["lead"]["low"] <= 0:
        told.append(
            f"A rule that understands nothing ({best['name']}) picks {points(best['accuracy'] / 100)}% right, and the"
            f" model is not shown to be ahead of it ({signed(best['lead']['share'] / 100)} points): collect pairs whose"
            " faults such a rule cannot see, or train on more of them."
        )
    if accuracy["over_base"]["low"] <= 0:
        before = points(accuracy["base"]["share"] / 100)
        told.append(
            f"Before training the base itself finds the chosen answer likelier in {before}%, and the tuned model is not"
            " shown to be ahead of that: collect pairs that the base gets wrong, or train on more of them."
        )
    if part(document, "accuracy")["verdict"] != PASS:
        told.append(f"Accuracy is not shown to be above {as_set(accuracy['target'])}%: train on more pairs, or longer.")
    if document["chosen_likelihood"]["falls"]:
        told.append("The chosen answers became less likely: train with --loss sigmoid+sft, or a smaller --lr.")
    told += _about_votes(document, vote)
    lost = [row["name"] for row in document["capability"]["benchmarks"] if row["verdict"] == "REGRESSED"]
    if lost:
        told.append(
            f"{', '.join(lost)} got worse by more than allowed: run the forgetting gate on this adapter, whose"
            " mitigations scale it down or switch it on for its own prompts alone."
        )
    unclear = [row["name"] for row in document["capability"]["benchmarks"] if row["verdict"] == "INCONCLUSIVE"]
    if unclear:
        told.append(f"On {', '.join(unclear)} the audit cannot tell: give --basket a file with more items.")
    return told or ["Nothing stands against this release; ask the same of the next one."]


def _about_votes(document: Document, vote: Document) -> list[str]:
    if document["simulated"]:
        return [
            "The votes are SIMULATED and say nothing of people: run with --votes none, hand the ballots to editors, and"
            " judge what comes back with --votes DIR."
        ]
    if vote["win_rate"] is None:
        return [f"Hand the ballots in {vote['ballots']} to the editors and judge what comes back with --votes DIR."]
    if vote["verdict"] == INCONCLUSIVE and vote["prompts_to_settle"]:
        return [f"About {vote['prompts_to_settle']} prompts would probably settle the head-to-head."]
    return ["Read the editors' comments before the next training."] if vote["verdict"] == MISSED else []
