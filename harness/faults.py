"""What is wrong with the form of a written answer, whatever it says: a model can lose the skill or only the format."""

from __future__ import annotations

import re

EMPTY, TRUNCATED, LOOPING = "empty", "truncated", "looping"
FAULTS = (EMPTY, TRUNCATED, LOOPING)
REPEATS = 4  # times that the same words must follow each other
LONGEST_PERIOD = 30  # words
SLACK = 2  # a text that was cut at its limit may take a token or two less when it is encoded again


def faults(text: str, tokens: int, limit: int | None) -> dict[str, float]:
    """1.0 or 0.0 for each of FAULTS.

    empty: no letter or digit in it; truncated: its `tokens` reach the `limit` of an answer; looping: it ends in the
    same one to thirty words, at least four times in a row and at least twelve words in all.
    """
    return {
        EMPTY: float(not re.search(r"\w", text)),
        TRUNCATED: float(limit is not None and tokens >= limit - SLACK),
        LOOPING: float(_loops(text.split())),
    }


def _loops(words: list[str]) -> bool:
    for period in range(1, LONGEST_PERIOD + 1):
        times = max(REPEATS, -(-12 // period))
        tail = words[-period * times :]
        if len(tail) == period * times and tail == tail[:period] * times:
            return True
    return False
