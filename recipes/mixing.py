"""Which general rows stand beside the domain's in each batch of a fine-tune: experience replay.

    python -m recipes.sft … --general general.jsonl --share 0.25

The number of domain rows that are seen stays that of the recipe without general rows, so that what both have learned
of the domain can be compared; the optimizer takes ceil(steps / (1 - share)) steps instead of `steps`.

Replay: Rolnick et al. 2019, arXiv:1811.11682; a share as small as 1% helps: Scialom et al. 2022, arXiv:2205.12393.
"""

from __future__ import annotations

import math
import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

from harness.specs import Unusable

WINDOW = 32  # shuffled general rows that are sorted by length, so that a batch holds rows of like length


@dataclass(frozen=True)
class Mix:
    """General rows for a fine-tune, with their file.

    share: of general rows among all rows seen, above 0 and below 1; kl: weight of the divergence from the base on them.
    """

    path: Path
    rows: Sequence[dict[str, str]]
    share: float
    kl: float = 0.0


def check_mix(general: str | Path | None, share: float, kl: float) -> None:
    """`Unusable` for shares and weights that are none, and for those that act on nothing."""
    if not 0 <= share < 1:
        raise Unusable(f"--share {share} is no share of the rows; write a number from 0 to below 1, as in 0.25.")
    if not 0 <= kl < math.inf:
        raise Unusable(f"--kl {kl} is no weight; write 0 or a number above it, as in 0.1.")
    if share and general is None:
        raise Unusable(f"--share {share} has no general rows to take; name them with --general FILE.")
    if not share and general is not None:
        raise Unusable(f"--general {general} at --share 0 is not used; write a share above 0, as in --share 0.25.")
    if not share and kl:
        raise Unusable(f"--kl {kl} acts on general rows and there are none; add --general FILE --share 0.25.")


def rows_seen(steps: int, batch: int, share: float) -> tuple[int, int, int]:
    """(domain rows, general rows, optimizer steps) that make `share` of all rows general; at least one is."""
    domain = steps * batch
    general = max(1, round(domain * share / (1 - share)))
    return domain, general, math.ceil((domain + general) / batch)


def draw(
    general: Sequence[bool], lengths: Sequence[int], steps: int, batch: int, share: float, seed: int
) -> list[list[int]]:
    """The numbers of the rows of each batch, as lists.

    general, lengths: of each row; steps, batch: of the recipe without general rows. Both kinds are spread evenly over
    the batches, so that each batch mixes them where `share` comes to one row of it. A kind begins again, in another
    order, when it is used up.
    """
    domain, others, total = rows_seen(steps, batch, share)
    streams = []
    for kind, window in ((False, 1), (True, WINDOW)):
        rows = [row for row, is_general in enumerate(general) if bool(is_general) == kind]
        streams.append(_endless(rows, lengths, window, random.Random(f"{seed}/{kind}")))
    seen = domain + others
    kinds = [(n + 1) * others // seen > n * others // seen for n in range(seen)]  # general rows at equal distances
    ends = [step * seen // total for step in range(total + 1)]
    return [[next(streams[kind]) for kind in kinds[start:end]] for start, end in pairwise(ends)]


def _endless(rows: Sequence[int], lengths: Sequence[int], window: int, rng: random.Random) -> Iterator[int]:
    while rows:
        shuffled = rng.sample(rows, len(rows))
        for start in range(0, len(shuffled), window):
            yield from sorted(shuffled[start : start + window], key=lambda row: lengths[row])
