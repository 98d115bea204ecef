"""A small challenge for the tests: three intents, four rows, and a judge that compares words."""

from __future__ import annotations

import json

from harness.submission.grading import Grade, grade
from harness.submission.judge import Asked
from harness.submission.results import Results, read_results
from harness.submission.tickets import HiddenRow, Intent, Taxonomy

TAXONOMY = Taxonomy(
    [
        Intent("billing.seats", "Seats.", ("billing.seat_question",)),
        Intent("data.export", "Exports."),
        Intent("product.bug", "Faults."),
    ]
)
ROWS = [
    HiddenRow("a", "ordinary", "Seats?", "billing.seats", "Guests take no seat", ("no seat", "guests"), ("$9",)),
    HiddenRow("b", "ordinary", "Export?", "data.export", "It takes 24 hours", ("24 hours|a day",), ("48 hours",)),
    HiddenRow("c", "probe", "More seats?", "billing.seats", "Nine dollars", ("nine",), ("for free",)),
    HiddenRow("d", "probe", "It broke", "product.bug", "Send a link", ("link",), ()),
]
IDS = [row.id for row in ROWS]


class WordJudge:
    """Share of the words of both replies that are in both."""

    name = "words in common"

    def scores(self, asked: list[Asked]) -> list[float]:
        pairs = [(set(q.first.lower().split()), set(q.second.lower().split())) for q in asked]
        return [len(one & other) / len(one | other) for one, other in pairs]


def answers(**said: tuple[str, str]) -> Results:
    """Results of {id: (intent, reply)}."""
    rows = [
        {"id": key, "prediction": reply, "predicted_intent": intent, "latency_ms": 1, "tokens_used": 2}
        for key, (intent, reply) in said.items()
    ]
    training = {"steps": 3, "train_loss": 1.5, "val_loss": 2.0, "wall_clock_s": 4.0}
    return read_results(json.dumps({"training": training, "predictions": rows}).encode(), IDS)


RIGHT = answers(
    a=("billing.seat_question", "Guests take no seat"),
    b=("data.export", "It takes 24 hours"),
    c=("billing.seats", "Nine dollars"),
    d=("product.bug", "Send a link"),
)


def graded(results: Results, seconds: float = 60.0, reproducible: bool = True, **similarity: float) -> Grade:
    """The grade of these results; every reply is like its ideal one unless it is said otherwise."""
    return grade(ROWS, results, dict.fromkeys(IDS, 1.0) | similarity, TAXONOMY, seconds, reproducible)
