"""The verdict as one document: everything that any report says, in points, with the digests that make it repeatable."""

from __future__ import annotations

import datetime
import json
import os
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from harness import stats
from harness.audit import Audit, package_versions
from harness.benchmarks import LoadedBenchmark
from harness.compare import Comparison
from harness.fingerprint import digest_of, files_digest
from harness.models import CheckedModel
from harness.verdict import Verdict, decide, largest_regression

SCHEMA = 1


def build(audit: Audit) -> dict[str, Any]:
    """Judges every benchmark of an audit and returns `verdict.json`'s content; evaluates what is not stored yet."""
    effects = audit.check_effect()
    judged = [(c, audit.verdict(c, b.name)) for c in audit.candidates for b in audit.basket.skills]
    verdicts = [v for _, v in judged]
    decision, status = decide(verdicts)
    worst = largest_regression(verdicts)
    return {
        "schema": SCHEMA,
        "created": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "decision": decision,
        "exit": status,
        "base": _model(audit.base),
        "candidates": [_model(c) | {"logit_change": effects.get(c.digest)} for c in audit.candidates],
        "basket": audit.basket.name,
        "policy": asdict(audit.basket.policy),
        "run": {"device": audit.models.device, "dtype": audit.models.dtype, "backend": audit.options.backend},
        "packages": package_versions(),
        "code": code_digest(),
        "benchmarks": [benchmark_row(audit, candidate, verdict) for candidate, verdict in judged],
        "largest_regression": worst.name if worst else None,
        "domain": [_domain_row(audit, c, b.name) for c in audit.candidates for b in audit.basket.domains],
    }


def benchmark_row(audit: Audit, candidate: CheckedModel, verdict: Verdict) -> dict[str, Any]:
    """One row of `benchmarks`: values of accuracy in points, unrounded."""
    loaded = audit.benchmarks[verdict.name]
    in_points = ("base", "candidate", "change", "low", "high", "margin", "floor", "detectable")
    row = {key: 100 * value if key in in_points else value for key, value in asdict(verdict).items()}
    return {
        **row,
        "task": loaded.benchmark.task,
        "model": candidate.spec.text,
        "seeds": list(verdict.seeds),
        "seeds_without_effect": len(audit.seeds(verdict.name)) < len(loaded.benchmark.seeds or audit.basket.seeds),
        "level": 1 - audit.basket.policy.alpha,
        "digest": loaded.digest,
        "others": _other_metrics(audit, candidate, loaded),
    }


def _domain_row(audit: Audit, candidate: CheckedModel, name: str) -> dict[str, Any]:
    """The gain on a domain set, with bounds of the same kind as a verdict's."""
    comparison = audit.comparison(candidate, name)
    loaded = audit.benchmarks[name]
    return {
        "name": name,
        "task": loaded.benchmark.task,
        "model": candidate.spec.text,
        "metric": comparison.metric,
        "items": len(comparison.items),
        "seeds": list(comparison.seeds),
        **_in_points(comparison, audit),
        "digest": loaded.digest,
        "others": _other_metrics(audit, candidate, loaded),
    }


def _other_metrics(audit: Audit, candidate: CheckedModel, loaded: LoadedBenchmark) -> dict[str, dict[str, float]]:
    """The metrics that do not decide, for reading beside the one that does."""
    names = set.intersection(*(_metrics_in_range(audit, model, loaded.name) for model in (audit.base, candidate)))
    names -= {loaded.benchmark.metric}
    return {metric: _in_points(audit.comparison(candidate, loaded.name, metric), audit) for metric in sorted(names)}


def _metrics_in_range(audit: Audit, model: CheckedModel, name: str) -> set[str]:
    """Metrics that every item has, all in [0, 1]; what else a task measures (a length, a perplexity) is no score."""
    scores = [score for seed in audit.seeds(name) for score in audit.scores(model, name, seed).values()]
    return set.intersection(*({key for key, value in s.metrics.items() if 0 <= value <= 1} for s in scores))


def _in_points(comparison: Comparison, audit: Audit) -> dict[str, float]:
    bound = stats.crossed(comparison.change, audit.basket.policy.alpha)
    values = {"base": comparison.base.mean(), "candidate": comparison.candidate.mean()}
    values |= {"change": bound.estimate, "low": bound.low, "high": bound.high}
    return {key: 100 * float(value) for key, value in values.items()}


def _model(model: CheckedModel) -> dict[str, Any]:
    return {"spec": model.spec.text, "digest": model.digest, "adapter": model.is_adapter}


def code_digest() -> str:
    """Digest of the harness's own source files."""
    root = Path(__file__).resolve().parent.parent
    return digest_of([[str(p.relative_to(root)), files_digest([p])] for p in sorted(root.rglob("*.py"))])


def write(document: dict[str, Any], audit: Audit) -> Path:
    """Writes verdict.json and scores.jsonl into --out, each by an atomic rename; returns the path of verdict.json."""
    out = Path(audit.options.out)
    out.mkdir(parents=True, exist_ok=True)
    _replace(out / "scores.jsonl", score_lines(audit))
    _replace(out / "verdict.json", [json.dumps(document, indent=2, ensure_ascii=False)])
    return out / "verdict.json"


def score_lines(audit: Audit):
    """One JSON line per (model, benchmark, seed, item)."""
    for side, name, seed in audit.work():
        for item, score in audit.scores(audit.sides[side], name, seed).items():
            row = {"model": side, "benchmark": name, "seed": seed, "item": item, "metrics": score.metrics}
            row |= {"responses": score.responses, "prompt": score.prompt, "tokens": score.tokens}
            yield json.dumps(row, ensure_ascii=False)


def _replace(path: Path, lines: Sequence[str]) -> None:
    scratch = path.with_name(f".{path.name}.{os.getpid()}")
    with scratch.open("w", encoding="utf-8") as file:
        file.writelines(line + "\n" for line in lines)
    scratch.replace(path)
