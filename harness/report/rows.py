"""One benchmark of an audit as plain values: the verdict, and what stands beside it. All of accuracy in points."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from harness import evidence, stats
from harness.checkpoints import CheckedModel
from harness.compare import Comparison
from harness.faults import FAULTS
from harness.judging import Judging
from harness.specs import CHOICE_PROB, GOLD_PROB
from harness.verdict import INCONCLUSIVE, Verdict

IN_POINTS = ("base", "candidate", "change", "low", "high", "margin", "floor", "detectable")


def verdict_row(audit: Judging, model: str, verdict: Verdict, adjusted: float | None = None) -> dict[str, Any]:
    """A verdict with its benchmark. model: whom it is about; adjusted: its p-value over the basket."""
    loaded = audit.benchmarks[verdict.name]
    row = {key: 100 * value if key in IN_POINTS else value for key, value in asdict(verdict).items()}
    return {
        **row,
        "task": loaded.benchmark.task,
        "model": model,
        "seeds": list(verdict.seeds),
        "seeds_without_effect": len(audit.seeds(verdict.name)) < len(loaded.benchmark.seeds or audit.basket.seeds),
        "level": 1 - audit.policy.alpha,
        "written_seeds": list(audit.written(verdict.name)),  # under which the metrics of answers stand
        "adjusted_pvalue": adjusted,
        "digest": loaded.digest,
    }


def evidence_row(audit: Judging, candidate: CheckedModel, verdict: Verdict) -> dict[str, Any]:
    """What stands beside the verdict on one candidate; see `harness.evidence`."""
    alpha, name = audit.policy.alpha, verdict.name
    comparison = audit.comparison(candidate, name)
    metrics = _metrics(audit, candidate, name)
    beside = evidence.companion(_companion(audit, candidate, name, metrics), alpha)
    wide = None if audit.stops_early(name) else evidence.clustered(comparison, verdict, alpha)
    rates = evidence.flip_rates(comparison, alpha)
    return {
        **{key: {part: 100 * value for part, value in rate._asdict().items()} for key, rate in rates.items()},
        "companion": beside and {"metric": beside.metric, "moved": beside.moved, **_points(beside.bound)},
        "watch": bool(beside and beside.moved and verdict.verdict == INCONCLUSIVE),
        "clustered": wide and _points(wide),
        "groups": _groups(audit, comparison, name),
        "format": _format(audit, candidate, name, metrics),
        "others": {
            m: in_points(audit.comparison(candidate, name, m), alpha) for m in sorted(metrics - {comparison.metric})
        },
    }


def domain_row(audit: Judging, candidate: CheckedModel, name: str) -> dict[str, Any]:
    """The gain on a domain set, with bounds of the same kind as a verdict's."""
    comparison, loaded = audit.comparison(candidate, name), audit.benchmarks[name]
    metrics = _metrics(audit, candidate, name) - {comparison.metric}
    return {
        "name": name,
        "task": loaded.benchmark.task,
        "model": candidate.spec.text,
        "metric": comparison.metric,
        "items": len(comparison.items),
        "seeds": list(comparison.seeds),
        **in_points(comparison, audit.policy.alpha),
        "digest": loaded.digest,
        "others": {m: in_points(audit.comparison(candidate, name, m), audit.policy.alpha) for m in sorted(metrics)},
    }


def in_points(comparison: Comparison, alpha: float) -> dict[str, float]:
    """Scores of both sides and the change with its bounds."""
    bound = stats.crossed(comparison.change, alpha)
    sides = {"base": comparison.base.mean(), "candidate": comparison.candidate.mean()}
    return {key: 100 * float(value) for key, value in sides.items()} | _points(bound)


def _points(bound) -> dict[str, float]:
    return {"change": 100 * bound.estimate, "low": 100 * bound.low, "high": 100 * bound.high}


def _metrics(audit: Judging, candidate: CheckedModel, name: str) -> set[str]:
    """Metrics that every item has on both sides, all in [0, 1]; what else a task measures is no score."""
    scores = [
        score
        for model in (audit.base, candidate)
        for seed in audit.written(name)
        for score in audit.scores(model, name, seed).values()
    ]
    return set.intersection(*({key for key, value in s.metrics.items() if 0 <= value <= 1} for s in scores))


def _companion(audit: Judging, candidate: CheckedModel, name: str, metrics: set[str]) -> Comparison | None:
    deciding = audit.benchmarks[name].benchmark.metric
    if deciding in (CHOICE_PROB, GOLD_PROB):
        return None
    metric = next((m for m in (CHOICE_PROB, GOLD_PROB) if m in metrics), None)
    return metric and audit.comparison(candidate, name, metric)


def _groups(audit: Judging, comparison: Comparison, name: str) -> dict[str, list[dict[str, Any]]]:
    """Subjects and, where the benchmark has parts, domains; empty for a benchmark of one task."""
    parts = audit.benchmarks[name].groups
    if len(set(comparison.strata)) < 2:
        return {}
    found = {"subjects": evidence.groups(comparison, {s: s for s in comparison.strata}, audit.policy.alpha)}
    if parts and set(comparison.strata) <= set(parts):
        found["domains"] = evidence.groups(comparison, parts, audit.policy.alpha)
    return {key: [_group_row(row) for row in rows] for key, rows in found.items()}


def _group_row(row: dict[str, Any]) -> dict[str, Any]:
    return {key: 100 * value if key in IN_POINTS else value for key, value in row.items()}


def _format(audit: Judging, candidate: CheckedModel, name: str, metrics: set[str]) -> dict[str, Any]:
    """Losses of skill and of format, and the share of answers with each fault; empty if nothing is written."""
    found: dict[str, Any] = {}
    if pair := evidence.readings(sorted(metrics)):
        found["lost"] = evidence.format_losses(*(audit.comparison(candidate, name, m) for m in pair))
    for fault in FAULTS:
        if fault in metrics:
            sides = audit.comparison(candidate, name, fault)
            found[fault] = {"base": 100 * float(sides.base.mean()), "candidate": 100 * float(sides.candidate.mean())}
    return found


def saved(audit: Judging, names: Sequence[str]) -> dict[str, int]:
    """Scores of the skills that a verdict needed and that the whole benchmarks have, over all models and seeds."""
    cells = [(name, len(audit.seeds(name)) * len(audit.sides)) for name in names]
    return {
        "evaluated": sum(len(audit.items(name)) * count for name, count in cells),
        "planned": sum(audit.benchmarks[name].planned * count for name, count in cells),
    }
