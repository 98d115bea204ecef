"""verdict.json of a reward model's release: targets and diagnostics, each with its verdict, and the decision.

Shares are points; thresholds and values of diagnostics are in their own unit, as their reasons say them. Every figure
of the reports is in it, and what the plots are drawn from lies beside it in scores.jsonl.
"""

from __future__ import annotations

import datetime
import shlex
from collections import Counter
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

import numpy as np

from harness.report.document import code_digest
from harness.report.numbers import as_set, points, rounded
from harness.reward.accuracy import Accuracy
from harness.reward.checks import BLOCK, NOT_ASKED, WARN
from harness.reward.policy import CATEGORY, OVERALL, Policy
from harness.reward.scores import RewardScores
from harness.stats import Interval
from harness.target import INCONCLUSIVE, MISSED, Judged

SCHEMA = 1
TARGETS, DIAGNOSTICS, TRAINING = "1 - Targets", "2 - Diagnostics", "3 - Training"
WORST = 8  # pairs that are shown: those with the lowest margin, averaged over the runs

Document = Mapping[str, Any]


def build(release) -> dict[str, Any]:
    """The document of a release (`fixtures.reward_release.Release`)."""
    decision, found = release.decision, release.scores
    made = {
        "schema": SCHEMA,
        "gate": "reward",
        "created": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "decision": decision.decision,
        "exit": decision.exit,
        "line": decision.line,
        "parts": [asdict(part) for part in decision.parts],
        "base": {"spec": release.base.spec.text, "digest": release.base.digest},
        "candidates": [candidate_row(release, run) for run in release.runs],
        "pairs": _pairs(release),
        "accuracy": _accuracy(release.accuracy),
        "diagnostics": [asdict(check) for check in release.checks],
        "scores": _scores(found),
        "worst_pairs": _worst(found),
        "policy": _policy(release.policy),
        "best_of_n": release.best_of_n,
        "basket": release.policy.name,
        "run": {"device": release.options.device, "dtype": release.options.dtype},
        "code": code_digest(),
        "packages": release.packages,
        "command": _command(release),
    }
    return made | {"next": next_steps(made)}


def about(document: Document) -> dict[str, Any]:
    """What was run and what was asked for, as `harness.report.allure_results.environment` reads it."""
    asked = {name: document["policy"][name] for name in ("overall", "category", "alpha")}
    return {**document, "policy": asked}


def decision_line(document: Document) -> str:
    return document["line"]


def candidate_row(release, run: str) -> dict[str, Any]:
    """What is known of one training run: its digest, its settings, and how its training went."""
    found, note = release.candidate(run), release.note(run)
    return {
        "run": run,
        "spec": found.spec.text,
        "digest": found.digest,
        "adapter": found.is_adapter,
        "trained_on_these_pairs": release.saw_the_judges(run) is False or None,
        "command": note.get("command"),
        "data": note.get("data"),
        "settings": note.get("settings"),
        "threads": note.get("threads"),
        "training": note.get("training"),
    }


def _pairs(release) -> dict[str, Any]:
    material = release.material
    kinds = {own: int(kept.sum()) for own, kept in release.scores.categories().items()}
    return {
        "name": material.name,
        "embedded": material.embedded,
        "train": len(material.train),
        "train_categories": dict(sorted(Counter(pair.category for pair in material.train if pair.category).items())),
        "held_out": len(material.held_out),
        "too_long": release.too_long,
        "categories": kinds,
        "ceiling": None if material.ceiling is None else rounded(100 * material.ceiling),
        **asdict(material.findings),
    }


def _accuracy(found: Accuracy) -> dict[str, Any]:
    return {
        "overall": _judged(found.overall),
        "categories": {own: _judged(judged) for own, judged in found.categories.items()},
        "runs": [
            {
                "run": run.name,
                "overall": rounded(100 * run.overall),
                "categories": {own: rounded(100 * share) for own, share in run.categories.items()},
            }
            for run in found.runs
        ],
        "spread": None if found.spread is None else rounded(100 * found.spread),
        "worst_run": found.worst.name,
        "rules": [
            {
                "name": rule.name,
                "accuracy": rounded(100 * rule.accuracy),
                "lead": _points(rule.lead),
                "categories": {own: rounded(100 * s) for own, s in found.rules_by_category[rule.name].items()},
            }
            for rule in found.rules
        ],
    }


def _judged(found: Judged) -> dict[str, Any]:
    shares = {name: rounded(100 * getattr(found, name)) for name in ("share", "low", "high", "target")}
    return shares | {"pairs": found.items, "verdict": found.verdict, "reason": found.reason}


def _points(bound: Interval) -> dict[str, float]:
    return {"share": rounded(100 * bound.estimate), "low": rounded(100 * bound.low), "high": rounded(100 * bound.high)}


def _scores(found: RewardScores) -> dict[str, Any]:
    """Quantiles of scores and margins of each run, None where a run has no finite ones."""
    return {
        run: {"scores": _quantiles(found.scores[:, at]), "margins": _quantiles(found.margin[:, at])}
        for at, run in enumerate(found.runs)
    }


def _quantiles(values: np.ndarray) -> dict[str, float] | None:
    finite = values[np.isfinite(values)]
    if not len(finite):
        return None
    named = {"min": 0, "q05": 0.05, "q25": 0.25, "median": 0.5, "q75": 0.75, "q95": 0.95, "max": 1}
    found = {name: round(float(np.quantile(finite, q)), 4) for name, q in named.items()}
    return found | {"sd": round(float(finite.std()), 4), "not_finite": int(values.size - len(finite))}


def _worst(found: RewardScores) -> list[dict[str, Any]]:
    """The pairs whose mean margin is lowest, over the runs that have one: where model and raters disagree most."""
    finite = np.isfinite(found.margin)
    mean = np.where(finite, found.margin, 0).sum(axis=1) / np.maximum(finite.sum(axis=1), 1)  # 0 where none has one
    order = [at for at in np.argsort(mean, kind="stable") if round(mean[at], 3) < 0][:WORST]
    return [
        {
            **{name: getattr(found.pairs[at], name) for name in ("id", "category", "fault", "prompt")},
            "chosen": found.pairs[at].chosen,
            "rejected": found.pairs[at].rejected,
            "margins": [round(float(value), 3) + 0.0 if np.isfinite(value) else None for value in found.margin[at]],
        }
        for at in order
    ]


def _policy(policy) -> dict[str, Any]:
    return asdict(policy) | {"level": 1 - policy.alpha}


def _command(release) -> str:
    """The line that judges this again, in the checkout."""
    options, material = release.options, release.material
    words = ["--base", options.base] + ([] if material.embedded else ["--pairs", str(material.judging_files[0])])
    for text in release.given:
        words += ["--candidate", text]
    if not release.given:
        words += ["--seeds", ",".join(map(str, release.seeds)), "--train-pairs", str(release.pairs)]
    words += ["--device", options.device, "--dtype", options.dtype]
    words += ["--basket", str(release.basket)] if release.basket else []
    for name, share in _targets(release.policy).items():
        words += ["--target", f"{name}={as_set(round(100 * share, 6))}"]
    return shlex.join(["python", "-m", "pytest", "-m", "reward", *_joined(words)])


def _joined(words: list[str]) -> list[str]:
    """Options and values in one word each: an absolute path by itself would be taken for a place to look for tests."""
    return [f"{option}={value}" for option, value in zip(words[::2], words[1::2], strict=True)]


def _targets(policy: Policy) -> dict[str, float]:
    """Those that are not the gate's own."""
    own = {OVERALL: policy.overall, CATEGORY: policy.category, **policy.categories}
    usual = {OVERALL: Policy.overall, CATEGORY: Policy.category}
    return {name: share for name, share in own.items() if usual.get(name) != share}


# ---- advice ----------------------------------------------------------------------------------------------------------


def next_steps(document: Document) -> list[str]:
    """What to do, each sentence from a figure of this document."""
    accuracy, told = document["accuracy"], []
    told += [check["reason"] for check in document["diagnostics"] if check["verdict"] == BLOCK]
    for name, row in {"overall": accuracy["overall"], **accuracy["categories"]}.items():
        if row["verdict"] == MISSED:
            told.append(
                f"{name}: {points(row['share'] / 100)}% where more than {as_set(row['target'])}% is asked for: collect"
                " pairs of this kind, whose faults are like those of its worst pairs."
                if name != "overall"
                else f"Overall {points(row['share'] / 100)}% where more than {as_set(row['target'])}% is asked for:"
                " train on more pairs (--train-pairs 0 for all)."
            )
        elif row["verdict"] == INCONCLUSIVE:
            told.append(f"{name}: {row['reason']}")  # which says how many pairs would tell, or that none would
    told += [
        f"{check['title']}: {check['reason']}"
        for check in document["diagnostics"]
        if check["verdict"] == NOT_ASKED and check["blocks"]
    ]
    if accuracy["rules"] and accuracy["rules"][-1]["lead"]["low"] <= 0:
        best = accuracy["rules"][-1]
        told.append(
            f"The rule '{best['name']}' reaches {points(best['accuracy'] / 100)}%, and the model is not shown to be"
            " ahead of it: collect pairs whose faults such a rule cannot see."
        )
    told += [check["reason"] for check in document["diagnostics"] if check["verdict"] == WARN]
    return told or ["Nothing stands against this release; ask the same of the next one."]
