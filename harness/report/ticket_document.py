"""A graded submission as one document, which every report of it says: `verdict.json` of the ticket gate, in points."""

from __future__ import annotations

import datetime
import os
import platform
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from harness.report import words
from harness.report.document import code_digest
from harness.report.numbers import as_set, points, seconds
from harness.stats.interval import Interval
from harness.submission.assessment import Assessment, Challenge
from harness.submission.grading import (
    EFFICIENCY,
    INCONCLUSIVE,
    MISSED,
    PASS,
    REPRODUCIBLE,
    WEIGHTS,
    Graded,
    confusion,
)

SCHEMA = 1
EXITS = {PASS: 0, MISSED: 1, INCONCLUSIVE: 10}


def build(
    assessment: Assessment,
    challenge: Challenge,
    submission: Mapping[str, str],
    base: Mapping[str, str],
    ledger: Mapping[str, Any] | None = None,
    elsewhere: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """submission: its name and the digest of what was handed in; base: likewise; ledger: of a metering proxy.

    elsewhere: the verdict.json of a forgetting audit of the submission's adapter, which is shown and decides nothing.
    """
    from harness.evaluate import package_versions

    status = EXITS[assessment.verdict]
    made = {
        "schema": SCHEMA,
        "gate": "tickets",
        "created": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "decision": "SHIP" if status == 0 else "BLOCKED",
        "exit": status,
        "verdict": assessment.verdict,
        "submission": dict(submission),
        "base": dict(base),
        **_points(assessment.grade.total, "total"),
        "threshold": 100 * challenge.threshold,
        "level": 1 - challenge.alpha,
        "failure": assessment.failure,
        "reproducible": None if assessment.failure else assessment.grade.reproducible,
        "differing": list(assessment.differing),
        "dimensions": _dimensions(assessment),
        "accuracy": 100 * assessment.grade.accuracy,
        "base_accuracy": assessment.base and 100 * assessment.base.accuracy,
        "chance": 100 / len(challenge.taxonomy.names),
        "confusion": [{"intent": a, "predicted": b, "times": n} for a, b, n in confusion(assessment.grade.rows)],
        "rows": [_row(graded, n, assessment) for n, graded in enumerate(assessment.grade.rows)],
        "notes": list(assessment.results.notes),
        "judge": {"name": assessment.judge, "noise": assessment.noise and asdict(assessment.noise)},
        "cost": _cost(assessment, ledger),
        "elsewhere": elsewhere and _elsewhere(elsewhere),
        "limits": asdict(challenge.limits),
        "seed": challenge.seed,
        "run": {"python": platform.python_version(), "machine": platform.machine(), "cores": os.cpu_count()},
        "packages": package_versions(),
        "code": code_digest(),
    }
    return made | {"reason": reason(made)}


def about(document: Mapping[str, Any]) -> dict[str, Any]:
    """What was run, as `harness.report.allure_results.environment` reads it."""
    submission = document["submission"]
    return {
        "base": document["base"],
        "candidates": [{"spec": submission["name"], "digest": submission["digest"]}],
        "basket": "support tickets",
        "run": document["run"],
        "policy": {"threshold": document["threshold"], "alpha": round(1 - document["level"], 10)},
        "packages": document["packages"],
        "code": document["code"],
    }


def reason(document: Mapping[str, Any]) -> str:
    """The decision in one sentence."""
    aim = f"the threshold of {as_set(document['threshold'])}"
    if document["failure"]:
        return f"the submission earns nothing: {document['failure'].rstrip('.')}."
    if document["reproducible"] is False:
        return f"two runs with one seed answered {len(document['differing'])} rows otherwise, which earns nothing."
    total, low, high = (points(document[key] / 100) for key in ("total", "low", "high"))
    if lost := [row["name"] for row in document["dimensions"] if row["weight"] and not row["score"]]:
        return f"a total of {total}, and nothing for {', '.join(lost)}, which no total makes up for."
    if document["verdict"] == PASS:
        return f"a total of {total}, shown to be more than {low}: above {aim}."
    if document["verdict"] == MISSED:
        return f"a total of {total}, shown to be less than {high}: below {aim}."
    return f"a total of {total}, but its bounds {low} and {high} enclose {aim}."


def _points(bound: Interval, name: str) -> dict[str, float]:
    return {name: 100 * bound.estimate, "low": 100 * bound.low, "high": 100 * bound.high}


def _dimensions(assessment: Assessment) -> list[dict[str, Any]]:
    made = []
    for name, weight in WEIGHTS.items():
        row = {"name": name, "weight": 100 * weight, **_points(assessment.grade.dimensions[name], "score")}
        base = assessment.base and 100 * assessment.base.dimensions[name].estimate
        made.append(row | {"base": None if name == EFFICIENCY else base})  # a base is not trained
    alike = 100.0 * (assessment.grade.reproducible and not assessment.failure)
    return [*made, {"name": REPRODUCIBLE, "weight": 0.0, "score": alike, "low": alike, "high": alike, "base": None}]


def _row(graded: Graded, number: int, assessment: Assessment) -> dict[str, Any]:
    base = assessment.base and assessment.base.rows[number]
    return {
        "id": graded.row.id,
        "kind": graded.row.kind,
        "ticket": graded.row.ticket,
        "intent": graded.row.intent,
        "predicted": graded.predicted,
        "reply": graded.reply,
        "ideal_reply": graded.row.ideal_reply,
        "similarity": graded.similarity,
        "quality": graded.quality,
        "reasons": graded.reasons,
        "base_predicted": base and base.predicted,
    }


def _cost(assessment: Assessment, ledger: Mapping[str, Any] | None) -> dict[str, Any]:
    """Measured by the host: seconds of each call, memory, calls to a model. Under `said` what the submission says."""
    made = assessment.results.predictions.values()
    return {
        "seconds": [outcome.seconds for outcome in assessment.outcomes],
        "peak_memory": max((outcome.peak for outcome in assessment.outcomes), default=0),
        "calls": dict(ledger) if ledger else None,
        "said": {
            "tokens": sum(p.tokens for p in made),
            "mean_latency_ms": sum(p.latency for p in made) / len(made) if made else None,
            **assessment.results.training,
        },
    }


def _elsewhere(told: Mapping[str, Any]) -> dict[str, Any]:
    """What a forgetting audit said, in points."""
    kept = ("name", "base", "candidate", "change", "low", "high", "margin", "verdict")
    return {
        "decision": told["decision"],
        "candidate": {key: told["candidates"][0][key] for key in ("spec", "digest")},
        "basket": told["basket"],
        "benchmarks": [{key: row[key] for key in kept} for row in told["benchmarks"]],
        "margins": words.changed_margins(told),
    }


def lines(document: Mapping[str, Any]) -> list[str]:
    """The verdict on a terminal."""
    made = [f"{'dimension':<20} {'weight':>6}  {'score':>5}  {'bounds':<15} {'base':>5}"]
    for row in document["dimensions"]:
        bounds = f"[{points(row['low'] / 100)}, {points(row['high'] / 100)}]"
        base = "" if row["base"] is None else points(row["base"] / 100)
        made.append(
            f"{row['name']:<20} {as_set(row['weight']):>5}%  {points(row['score'] / 100):>5}  {bounds:<15} {base:>5}"
        )
    spent = ", ".join(seconds(value) for value in document["cost"]["seconds"]) or "none"
    made.append(f"judge: {document['judge']['name']}; seconds a call: {spent}")
    if found := document["elsewhere"]:
        rows = ", ".join(f"{words.name(row)} {words.change(row)} {row['verdict']}" for row in found["benchmarks"])
        made.append(f"elsewhere (decides nothing): {found['decision']}: {rows}")
    return [*made, decision_line(document)]


def decision_line(document: Mapping[str, Any]) -> str:
    """'BLOCKED (exit 1): a total of …'."""
    return f"{document['decision']} (exit {document['exit']}): {document['reason']}"
