"""What one editor sees: prompts with two answers, and nothing that tells which model wrote which.

A sheet is made from the key and the answers, and the page from the sheet alone. What a reader cannot see (spaces at the
end of a line, invisible characters, line ends of another system) is made equal, as it may be a model's mark.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass

from harness.ballot.key import Key
from harness.ballot.prompts import Pair
from harness.report.escape import printable

JOINERS = "\u200c\u200d"  # invisible, but Persian, Hindi and emoji need them


@dataclass(frozen=True)
class Question:
    """One place of a ballot. first, second: the answers as they stand side by side."""

    token: str
    prompt: str
    first: str
    second: str


@dataclass(frozen=True)
class Sheet:
    """One editor's ballot. name: the seal of its key; stamp: what its page signs the votes with."""

    name: str
    editor: int
    stamp: str
    questions: tuple[Question, ...]
    simulated: bool = False


def sheet(key: Key, editor: int, pairs: Sequence[Pair]) -> Sheet:
    """The ballot of an editor, counted from 1; pairs: in the order of the key's prompts."""
    questions = []
    for place in key.places[editor - 1]:
        pair = pairs[place.prompt]
        answers = (pair.candidate, pair.base) if place.candidate_first else (pair.base, pair.candidate)
        questions.append(Question(place.token, seen(pair.prompt), *map(seen, answers)))
    return Sheet(key.seal, editor, key.stamp(editor), tuple(questions), key.simulated)


def seen(text: str) -> str:
    """A text as a reader sees it: paragraphs and indents stay; what is invisible at its ends and within goes."""
    lines = printable(text.replace("\r\n", "\n").replace("\r", "\n")).split("\n")
    lines = ["".join(map(_visible, line)).rstrip() for line in lines]
    return re.sub(r"\n{3,}", "\n\n", "\n".join(lines)).strip("\n").rstrip()


def _visible(character: str) -> str:
    category = unicodedata.category(character)
    if category in ("Zs", "Zl", "Zp"):
        return " "
    return "" if category == "Cf" and character not in JOINERS else character
