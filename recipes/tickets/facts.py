"""The facts page, cut into facts, and the few of them that a ticket is about."""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

COMMON = frozenset(
    re.findall(
        r"\w+",
        "the and are for that you with our not can this has have was were they from what how when where who why will"
        " your does any all its but she her his him them than then there which into only been get got please would",
    )
)
CUT = 5  # letters of a word that count, so that 'invoices' is 'invoice'


def read_facts(path: Path) -> list[str]:
    """The page's bullets, and each row of its table in words: 'members: Free up to 5, Team up to 100, …'."""
    text = path.read_text(encoding="utf-8").replace("\n  ", " ")
    lines = text.splitlines()
    bullets = [line.removeprefix("- ") for line in lines if line.startswith("- ")]
    table = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines if line.startswith("|")]
    head, rows = (table[0][1:], table[2:]) if len(table) > 2 else ([], [])
    return bullets + [f"{row[0]}: {', '.join(map(' '.join, zip(head, row[1:], strict=True)))}." for row in rows]


class Finder:
    """Finds facts by the rare words that they share with a text."""

    def __init__(self, facts: Sequence[str]):
        self._facts = list(facts)
        self._words = [Counter(_words(fact)) for fact in self._facts]
        seen = Counter(word for words in self._words for word in words)
        self._rarity = {word: math.log(1 + len(self._facts) / times) for word, times in seen.items()}

    def find(self, text: str, most: int) -> list[str]:
        """At most so many facts, the nearest first; of equals, the one that stands first on the page."""
        asked = set(_words(text))
        worth = [
            sum(self._rarity[word] for word in words.keys() & asked) / math.sqrt(1 + sum(words.values()))
            for words in self._words
        ]
        order = sorted(range(len(worth)), key=lambda n: (-worth[n], n))
        return [self._facts[n] for n in order[:most] if worth[n] > 0]


def _words(text: str) -> list[str]:
    return [word[:CUT] for word in re.findall(r"[a-z0-9$%]+", text.lower()) if len(word) > 2 and word not in COMMON]
