"""The decision on a reward model: its targets and diagnostics -> SHIP or BLOCKED, an exit status, and one line.

SHIP (0) only if every target is passed and no diagnostic blocks. BLOCKED (1) if a target is shown to be missed or a
diagnostic blocks. BLOCKED (10) if none of that is shown and something is open: a target is INCONCLUSIVE, or a
diagnostic that blocks was not asked and may not be skipped. Warnings decide nothing and are named.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from harness.reward.accuracy import Accuracy
from harness.reward.checks import BLOCK, NOT_ASKED, OK, WARN, Check
from harness.reward.policy import Policy
from harness.target import INCONCLUSIVE, MISSED, PASS

SHIP, BLOCKED = "SHIP", "BLOCKED"
TARGET, DIAGNOSTIC = "target", "diagnostic"
WORDS = {
    MISSED: "missed",
    BLOCK: "blocks",
    INCONCLUSIVE: "inconclusive",
    NOT_ASKED: "not asked",
    WARN: "warned",
}  # in the order of the line


@dataclass(frozen=True)
class Part:
    """kind: target or diagnostic; verdict: of `harness.target` or of `harness.reward.checks`.

    open: nothing is shown against it, and yet it keeps SHIP away.
    """

    name: str
    kind: str
    verdict: str
    reason: str
    open: bool = False


@dataclass(frozen=True)
class Decision:
    decision: str
    exit: int
    parts: tuple[Part, ...]

    @property
    def line(self) -> str:
        """One sentence: the decision, what stands against it by name, and what was passed in numbers."""
        told = []
        for verdict, word in WORDS.items():
            if names := [part.name for part in self.parts if part.verdict == verdict]:
                told.append(f"{', '.join(names)} {word}")
        for kind, good, word in ((TARGET, PASS, "passed"), (DIAGNOSTIC, OK, "in order")):
            of = [part for part in self.parts if part.kind == kind]
            told.append(f"{sum(part.verdict == good for part in of)} of {len(of)} {kind}s {word}")
        return f"{self.decision} (exit {self.exit}): {'; '.join(told)}"


def decide(accuracy: Accuracy, checks: Sequence[Check], policy: Policy) -> Decision:
    parts = tuple(
        [Part(j.name, TARGET, j.verdict, j.reason, j.verdict == INCONCLUSIVE) for j in accuracy.judged]
        + [Part(c.name, DIAGNOSTIC, c.verdict, c.reason, is_open(c, policy)) for c in checks]
    )
    shown = any(part.verdict in (MISSED, BLOCK) for part in parts)
    status = 1 if shown else 10 if any(part.open for part in parts) else 0
    return Decision(BLOCKED if status else SHIP, status, parts)


def is_open(check: Check, policy: Policy) -> bool:
    """True for a check that blocks, was not asked, and may not stay so."""
    return check.blocks and check.verdict == NOT_ASKED and check.name not in policy.may_skip
