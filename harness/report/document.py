"""The verdict as one document: everything that any report says, in points, with the digests that make it repeatable."""

from __future__ import annotations

import datetime
import json
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from harness.audit import Audit
from harness.checkpoints import CheckedModel
from harness.evaluate import package_versions
from harness.fingerprint import digest_of, files_digest
from harness.report import recommendation, rows
from harness.report.command import command
from harness.report.forgotten import forgotten
from harness.report.memo import write_memo
from harness.report.mitigations import floor_of, mitigation_rows
from harness.report.model_card import write_model_card
from harness.report.verdict_text import text_of
from harness.verdict import Verdict, adjusted, decide, largest_regression

SCHEMA = 1


def build(audit: Audit, mitigated: Mapping[str, Any] = {}) -> dict[str, Any]:
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
        "created": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "decision": decision,
        "exit": status,
        **header(audit),
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
    return made | {"forgotten": forgotten(audit, made["benchmarks"]), "command": command(audit)}


def header(audit: Audit) -> dict[str, Any]:
    """What is run: models, basket, policy, device, versions; known before anything is judged."""
    return {
        "base": _model(audit.base),
        "candidates": [_model(c) for c in audit.candidates],
        "basket": audit.basket.name,
        "policy": asdict(audit.policy),
        "run": _run(audit),
        "packages": package_versions(),
        "code": code_digest(),
    }


def _run(audit: Audit) -> dict[str, Any]:
    """What the models ran on; the kind of device, as which of several equal ones differs from worker to worker."""
    device = audit.models.device.partition(":")[0]
    return {"device": device, "dtype": audit.models.dtype, "backend": audit.options.backend}


def _benchmarks(audit: Audit, judged: Sequence[tuple[int, Verdict]]) -> list[dict[str, Any]]:
    """The rows that decide: one a benchmark and candidate, or one a benchmark for a recipe."""
    found = []
    pvalues = adjusted([v for _, v in judged], audit.policy)
    for (subject, verdict), pvalue in zip(judged, pvalues, strict=True):
        row = rows.verdict_row(audit, audit.subjects[subject], verdict, pvalue)
        if not audit.options.recipe:
            row |= rows.evidence_row(audit, audit.candidates[subject], verdict)
        found.append(row)
    return found


def _training_runs(audit: Audit, names: Sequence[str]) -> list[dict[str, Any]]:
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


def write(document: dict[str, Any], audit: Audit) -> Path:
    """Writes verdict.json, scores.jsonl, and what is made from the verdict alone into --out, each by an atomic rename.

    Returns the path of verdict.json.
    """
    out = Path(audit.options.out)
    out.mkdir(parents=True, exist_ok=True)
    _replace(out / "scores.jsonl", score_lines(audit))
    _replace(out / "verdict.json", [text_of(document)])
    write_memo(document, out)
    write_model_card(document, out)
    return out / "verdict.json"


def score_lines(audit: Audit):
    """One JSON line per (model, benchmark, seed, item)."""
    for side, name, seed in audit.work():
        for item, score in audit.scores(audit.sides[side], name, seed).items():
            row = {"model": side, "benchmark": name, "seed": seed, "item": item, "metrics": score.metrics}
            row |= {"responses": score.responses, "prompt": score.prompt, "tokens": score.tokens}
            yield json.dumps(row, ensure_ascii=False) + "\n"


def _replace(path: Path, lines: Iterable[str]) -> None:
    scratch = path.with_name(f".{path.name}.{os.getpid()}")
    with scratch.open("w", encoding="utf-8") as file:
        file.writelines(lines)
    scratch.replace(path)
