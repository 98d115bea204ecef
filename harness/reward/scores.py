"""What reward models of one recipe give to held-out pairs: the values that everything about them is computed from.

    found = read_scores("scores.jsonl")     # as `write_scores` keeps them, one pair and run a line
    found.margin, found.right

A margin is the chosen answer's score minus the rejected one's. Under the Bradley-Terry model sigmoid(margin) is the
probability that a rater takes the chosen answer (Bradley & Terry 1952; Ouyang et al. 2022, arXiv:2203.02155, eq. 1).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from harness.implicit_rewards import won
from harness.jsonl import records, write
from harness.pairs import Pair
from harness.specs import Unusable

SIDES = ("chosen", "rejected")
REORDERED, TRUNCATED, BLIND = "reordered", "truncated", "blind"
PROBES = {
    REORDERED: "the same texts in another order and other batches",
    TRUNCATED: "the oldest fifth of the conversation cut away",
    BLIND: "the answers without their conversation",
}
FORM = '{"id", "run", "chosen", "rejected"}'
UNASKED = [np.nan, np.nan]


@dataclass(frozen=True)
class RewardScores:
    """scores: [pairs, runs, 2], chosen before rejected, a run being one training of the recipe; NaN and Inf are kept.

    runs: their names; tokens: [pairs, 2] of the answers; probes: name of `PROBES` -> [pairs, runs, 2], the scores of
    the same answers asked otherwise; those that were not asked are missing. probed: [pairs], those that the probes were
    asked on, whose scores ought to be numbers; None: those with a number in any of them.
    """

    pairs: tuple[Pair, ...]
    runs: tuple[str, ...]
    scores: NDArray[np.float64]
    tokens: NDArray[np.float64]
    probes: Mapping[str, NDArray[np.float64]] = field(default_factory=dict)
    probed: NDArray[np.bool_] | None = None

    def __post_init__(self):
        shape = (len(self.pairs), len(self.runs), 2)
        for name, found in {"scores": self.scores, **self.probes}.items():
            if found.shape != shape:
                raise ValueError(f"{name} has the shape {found.shape}, but pairs, runs and sides make {shape}")
        if self.tokens.shape != (len(self.pairs), 2):
            raise ValueError(f"tokens has the shape {self.tokens.shape}, but there are {len(self.pairs)} pairs")

    @property
    def margin(self) -> NDArray[np.float64]:
        """[pairs, runs]"""
        return margin(self.scores)

    @property
    def prompts(self) -> NDArray[np.object_]:
        """[pairs]: pairs of one prompt are no independent ones."""
        return np.array([pair.prompt for pair in self.pairs], object)

    @property
    def right(self) -> NDArray[np.float64]:
        """[pairs, runs]: 1 where the chosen answer scores higher, 0.5 for a tie; a score that is no number is wrong."""
        return right(self.scores)

    @property
    def longer(self) -> NDArray[np.float64]:
        """[pairs]: tokens of the chosen answer minus those of the rejected one."""
        return self.tokens[:, 0] - self.tokens[:, 1]

    def asked(self, probe: str) -> NDArray[np.bool_]:
        """[pairs]: those that a probe was asked on."""
        return ~np.isnan(self.probes[probe]).all(axis=(1, 2)) if self.probed is None else self.probed

    def categories(self) -> dict[str, NDArray[np.bool_]]:
        """Category -> [pairs], in the order of the names; pairs without one are in none."""
        names = [pair.category for pair in self.pairs]
        known = sorted({name for name in names if name is not None})
        return {kind: np.array([name == kind for name in names]) for kind in known}


def margin(scores: NDArray[np.float64]) -> NDArray[np.float64]:
    """[…, 2] -> […]"""
    with np.errstate(invalid="ignore"):  # Inf minus Inf
        return scores[..., 0] - scores[..., 1]


def right(scores: NDArray[np.float64]) -> NDArray[np.float64]:
    """[…, 2] -> […]: 1, 0.5 for a tie, 0 where the rejected answer scores higher or a score is no number."""
    return np.where(np.isfinite(scores).all(axis=-1), won(margin(scores)), 0.0)


def write_scores(found: RewardScores, path: Path) -> None:
    """One line for each pair and run, with the probes that were asked."""
    rows = []
    for at, pair in enumerate(found.pairs):
        for number, run in enumerate(found.runs):
            row: dict[str, Any] = {"id": pair.id, "run": run}
            row |= dict(zip(SIDES, map(float, found.scores[at, number]), strict=True))
            row |= dict(zip(("chosen_tokens", "rejected_tokens"), map(float, found.tokens[at]), strict=True))
            probes = {name: probe[at, number] for name, probe in found.probes.items() if found.asked(name)[at]}
            row |= {name: list(map(float, probe)) for name, probe in probes.items()}
            rows.append(row)
    write(path, rows)


def read_scores(path: Path, pairs: Sequence[Pair]) -> RewardScores:
    """What `write_scores` wrote, for these pairs; `Unusable` names the pair and run that is missing or not a score."""
    rows: dict[tuple[str, str], Mapping[str, Any]] = {}
    for number, row in records(path, FORM):
        if not isinstance(row, dict) or not _is_scored(row):
            raise Unusable(f"{path.name} line {number} is not {FORM} with two scores; write one line a pair and run.")
        rows[row["id"], row["run"]] = row
    runs = tuple(dict.fromkeys(run for _, run in rows))
    missing = [(pair.id, run) for pair in pairs for run in runs if (pair.id, run) not in rows]
    if missing or not runs:
        what = f"no score of pair '{missing[0][0]}' by run '{missing[0][1]}'" if missing else "no scores"
        raise Unusable(f"{path.name} has {what} ({len(missing)} in all); score every pair by every run.")
    table = [[rows[pair.id, run] for run in runs] for pair in pairs]
    probes = [name for name in PROBES if any(name in row for own in table for row in own)]
    probed = np.array([any(name in own[0] for name in probes) for own in table], bool)
    return RewardScores(
        tuple(pairs),
        runs,
        np.array([[[row[side] for side in SIDES] for row in own] for own in table], float),
        np.array([[own[0].get(f"{side}_tokens", 0) for side in SIDES] for own in table], float),
        {name: np.array([[row.get(name, UNASKED) for row in own] for own in table], float) for name in probes},
        probed,
    )


def _is_scored(row: Mapping[str, Any]) -> bool:
    named = all(isinstance(row.get(key), str) for key in ("id", "run"))
    return named and all(isinstance(row.get(side), int | float) for side in SIDES)
