"""Head-to-heads whose votes are planted: pairs of answers, a key, and editors who vote by known chances."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from harness.ballot.design import Place
from harness.ballot.key import Key
from harness.ballot.make import new_key
from harness.ballot.prompts import Pair
from harness.ballot.sheet import sheet
from harness.ballot.votes import FIRST, SECOND, TIE, Votes, write_votes

SECRET = bytes(range(32))
MODELS = {
    "base": {"spec": "org/base-model", "digest": "ba5e" * 16},
    "candidate": {"spec": "./dpo-adapter", "digest": "ca4d" * 16},
}
CHOICES = np.array([1.0, 0.5, 0.0])  # candidate, tie, base


def pairs(count: int = 50) -> list[Pair]:
    return [Pair(f"Prompt {n}: write a paragraph.", f"Plain text {n}.", f"Better text {n}.") for n in range(count)]


def key_of(asked: list[Pair], secret: bytes = SECRET, **options) -> Key:
    return new_key(asked, **MODELS, secret=secret, **options)


def chosen(place: Place, won: float) -> int:
    """The choice on a page that means: the candidate won (1), tied (0.5) or lost (0)."""
    if won == 0.5:
        return TIE
    return FIRST if (won == 1) == place.candidate_first else SECOND


def planted(key: Key, seed: int, *, rates=(0.6, 0.1, 0.3), share=0.6, lazy=0.0, steady=1.0) -> dict[int, Votes]:
    """Votes of every editor.

    rates: of candidate, tie and base, so that the win rate is rates[0] + rates[1] / 2; share: chance that an editor
    takes the prompt's own verdict and not one of his own, so that Krippendorff's alpha is share^2; lazy: chance that he
    takes the first answer unread, so that the position bias is lazy / 2; steady: chance that a repeat is answered alike
    (and else turned round).
    """
    rng = np.random.default_rng(seed)
    shared = rng.choice(CHOICES, len(key.prompts), p=rates)
    found = {}
    for editor, places in enumerate(key.places, 1):
        own = np.where(rng.random(len(shared)) < share, shared, rng.choice(CHOICES, len(shared), p=rates))
        choices = {}
        for place in places:
            won = own[place.prompt]
            if place.repeat and rng.random() > steady:
                won = 1 - won if won != 0.5 else 1.0
            choices[place.token] = FIRST if rng.random() < lazy else chosen(place, won)
        found[editor] = Votes(f"votes-{editor}.json", editor, "", choices, {})
    return found


def hand_back(folder: Path, key: Key, asked: list[Pair], votes: dict[int, Votes]) -> Path:
    """The files that the editors' pages would have saved."""
    folder.mkdir(exist_ok=True)
    for editor, cast in votes.items():
        write_votes(folder, sheet(key, editor, asked), cast.choices, cast.comments, cast.simulated)
    return folder
