"""Held-out pairs: no prompt stands on both sides, and prompts that nearly repeat each other stay on one.

    train, test = split(pairs, held_out=300, seed=0)
    train, test = split(pairs, held_out=1000, by="category")     # each category gives its share

Two prompts are near duplicates if the sets of their runs of `RUN` words have a Jaccard similarity of at least `ALIKE`
(Broder 1997, "On the resemblance and containment of documents"), or if one goes on from the other, as a conversation
does at a later turn; what is joined through a third stays together too.
All prompts are compared with all, exactly: a sketch (MinHash) would pay above some ten thousand prompts.
"""

from __future__ import annotations

import random
import re
from collections import Counter
from collections.abc import Sequence

import numpy as np
from scipy.sparse import csr_matrix
from scipy.sparse.csgraph import connected_components

from harness.pairs import Pair
from harness.specs import Unusable

RUN = 3  # words
ALIKE = 0.6
BEGINNING = 20  # characters: a shorter beginning is a greeting
LONG_WORDS = 15  # characters of a word on average, beyond which they are no words
ROWS = 512  # prompts compared with all others at a time
WORD = re.compile(r"\w+")


def split(
    pairs: Sequence[Pair], held_out: int = 300, seed: int = 0, alike: float = ALIKE, by: str | None = None
) -> tuple[list, list]:
    """(training pairs, held-out pairs), each in the order given.

    Groups of near-duplicate prompts are drawn by `seed` until `held_out` pairs are reached; a group that would pass it
    is left to the training side, so the number is met exactly where groups are small. by: a label of `Pair`, say
    "category"; then each of its values gives its share of the held-out pairs, in the same way. `Unusable` where a
    number cannot be met to within a tenth (a share: or one pair), or nothing would be left to train on.
    """
    if not 0 < held_out < len(pairs):
        raise Unusable(
            f"{held_out} of {len(pairs)} pairs cannot be held out; write a number from 1 to {max(1, len(pairs) - 1)}."
        )
    prompts = list(dict.fromkeys(pair.prompt for pair in pairs))
    group_of = dict(zip(prompts, near_duplicates(prompts, alike), strict=True))
    labels = [getattr(pair, by) if by else None for pair in pairs]
    members: dict[int, list[int]] = {}
    for at, pair in enumerate(pairs):
        members.setdefault(group_of[pair.prompt], []).append(at)
    shares = _shares(labels, held_out)
    left, chosen = Counter(shares), set()
    for group in random.Random(f"held out/{seed}").sample(sorted(members), len(members)):
        own = Counter(labels[at] for at in members[group])
        if own <= left:
            left -= own
            chosen |= set(members[group])
    short = [label for label, count in left.items() if count > max(1, 0.1 * shares[label])]
    if short or len(chosen) < 0.9 * held_out or len(chosen) == len(pairs):
        largest = max(len(group) for group in members.values())
        part = f" (of the {by} '{short[0]}', {shares[short[0]]})" if by and short else ""
        raise Unusable(
            f"{held_out} of {len(pairs)} pairs{part} cannot be held out, as near-duplicate prompts stay together and"
            f" the largest group of them has {largest} pairs; give prompts that differ more, or hold out another"
            " number."
        )
    return [p for at, p in enumerate(pairs) if at not in chosen], [p for at, p in enumerate(pairs) if at in chosen]


def _shares(labels: Sequence[str | None], held_out: int) -> dict[str | None, int]:
    """How many pairs of each label to hold out: in proportion, rounded so that they add up to `held_out`."""
    counts = Counter(labels)
    exact = {label: held_out * count / len(labels) for label, count in counts.items()}
    shares = {label: int(share) for label, share in exact.items()}
    by_rest = sorted(counts, key=lambda label: shares[label] - exact[label])  # stable: the first seen wins a tie
    for label in by_rest[: held_out - sum(shares.values())]:
        shares[label] += 1
    return shares


def near_duplicates(texts: Sequence[str], alike: float = ALIKE) -> list[int]:
    """The group of each text, numbered in the order of first appearance; texts of one group nearly repeat each other.

    A text of fewer than `RUN` words is one run.
    """
    if not texts:
        return []
    sets = [_runs(text) for text in texts]
    number: dict[str, int] = {}
    columns = [number.setdefault(run, len(number)) for runs in sets for run in sorted(runs)]
    sizes = np.array([len(runs) for runs in sets])
    ends = np.concatenate([[0], np.cumsum(sizes)])
    table = csr_matrix((np.ones(len(columns), np.int32), columns, ends), shape=(len(texts), max(1, len(number))))
    rows, others = [], []
    for start in range(0, len(texts), ROWS):
        shared = (table[start : start + ROWS] @ table.T).tocoo()  # [block, texts]: runs in common
        near = shared.data >= alike * (sizes[start + shared.row] + sizes[shared.col] - shared.data)
        rows.append(start + shared.row[near])
        others.append(shared.col[near])
    begun, gone_on = _continuations(texts)
    links = np.concatenate([*rows, begun]), np.concatenate([*others, gone_on])
    graph = csr_matrix((np.ones(len(links[0]), np.int8), links), shape=(len(texts), len(texts)))
    labels = connected_components(graph, directed=False)[1]
    order: dict[int, int] = {}
    return [order.setdefault(int(label), len(order)) for label in labels]


def _continuations(texts: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
    """Numbers of texts of `BEGINNING` characters or more, and of texts that begin with them."""
    begun: list[int] = []
    links: list[tuple[int, int]] = []
    for n in sorted(range(len(texts)), key=lambda n: texts[n]):  # what begins with a text follows it
        while begun and not texts[n].startswith(texts[begun[-1]]):
            begun.pop()
        links += [(begun[-1], n)] if begun else []
        begun += [n] if len(texts[n]) >= BEGINNING else []
    found = np.array(links, dtype=np.intp).reshape(-1, 2)
    return found[:, 0], found[:, 1]


def _runs(text: str) -> set[str]:
    """Runs of words, or of characters where words are not set apart by spaces."""
    words = WORD.findall(text.lower())
    if sum(map(len, words)) > LONG_WORDS * len(words):
        words = list("".join(words))
    return {" ".join(words[at : at + RUN]) for at in range(max(1, len(words) - RUN + 1))}
