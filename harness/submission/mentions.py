"""Which phrases a reply holds: whole words, in any case, over line ends and in the plural. `a|b` is held by either."""

from __future__ import annotations

import re
from collections.abc import Iterable


def holds(reply: str, entry: str) -> bool:
    """True if one of the entry's alternatives stands in the reply."""
    said = " ".join(reply.lower().split())
    return any(_stands(said, " ".join(phrase.lower().split())) for phrase in entry.split("|"))


def missing(reply: str, must: Iterable[str]) -> list[str]:
    """The entries that a reply must hold and does not."""
    return [entry for entry in must if not holds(reply, entry)]


def wrong(reply: str, must_not: Iterable[str]) -> list[str]:
    """The entries that a reply holds and must not."""
    return [entry for entry in must_not if holds(reply, entry)]


def _stands(said: str, phrase: str) -> bool:
    return bool(re.search(rf"(?<!\w){re.escape(phrase)}s?(?!\w)", said))
