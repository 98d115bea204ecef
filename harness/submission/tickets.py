"""The data of the support-ticket challenge: intents, the rows that a submission sees, and those that grade it.

A submission gets `train.jsonl` with labels, and the hidden rows as {"id", "ticket"} alone.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from harness.jsonl import is_text, records
from harness.specs import Unusable

ORDINARY, PROBE = "ordinary", "probe"
DOTTED = re.compile(r"[a-z]+\.[a-z0-9_]+")


@dataclass(frozen=True)
class Intent:
    """A label in dotted form, what it means, and other spellings that count as it."""

    name: str
    description: str
    synonyms: tuple[str, ...] = ()


@dataclass(frozen=True)
class HiddenRow:
    """A ticket that grades.

    kind: `ordinary`, or `probe` for a common intent in fresh words. must, must_not: phrases that a right reply holds,
    and that only a wrong one does; in a phrase, `|` separates alternatives of which one is enough.
    """

    id: str
    kind: str
    ticket: str
    intent: str
    ideal_reply: str
    must: tuple[str, ...] = ()
    must_not: tuple[str, ...] = ()


class Taxonomy:
    """The intents of the challenge, and which spelling is which."""

    def __init__(self, intents: Sequence[Intent]):
        self.intents = tuple(intents)
        self._known = {}
        for intent in self.intents:
            for spelling in (intent.name, *intent.synonyms):
                if self._known.setdefault(spelling, intent.name) != intent.name:
                    raise Unusable(
                        f"taxonomy: '{spelling}' stands for both {self._known[spelling]} and {intent.name}; keep one."
                    )

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(intent.name for intent in self.intents)

    def canonical(self, label: str) -> str | None:
        """The intent that a label names, by its own name or a synonym and whatever the case; None if it names none."""
        return self._known.get(label.strip().lower())


def read_taxonomy(path: Path) -> Taxonomy:
    """JSON list of {"intent", "description", "synonyms"}; `Unusable` for anything else."""
    try:
        rows = json.loads(path.read_text(encoding="utf-8"))
        made = [Intent(row["intent"], row["description"], tuple(row["synonyms"])) for row in rows]
    except (OSError, ValueError, KeyError, TypeError):
        raise Unusable(
            f'taxonomy \'{path}\' is no JSON list of {{"intent", "description", "synonyms"}}; correct it.'
        ) from None
    if wrong := [intent.name for intent in made if not DOTTED.fullmatch(intent.name)]:
        raise Unusable(f"taxonomy '{path.name}': '{wrong[0]}' is not in dotted form; write it as in billing.refund.")
    return Taxonomy(made)


def read_training(path: Path, taxonomy: Taxonomy) -> list[dict[str, str]]:
    """Rows of {"id", "ticket", "intent", "ideal_reply"}; `Unusable` names the first line that is not one."""
    rows = _rows(path, ("id", "ticket", "intent", "ideal_reply"))
    _check_intents(path, rows, taxonomy)
    return rows


def read_tickets(path: Path) -> list[dict[str, str]]:
    """Rows of {"id", "ticket"}, as a submission gets them."""
    return _rows(path, ("id", "ticket"))


def read_hidden(path: Path, taxonomy: Taxonomy) -> list[HiddenRow]:
    """The rows that grade; `Unusable` names the first line that is not one."""
    rows = _rows(path, ("id", "kind", "ticket", "intent", "ideal_reply"), ("must_mention", "must_not_mention"))
    _check_intents(path, rows, taxonomy)
    if odd := [row["id"] for row in rows if row["kind"] not in (ORDINARY, PROBE)]:
        raise Unusable(f"{path.name}: row '{odd[0]}' is of no kind; write {ORDINARY} or {PROBE}.")
    return [
        HiddenRow(
            *(row[key] for key in ("id", "kind", "ticket", "intent", "ideal_reply")),
            tuple(row["must_mention"]),
            tuple(row["must_not_mention"]),
        )
        for row in rows
    ]


def _rows(path: Path, texts: Sequence[str], lists: Sequence[str] = ()) -> list[dict[str, Any]]:
    form = "{" + ", ".join(f'"{key}"' for key in (*texts, *lists)) + "}"
    rows, seen = [], set()
    for number, row in records(path, form):
        if not _has(row, texts, lists):
            raise Unusable(f"{path.name} line {number} is no {form} with text in each; correct or remove it.")
        if row["id"] in seen:
            raise Unusable(f"{path.name} line {number} repeats the id '{row['id']}'; give each row its own.")
        seen.add(row["id"])
        rows.append(row)
    return rows


def _has(row: Any, texts: Iterable[str], lists: Iterable[str]) -> bool:
    if not isinstance(row, Mapping) or not all(is_text(row.get(key)) for key in texts):
        return False
    return all(isinstance(row.get(key), list) and all(map(is_text, row[key])) for key in lists)


def _check_intents(path: Path, rows: Iterable[Mapping[str, Any]], taxonomy: Taxonomy) -> None:
    for row in rows:
        if row["intent"] not in taxonomy.names:
            raise Unusable(
                f"{path.name}: row '{row['id']}' has the intent '{row['intent']}', which the taxonomy lacks; write one"
                f" of {', '.join(taxonomy.names)}."
            )
