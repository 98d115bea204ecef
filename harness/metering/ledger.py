"""The ledger of a metering proxy: prices, calls, and a budget that no call may pass.

Before a call is forwarded, the most that it can cost is set aside; afterwards what it did cost takes that place. So the
sum of what is spent and what is under way never passes the budget, however many calls there are at once. Money is
`Decimal` dollars: it adds up to the last digit.
"""

from __future__ import annotations

import threading
import tomllib
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from decimal import Decimal, InvalidOperation
from pathlib import Path
from typing import Any

from harness.specs import Unusable

MILLION = 1_000_000
BUDGET = Decimal("3.00")  # dollars


@dataclass(frozen=True)
class Price:
    """Of one model, in dollars for a million tokens."""

    prompt: Decimal
    completion: Decimal

    def of(self, prompt: int, completion: int) -> Decimal:
        """What so many tokens cost, in dollars."""
        return (self.prompt * prompt + self.completion * completion) / MILLION


@dataclass(frozen=True)
class Call:
    """One call that was asked for.

    status: what the caller got; cost: in dollars; seconds: until the last byte. measured: False where the upstream did
    not say how many tokens it used, so that all that was set aside counts; then the tokens are the most there can have
    been.
    """

    model: str
    status: int
    prompt_tokens: int
    completion_tokens: int
    cost: Decimal
    seconds: float
    measured: bool = True


class OverBudget(Exception):
    """The call might pass the budget: one sentence with the figures."""


class Ledger:
    """Counts calls against a budget; safe to share between threads."""

    def __init__(self, prices: Mapping[str, Price], budget: Decimal = BUDGET):
        self.prices, self.budget = dict(prices), budget
        self.calls: list[Call] = []
        self._held, self._spent = Decimal(0), Decimal(0)
        self._lock = threading.Lock()

    @property
    def spent(self) -> Decimal:
        """Dollars of all calls that have ended."""
        return self._spent

    @property
    def held(self) -> Decimal:
        """Dollars set aside for calls under way."""
        return self._held

    def hold(self, model: str, prompt: int, completion: int) -> Decimal:
        """Sets aside what at most so many tokens cost; raises `OverBudget` where that is not left."""
        most = self.prices[model].of(prompt, completion)
        with self._lock:
            left = self.budget - self._spent - self._held
            if most > left:
                raise OverBudget(
                    f"the budget of ${self.budget:.2f} has ${left:.6f} left, and this call may cost ${most:.6f}; ask"
                    " for fewer tokens (max_tokens), or stop here."
                )
            self._held += most
        return most

    def settle(self, call: Call, held: Decimal) -> None:
        """Replaces what was set aside for a call by what it did cost."""
        with self._lock:
            self._held -= held
            self._spent += call.cost
            self.calls.append(call)

    def summary(self) -> dict[str, Any]:
        """For a report: calls by status, tokens, dollars and the mean latency of what was answered."""
        with self._lock:
            answered = [call for call in self.calls if call.status == 200]
            statuses = sorted({call.status for call in self.calls})
            return {
                "calls": {str(status): sum(call.status == status for call in self.calls) for status in statuses},
                "prompt_tokens": sum(call.prompt_tokens for call in self.calls),
                "completion_tokens": sum(call.completion_tokens for call in self.calls),
                "cost": float(self._spent),
                "budget": float(self.budget),
                "mean_seconds": sum(call.seconds for call in answered) / len(answered) if answered else None,
                "unmeasured": sum(not call.measured for call in self.calls),
            }

    def rows(self) -> list[dict[str, Any]]:
        """One row a call, with the cost as text, so that no digit is lost."""
        with self._lock:
            return [asdict(call) | {"cost": str(call.cost)} for call in self.calls]


def read_prices(path: Path) -> dict[str, Price]:
    """TOML of [MODEL] tables with prompt and completion, in dollars for a million tokens; `Unusable` for anything else.

    ["org/model-7b"]
    prompt = "0.15"
    completion = "0.60"
    """
    try:
        told = tomllib.loads(path.read_text(encoding="utf-8"))
        made = {
            model: Price(Decimal(str(row["prompt"])), Decimal(str(row["completion"]))) for model, row in told.items()
        }
    except (OSError, ValueError, KeyError, TypeError, InvalidOperation) as error:
        raise Unusable(
            f"prices '{path}' cannot be read ({error}); write a table [MODEL] with prompt and completion, in dollars"
            " for a million tokens."
        ) from None
    if not made or not all(0 <= value < 10**6 for price in made.values() for value in (price.prompt, price.completion)):
        raise Unusable(f"prices '{path}' hold no model, or one with a price that is none; write dollars from 0 on.")
    return made
