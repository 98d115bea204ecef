"""Pairs -> what reward models score them, out of the store where that was asked before.

    found = reward_scores(base, {"seed0": candidate, …}, pairs, store)

Each way of asking - as they are, and the probes of `harness.reward.scores` - is a benchmark of its own in the store.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from harness.checkpoints import CheckedModel
from harness.evaluate import package_versions
from harness.fingerprint import digest_of
from harness.pairs import Pair, pairs_digest
from harness.reward.models import RewardModels, depth_of
from harness.reward.scores import BLIND, PROBES, REORDERED, SIDES, TRUNCATED, RewardScores
from harness.reward.texts import answer_tokens, answered, oldest_cut, scoring_tokenizer
from harness.store import Cell, Score, Store

VERSION = 3  # raise it when scores may change
PROBED = 300  # pairs that the probes are asked on
AT_ONCE = 64  # pairs between two transactions
PLAIN = "plain"


def reward_scores(
    base: CheckedModel,
    candidates: Mapping[str, CheckedModel],
    pairs: Sequence[Pair],
    store: Store,
    device: str = "cpu",
    dtype: str = "float32",
    progress: Callable[[str, int, int], None] = lambda what, done, of: None,
) -> RewardScores:
    """candidates: run -> model; progress: called with what is asked, and how many of how many pairs are done.

    The probes are asked on `PROBED` pairs, drawn once for all; NaN stands for the others.
    """
    asker = _Asker(base, candidates, store, device, dtype, progress)
    tokenizer = asker.tokenizer
    probed = set(random.Random("reward/probes").sample(range(len(pairs)), min(PROBED, len(pairs))))
    some = [pair for at, pair in enumerate(pairs) if at in probed]
    probes = {}
    for name in PROBES:
        probes[name] = np.full((len(pairs), len(candidates), 2), np.nan)
        probes[name][sorted(probed)] = asker.ask(name, some)
    tokens = [[answer_tokens(pair, side, tokenizer) for side in SIDES] for pair in pairs]
    plain = asker.ask(PLAIN, pairs)
    return RewardScores(
        tuple(pairs), tuple(candidates), plain, np.array(tokens, float), probes, np.isin(range(len(pairs)), [*probed])
    )


class _Asker:
    """Asks what the store lacks; the models are loaded for the first question that it cannot answer."""

    def __init__(self, base, candidates: Mapping[str, CheckedModel], store: Store, device, dtype, progress):
        self.base, self.candidates, self.store = base, dict(candidates), store
        self.device, self.dtype, self.progress = device, dtype, progress
        self.tokenizer = scoring_tokenizer(base)
        self._models: RewardModels | None = None

    def ask(self, way: str, pairs: Sequence[Pair]) -> NDArray[np.float64]:
        """[pairs, candidates, 2]"""
        benchmark = digest_of([VERSION, way, pairs_digest(pairs)])
        cells = {run: self._cell(candidate, benchmark) for run, candidate in self.candidates.items()}
        stored = {run: self.store.get(cell) for run, cell in cells.items()}
        missing = [pair for pair in pairs if any(pair.id not in scores for scores in stored.values())]
        for start in range(0, len(missing), AT_ONCE):
            self.progress(way, len(pairs) - len(missing) + start, len(pairs))
            block = missing[start : start + AT_ONCE]
            found = self._scores(way, block)
            for column, (run, cell) in enumerate(cells.items()):
                rows = [
                    Score(cell, pair.id, dict(zip(SIDES, map(float, found[at, column]), strict=True)), [])
                    for at, pair in enumerate(block)
                ]
                self.store.put(rows)
                stored[run] |= {row.item: row for row in rows}
        self.progress(way, len(pairs), len(pairs))
        runs = [[stored[run][pair.id].metrics for run in self.candidates] for pair in pairs]
        return np.array([[[metrics[side] for side in SIDES] for metrics in own] for own in runs], float)

    def _cell(self, candidate: CheckedModel, benchmark: str) -> Cell:
        model = [self.base.digest, candidate.digest, depth_of(candidate)]  # the base's template renders the texts
        run = [*model, self.dtype, self.device.partition(":")[0], package_versions()]
        return Cell(digest_of(["reward", *run]), benchmark, 0)

    def _scores(self, way: str, pairs: Sequence[Pair]) -> NDArray[np.float64]:
        """[pairs, candidates, 2]"""
        if self._models is None:
            self._models = RewardModels(self.base, list(self.candidates.values()), self.device, self.dtype)
        prompts = {BLIND: lambda pair: "", TRUNCATED: lambda pair: oldest_cut(pair.prompt)}
        prompt = prompts.get(way, lambda pair: None)
        texts = [answered(pair, side, self.tokenizer, prompt(pair)) for pair in pairs for side in SIDES]
        found = self._models.scores(texts, shuffled=1 if way == REORDERED else None)
        return found.reshape(len(pairs), 2, -1).swapaxes(1, 2)
