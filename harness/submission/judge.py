"""How near a reply is to the ideal one: a judge, asked in both orders, and how noisy it is.

A judge is a language model (`openai_judge`) or sentence embeddings (`offline_judge`). Whether a reply holds what it
must and nothing that it must not is checked by program (`mentions`), whoever judges.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from harness.submission.results import Results
from harness.submission.tickets import HiddenRow

REPEATS, SAMPLED = 3, 10  # times that the same is asked, and of how many rows, to measure noise


@dataclass(frozen=True)
class Asked:
    """One question to a judge: how near are two replies to a ticket, of which one is shown first?"""

    ticket: str
    first: str
    second: str


class Judge(Protocol):
    """name: for the report. scores: nearness in [0, 1] for each question, in their order."""

    name: str

    def scores(self, asked: Sequence[Asked]) -> list[float]: ...


@dataclass(frozen=True)
class Noise:
    """What a judge says otherwise when nothing has changed, in [0, 1] of its scale.

    repeat: the mean spread (largest less smallest) of the same question asked again; order: the mean difference when
    the two replies change places; rows: that this was measured on.
    """

    repeat: float
    order: float
    rows: int
    repeats: int = REPEATS


def similarities(judge: Judge, rows: Sequence[HiddenRow], results: Results) -> dict[str, float]:
    """Similarity of each reply to its row's ideal reply, in [0, 1]: the mean over both orders; an empty reply has 0."""
    answered = _answered(rows, results)
    scores = judge.scores([asked for pair in answered.values() for asked in pair])
    found = {key: (scores[2 * n] + scores[2 * n + 1]) / 2 for n, key in enumerate(answered)}
    return dict.fromkeys(results.predictions, 0.0) | found


def measure_noise(judge: Judge, rows: Sequence[HiddenRow], results: Results) -> Noise | None:
    """Asks the first rows with a reply again and in both orders; None if there is no reply."""
    answered = list(_answered(rows, results).values())[:SAMPLED]
    if not answered:
        return None
    runs = [judge.scores([asked for pair in answered for asked in pair]) for _ in range(REPEATS)]
    spreads = [max(said) - min(said) for said in zip(*runs, strict=True)]
    turns = [abs(run[n] - run[n + 1]) for run in runs for n in range(0, len(run), 2)]
    return Noise(sum(spreads) / len(spreads), sum(turns) / len(turns), len(answered))


def _answered(rows: Sequence[HiddenRow], results: Results) -> Mapping[str, tuple[Asked, Asked]]:
    """Both orders of the question, by the id of each row that has a reply with something in it."""
    return {
        row.id: (Asked(row.ticket, row.ideal_reply, said.reply), Asked(row.ticket, said.reply, row.ideal_reply))
        for row in rows
        if (said := results.predictions.get(row.id)) and said.reply.strip()
    }
