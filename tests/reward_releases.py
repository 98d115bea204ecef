"""Reward models' releases made from planted scores, for tests of what reports them: no model, no training."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np

from harness.judging import Options
from harness.pairs import Findings, Pair
from harness.reward.accuracy import reward_accuracy
from harness.reward.diagnostics import diagnose
from harness.reward.policy import Policy
from harness.reward.scores import RewardScores
from harness.reward.verdict import decide
from harness.shortcuts import Rule
from tests import planted_rewards as planted

POLICY = Policy()
LOG = [{"step": 5 * n, "loss": round(0.9 - 0.04 * n, 4), "accuracy": 0.5 + 0.03 * n, "margin": 0.2 * n}
       for n in range(1, 11)]  # fmt: skip
SENTENCE = "best of 4, 30 prompts: SIMULATED raters take the answer that the reward picks in 61.0% [55.0, 67.0]"
BEST_OF_N = {"prompts": 30, "n": 4, "win": [0.61, 0.55, 0.67], "longer": [0.02, -0.03, 0.07], "raters": ["rater 1"],
             "sentence": SENTENCE}  # fmt: skip


def release(
    found: RewardScores | None = None,
    policy: Policy = POLICY,
    rules: bool = True,
    embedded: bool = True,
    given: tuple[str, ...] = (),
    best_of_n: dict[str, Any] | None = BEST_OF_N,
) -> SimpleNamespace:
    """found: planted scores, by default sound ones; given: SPECs of candidates that no recipe of ours has trained."""
    found = planted.sound(0) if found is None else found
    measured = [] if not rules else [_rule("longer answer", found, 0.5), _rule("bag of words", found, 0.58)]
    accuracy, checks = reward_accuracy(found, policy, measured), diagnose(found, policy)
    train = tuple(Pair(f"t{n}", f"train {n}", "a", "b", category=found.pairs[n % 5].category) for n in range(1500))
    material = SimpleNamespace(
        name="embedded support answers" if embedded else "pairs.jsonl", train=train,
        held_out=(*found.pairs, *train[:2]), embedded=embedded, ceiling=0.95 if embedded else None,
        judging_files=(Path("pairs.jsonl"),),
        findings=Findings(2000, 2000, 3, 1, 0.999),
    )  # fmt: skip
    return SimpleNamespace(
        scores=found, accuracy=accuracy, checks=checks, policy=policy, decision=decide(accuracy, checks, policy),
        base=_model("embedded:base", "b0"), runs=found.runs, given=given, material=material, too_long=2, pairs=1500,
        basket=None, seeds=tuple(range(len(found.runs))), best_of_n=best_of_n, packages={"torch": "2.0", "trl": "1.16"},
        options=Options(base="embedded:base", candidates=given, out=Path("out"), device="cpu", dtype="float32"),
        candidate=lambda run: _model(given[found.runs.index(run)] if given else f"./{run}", "c1"),
        note=lambda run: {} if given else note(run), saw_the_judges=lambda run: None if given else False,
    )  # fmt: skip


def note(run: str) -> dict[str, Any]:
    """As `recipes.reward` leaves it beside an adapter."""
    settings = {"pairs": 1500, "epochs": 2, "batch": 16, "lr": 1e-3, "center": 0.01, "rank": 8, "seed": 0}
    return {
        "command": f"python -m recipes.reward --base embedded:base --data train.jsonl --out {run}",
        "data": "da" * 32, "settings": settings, "threads": 2,
        "training": {"pairs": 1500, "too_long": 4, "log": LOG},
    }  # fmt: skip


def many(categories: int, runs: int, text: str = "prompt") -> RewardScores:
    """Sound scores of so many categories and runs, with this text in every name and pair."""
    found = planted.sound(1, count=600, runs=tuple(f"seed{n}" for n in range(runs)))
    pairs = tuple(
        Pair(f"p{n}", f"{text} {n}", f"{text} good", f"{text} bad", category=f"kind {n % categories} {text[:60]}")
        for n in range(len(found.pairs))
    )
    return RewardScores(pairs, found.runs, found.scores, found.tokens, found.probes)


def _rule(name: str, found: RewardScores, share: float) -> Rule:
    right = np.where(np.arange(len(found.pairs)) * 7 % 100 < 100 * share, 1.0, 0.0)
    return Rule(name, tuple(right.tolist()), {}, {})


def _model(spec: str, digest: str) -> SimpleNamespace:
    return SimpleNamespace(spec=SimpleNamespace(text=spec), digest=digest * 32, is_adapter=True)
