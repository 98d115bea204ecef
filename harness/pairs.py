"""Preference pairs: for one prompt, the answer that a rater chose and the one that was rejected.

    pairs = read_pairs("pairs.jsonl")     # {"prompt", "chosen", "rejected"}, and "id", "editor", "category", "fault"
    findings = look_through(pairs)        # Findings(duplicates=3, contradictions=1, …)

The two answers of a pair must differ; the same pair twice, or judged both ways, is counted and not refused: raters
repeat and contradict themselves, and how often says what accuracy can be reached at all.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from harness.fingerprint import digest_of
from harness.jsonl import is_text, records, write
from harness.specs import Unusable

FORM = '{"prompt", "chosen", "rejected"}'
TEXTS = ("prompt", "chosen", "rejected")
LABELS = ("id", "editor", "category", "fault")


@dataclass(frozen=True)
class Pair:
    """One judgement. id: of the row, by default a digest of its texts; editor: who judged.

    category: the part of the policy that the pair tests; fault: what is wrong with the rejected answer.
    """

    id: str
    prompt: str
    chosen: str
    rejected: str
    editor: str | None = None
    category: str | None = None
    fault: str | None = None


@dataclass(frozen=True)
class Findings:
    """duplicates: pairs that repeat an earlier one; contradictions: that judge an earlier pair the other way round.

    most_accurate: the share of these pairs that any rule can get right, given the contradictions among them.
    """

    pairs: int
    prompts: int
    duplicates: int
    contradictions: int
    most_accurate: float

    def sentence(self) -> str:
        return (
            f"{self.pairs} pairs of {self.prompts} prompts; {self.duplicates} repeat an earlier pair and"
            f" {self.contradictions} contradict one."
        )


def read_pairs(path: str | Path) -> list[Pair]:
    """JSONL -> pairs, in the order of the file; `Unusable` names the file and the first line that is not one.

    Keys that are not ours are ignored. An id may stand once in a file; without one it is a digest of the texts, and of
    how often they came before.
    """
    name, pairs = Path(path).name, []
    ids: dict[str, int] = {}
    seen: Counter[str] = Counter()
    for number, row in records(path, FORM):
        _check(row, f"{name} line {number}")
        texts = {key: row[key] for key in TEXTS}
        content = digest_of(texts)
        own = row.get("id") or (digest_of([content, seen[content]]) if seen[content] else content)[:16]
        seen[content] += 1
        if own in ids:
            raise Unusable(
                f"{name} line {number} has the id '{own}' of line {ids[own]}; give each pair an id of its own, or none."
            )
        ids[own] = number
        pairs.append(Pair(own, **texts, **{key: row.get(key) for key in LABELS[1:]}))
    return pairs


def _check(row: Any, where: str) -> None:
    if not isinstance(row, dict) or not all(is_text(row.get(key)) for key in TEXTS):
        raise Unusable(f"{where} is no {FORM} with text in all three; correct or remove it.")
    for key in LABELS:
        if row.get(key) is not None and not is_text(row[key]):
            given = json.dumps(row[key])
            raise Unusable(f"{where} has the {key} {given}, which is no text; write a name, or leave it out.")
    if row["chosen"].strip() == row["rejected"].strip():
        raise Unusable(f"{where} has the same text as chosen and as rejected; no answer is better, so remove it.")


def write_pairs(pairs: Iterable[Pair], path: Path) -> None:
    """Pairs -> JSONL that `read_pairs` reads back; labels that a pair lacks are left out."""
    keys = ("id", *TEXTS, *LABELS[1:])
    rows = ({key: value for key in keys if (value := getattr(pair, key)) is not None} for pair in pairs)
    write(path, rows)


def look_through(pairs: Sequence[Pair]) -> Findings:
    """Counts duplicates and contradictions, by prompt and answers, whoever judged."""
    judged: dict[tuple[str, str, str], Counter[str]] = {}  # prompt and both answers in one order -> times each won
    duplicates = contradictions = 0
    for pair in pairs:
        wins = judged.setdefault((pair.prompt, *sorted((pair.chosen, pair.rejected))), Counter())
        duplicates += wins[pair.chosen] > 0
        contradictions += wins[pair.rejected] > 0
        wins[pair.chosen] += 1
    most = sum(max(wins.values()) for wins in judged.values())
    prompts = len({pair.prompt for pair in pairs})
    return Findings(len(pairs), prompts, duplicates, contradictions, most / len(pairs) if pairs else 0.0)


def pairs_digest(pairs: Sequence[Pair]) -> str:
    """One digest of what a model is asked and trained on: ids and texts, in their order."""
    return digest_of([[pair.id, pair.prompt, pair.chosen, pair.rejected] for pair in pairs])
