"""Implicit rewards: how much more a DPO model likes an answer than its base does.

    reward(answer) = beta * (log p_candidate(answer | prompt) - log p_base(answer | prompt))

The margin of a pair is the chosen answer's reward minus the rejected one's; the model is right where it is above 0, and
a tie counts half (Rafailov et al. 2023, arXiv:2305.18290, section 5). beta scales margins and decides no pair.

Length is controlled in two ways, both beside the plain accuracy. Normalised: rewards per token, so that no answer wins
by having more tokens to gain on (as in SimPO, Meng et al. 2024, arXiv:2405.14734). Matched: plain margins on the pairs
alone whose answers differ by at most a tenth in tokens, where length can decide next to nothing.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from harness.pairs import Pair
from harness.store import Score

PREFERS, CHOSEN, REJECTED = "prefers_chosen", "chosen_loglikelihood", "rejected_loglikelihood"
CHOSEN_TOKENS, REJECTED_TOKENS = "chosen_tokens", "rejected_tokens"
TIE = 1e-6  # nats: below what two ways to add float32 numbers differ by
MATCHED = 0.1  # of the longer answer's tokens


@dataclass(frozen=True)
class Margins:
    """plain, normalised: [pairs, runs] margins, a run being one trained candidate; tokens: [pairs, 2] chosen, rejected.

    base: [pairs], 1, 0.5 or 0: which answer the base itself finds likelier.
    """

    pairs: tuple[Pair, ...]
    plain: NDArray[np.float64]
    normalised: NDArray[np.float64]
    tokens: NDArray[np.float64]
    base: NDArray[np.float64]

    @property
    def right(self) -> NDArray[np.float64]:
        """[pairs, runs]"""
        return won(self.plain)

    @property
    def right_per_token(self) -> NDArray[np.float64]:
        """[pairs, runs]"""
        return won(self.normalised)

    @property
    def matched(self) -> NDArray[np.bool_]:
        """[pairs]: the two answers differ by at most a tenth in tokens."""
        return np.abs(self.tokens[:, 0] - self.tokens[:, 1]) <= MATCHED * self.tokens.max(axis=1)

    def kinds(self, label: str) -> dict[str, NDArray[np.bool_]]:
        """Fault or category -> [pairs], in the order of the names; pairs without one are in none."""
        names = [getattr(pair, label) for pair in self.pairs]
        known = sorted({name for name in names if name is not None})
        return {kind: np.array([name == kind for name in names]) for kind in known}


def won(margin: ArrayLike) -> NDArray[np.float64]:
    """1 where a margin is above 0, 0 where it is below, 0.5 for a tie."""
    margin = np.asarray(margin, float)
    return np.where(np.abs(margin) <= TIE, 0.5, (margin > 0).astype(float))


def margins(
    pairs: Sequence[Pair], base: Mapping[str, Score], candidates: Sequence[Mapping[str, Score]], beta: float
) -> Margins:
    """Scores by pair id -> margins, aligned by id; pairs that the base has no score of (too long) are left out.

    candidates: of each training run. ValueError where a candidate lacks what the base has, or counts other tokens.
    """
    kept = tuple(pair for pair in pairs if pair.id in base)
    for run, scores in enumerate(candidates):
        if missing := [pair.id for pair in kept if pair.id not in scores]:
            raise ValueError(f"candidate {run} has no score of pair {missing[0]} ({len(missing)} in all); evaluate it")
    tokens = _column(kept, base, CHOSEN_TOKENS, REJECTED_TOKENS)
    ours = [_column(kept, scores, CHOSEN, REJECTED) for scores in candidates]
    change = np.stack(ours) - _column(kept, base, CHOSEN, REJECTED)  # [runs, pairs, 2]
    per_token = change / tokens
    return Margins(
        pairs=kept,
        plain=beta * (change[:, :, 0] - change[:, :, 1]).T,
        normalised=beta * (per_token[:, :, 0] - per_token[:, :, 1]).T,
        tokens=tokens,
        base=np.array([base[pair.id].metrics[PREFERS] for pair in kept]),
    )


def _column(pairs: Sequence[Pair], scores: Mapping[str, Score], *names: str) -> NDArray[np.float64]:
    return np.array([[scores[pair.id].metrics[name] for name in names] for pair in pairs], float)
