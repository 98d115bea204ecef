"""DPO releases made from plain values, for tests of what reports them: no model, votes that are planted."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np

from harness.ballot.judge import judge
from harness.implicit_rewards import Margins
from harness.pairs import Findings, Pair
from harness.preference_accuracy import held_out_accuracy
from harness.shortcuts import Rule
from harness.stats import Interval
from tests import verdicts
from tests.voting import key_of, pairs, planted

WON, LOST = (0.95, 0.0, 0.05), (0.2, 0.0, 0.8)
RISES = Interval(4.0, 2.0, 6.0)


def release(
    right: float = 0.9,
    rates: tuple[float, float, float] | None = WON,
    capability: dict[str, Any] | None = None,
    simulated: bool = False,
    rule: float = 0.55,
    chosen: Interval = RISES,
    before: float = 0.5,
) -> SimpleNamespace:
    """right, rule, before (the base's own likelihood): shares of 300 held-out pairs.

    rates: of candidate, tie and base, None for no votes.
    """
    held = tuple(Pair(str(n), f"prompt {n}", f"good {n}", f"bad {n}", fault="vague" if n % 2 else "old sum")
                 for n in range(300))  # fmt: skip
    plain = np.where(np.arange(300) < 300 * right, 1.0, -1.0)[:, None]
    margins = Margins(
        held, plain, plain, np.full((300, 2), 20.0), np.where(np.arange(300)[::-1] < 300 * before, 1.0, 0.0)
    )
    flags = tuple(np.where(np.arange(300) < 300 * rule, 1.0, 0.0).tolist())
    asked = pairs()
    key = key_of(asked, simulated=simulated)
    votes = planted(key, 3, rates=rates) if rates else {}
    base = SimpleNamespace(spec=SimpleNamespace(text="acme/base-7b"), digest="b0" * 32)
    tuned = SimpleNamespace(spec=SimpleNamespace(text="./writer"), digest="c1" * 32, is_adapter=True)
    material = SimpleNamespace(
        name="pairs.jsonl", train=[0] * 2200, held_out=held, ceiling=0.9, findings=Findings(2500, 2500, 0, 0, 1.0)
    )
    return SimpleNamespace(
        accuracy=held_out_accuracy(margins, [Rule("bag of words", flags, {}, {})]),
        head_to_head=judge(key, votes, Path("out/ballots/x/gate/key.json")),
        key=key, capability=capability or verdicts.ship(), base=base, runs=("seed0",), candidate=lambda run: tuned,
        note=lambda run: {"training": {"pairs": 200, "chosen": {"thirds": [1.0, 2.0, 3.0], "sustained_fall": False}}},
        saw_the_judges=lambda run: None, material=material, too_long=0, chosen=chosen, answers=asked,
        ballots=Path("out/ballots/x"),
    )  # fmt: skip
