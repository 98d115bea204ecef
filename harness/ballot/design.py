"""Who sees what: the order of the prompts, the side of each answer and the repeats, all drawn from one secret.

Sides are balanced twice. Each editor sees the candidate first on half of the prompts, so that liking the first answer
moves no win rate; and each prompt is seen both ways round by the editors, as evenly as their number allows. A few
prompts come again, far from their first time and the other way round: they measure an editor's consistency and count
for nothing else. Orders and sides are drawn apart, so that neither tells anything of the other.
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

REPEATS = 4  # prompts that each editor sees again
APART = 10  # ballot places between a prompt and its repeat, where the ballot is long enough


@dataclass(frozen=True)
class Place:
    """One question of a ballot. prompt: index; candidate_first: the side; repeat: shown before, the other way round."""

    token: str
    prompt: int
    candidate_first: bool
    repeat: bool = False


def keyed(secret: bytes, *parts: object) -> str:
    """32 hex digits that only the secret's owner can make: HMAC-SHA256 (RFC 2104) over the parts, cut to 128 bits."""
    message = "\x1f".join(map(str, parts)).encode()
    return hmac.new(secret, message, hashlib.sha256).hexdigest()[:32]


def ballots(prompts: Sequence[str], editors: int, secret: bytes, repeats: int = REPEATS) -> list[list[Place]]:
    """The places of each editor's ballot, in their order; prompts: ids. The same secret gives the same ballots."""
    sides = _sides(len(prompts), editors, _generator(secret, "sides"))
    return [
        _ballot(prompts, sides[:, editor], editor + 1, secret, repeats)  # editors count from 1, as people do
        for editor in range(editors)
    ]


def _ballot(prompts: Sequence[str], first: np.ndarray, editor: int, secret: bytes, repeats: int) -> list[Place]:
    order = [int(n) for n in _generator(secret, "order", editor).permutation(len(prompts))]
    again = _repeated(order, first, repeats, _generator(secret, "repeats", editor))
    places = [Place(keyed(secret, "item", editor, prompts[n], 1), n, bool(first[n])) for n in order]
    rng = _generator(secret, "places", editor)
    for n in again:
        earliest = min(next(i for i, place in enumerate(places) if place.prompt == n) + 1 + APART, len(places))
        repeat = Place(keyed(secret, "item", editor, prompts[n], 2), n, not first[n], repeat=True)
        places.insert(int(rng.integers(earliest, len(places) + 1)), repeat)
    return places


def _repeated(order: Sequence[int], first: np.ndarray, repeats: int, rng: np.random.Generator) -> list[int]:
    """Prompts to show again: from the first half where that gives enough, half of them with the candidate first."""
    early = order[: max(repeats, len(order) // 2)]
    sides = [[n for n in early if first[n] == side] for side in (True, False)]
    rng.shuffle(sides[0])
    rng.shuffle(sides[1])
    longer = max(map(len, sides))
    mixed = [side[n] for n in range(longer) for side in sides if n < len(side)]
    return mixed[:repeats]


def _sides(prompts: int, editors: int, rng: np.random.Generator) -> np.ndarray:
    """[prompts, editors] True where the candidate comes first.

    Rows come in pairs, each the other turned round, so that every column is even; a row has as many ones as zeros, or
    one more or less.
    """
    sides = np.zeros((prompts, editors), dtype=bool)
    shuffled = rng.permutation(prompts)
    for at in range(0, prompts, 2):
        row = rng.permutation(np.arange(editors) < (editors + int(rng.integers(2))) // 2)
        sides[shuffled[at]] = row
        if at + 1 < prompts:
            sides[shuffled[at + 1]] = ~row
    return sides


def _generator(secret: bytes, *parts: object) -> np.random.Generator:
    return np.random.default_rng(int(keyed(secret, "design", *parts), 16))
