"""The verdict as one document: everything that any report says, in points, with the digests that make it repeatable."""

from __future__ import annotations

import datetime
import hashlib
import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from harness.checkpoints import CheckedModel
from harness.fingerprint import digest_of, files_digest
from harness.judging import Judging
from harness.report import recommendation, rows, stored
from harness.report.command import command
from harness.report.forgotten import forgotten
from harness.report.memo import write_memo
from harness.report.mitigations import floor_of, mitigation_rows
from harness.report.model_card import write_model_card
from harness.report.verdict_text import write_verdict
from harness.verdict import Verdict, adjusted, decide, largest_regression

SCHEMA = 1


def build(audit: Judging, mitigated: Mapping[str, Any] = {}) -> dict[str, Any]:
    """Judges every benchmark of an audit and returns `verdict.json`'s content; evaluates what is not stored yet.

    mitigated: name -> what came of it, or an error in words. Raises `CanaryFailed` where the instrument itself is
    broken.
    """
    canaries = audit.canaries()
    names = [b.name for b in audit.basket.skills]
    judged = [(n, audit.judged(n, name)) for n in range(len(audit.subjects)) for name in names]
    verdicts = [v for _, v in judged]
    decision, status = decide(verdicts)
    worst = largest_regression(verdicts)
    about = next((audit.subjects[n] for n, v in judged if v is worst), None)
    made = {
        "schema": SCHEMA,
        "created": audit.created or datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "decision": decision,
        "exit": status,
        **header(audit),
        **audit.provenance,
        "canaries": canaries,
        "benchmarks": _benchmarks(audit, judged),
        "training_runs": _training_runs(audit, names),
        "largest_regression": worst.name if worst else None,
        "largest_regression_of": about,
        "joint_power": (1 - audit.policy.alpha) ** len(names),
        "items": rows.saved(audit, names),
        "domain": [rows.domain_row(audit, c, b.name) for c in audit.candidates for b in audit.basket.domains],
        "mitigations": mitigation_rows(audit, mitigated),
        "retention_floor": 100 * floor_of(audit),
    }
    made |= {"recommendation": recommendation.release(made), "next_cycle": recommendation.next_cycle(made)}
    made |= {"forgotten": forgotten(audit, made["benchmarks"]), "command": audit.command or command(audit)}
    return made | {"settings": stored.settings_of(audit)}


def header(audit: Judging) -> dict[str, Any]:
    """What is run: models, basket, policy, device, versions; known before anything is judged."""
    return {
        "base": _model(audit.base),
        "candidates": [_model(c) for c in audit.candidates],
        "basket": audit.basket.name,
        "policy": asdict(audit.policy),
        "run": audit.environment,
        "packages": audit.packages,
        "code": code_digest(),
    }


def _benchmarks(audit: Judging, judged: Sequence[tuple[int, Verdict]]) -> list[dict[str, Any]]:
    """The rows that decide: one a benchmark and candidate, or one a benchmark for a recipe."""
    found = []
    pvalues = adjusted([v for _, v in judged], audit.policy)
    for (subject, verdict), pvalue in zip(judged, pvalues, strict=True):
        row = rows.verdict_row(audit, audit.subjects[subject], verdict, pvalue)
        if not audit.options.recipe:
            row |= rows.evidence_row(audit, audit.candidates[subject], verdict)
        found.append(row)
    return found


def _training_runs(audit: Judging, names: Sequence[str]) -> list[dict[str, Any]]:
    """Each run of a recipe alone, which the decision is not about."""
    if not audit.options.recipe:
        return []
    found = []
    for candidate in audit.candidates:
        for name in names:
            verdict = audit.verdict(candidate, name)
            row = rows.verdict_row(audit, candidate.spec.text, verdict)
            found.append(row | rows.evidence_row(audit, candidate, verdict))
    return found


def _model(model: CheckedModel) -> dict[str, Any]:
    return {"spec": model.spec.text, "kind": model.spec.kind, "digest": model.digest, "adapter": model.is_adapter}


def code_digest() -> str:
    """Digest of the harness's own source files."""
    root = Path(__file__).resolve().parent.parent
    return digest_of([[str(p.relative_to(root)), files_digest([p])] for p in sorted(root.rglob("*.py"))])


def write(document: dict[str, Any], audit: Judging, mitigated: Mapping[str, Any] = {}) -> dict[str, Any]:
    """Writes scores.jsonl, verdict.json, and what is made from the verdict alone into --out, each by an atomic rename.

    mitigated: as for `build`. Returns the document with the digest of scores.jsonl, as it was written.
    """
    out = Path(audit.options.out)
    out.mkdir(parents=True, exist_ok=True)
    document = document | {"scores": _write_scores(out, audit, mitigated, document["mitigations"])}
    write_verdict(document, out)
    write_memo(document, out)
    write_model_card(document, out)
    return document


def _write_scores(out: Path, audit: Judging, mitigated: Mapping[str, Any], rows: Sequence[Mapping[str, Any]]) -> str:
    """Writes scores.jsonl line by line; its SHA-256 (hex)."""
    scratch, digest = out / f".scores.jsonl.{os.getpid()}", hashlib.sha256()
    with scratch.open("wb") as file:
        for line in stored.score_lines(audit, mitigated, rows):
            data = line.encode("utf-8", "backslashreplace")  # half a character becomes JSON's own escape for it
            digest.update(data)
            file.write(data)
    scratch.replace(out / "scores.jsonl")
    return digest.hexdigest()
