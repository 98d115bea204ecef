"""Reward scores with a known fault, or none: what the diagnostics are asked on. Seeded; no model is trained.

Two answers of a pair lie u apart for an ideal rater, u ~ N(0, spread of the category), who takes the better one with
probability sigmoid(|u|): margins of a calibrated model, right on 80 to 90% of the pairs. A run adds noise of its own.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from scipy.special import expit

from harness.pairs import Pair
from harness.reward.scores import BLIND, REORDERED, TRUNCATED, RewardScores

SPREADS = {"brevity": 5.0, "hallucination": 2.2, "helpfulness": 3.5, "refusals": 2.8, "tone": 2.5}
RUNS = ("seed0", "seed1", "seed2")
NOISE = 0.6  # standard deviation of a margin between two runs, over the square root of two
PROBED = 300


def sound(seed: int, count: int = 500, runs: tuple[str, ...] = RUNS) -> RewardScores:
    """Calibrated, three runs as alike as trainings are, lengths that say nothing outside brevity, all probes."""
    rng = np.random.default_rng(seed)
    names = [list(SPREADS)[n % len(SPREADS)] for n in range(count)]
    apart = np.abs(rng.normal(0, [SPREADS[name] for name in names]))
    ideal = apart * np.where(rng.random(count) < expit(apart), 1, -1)
    margin = ideal[:, None] + rng.normal(0, NOISE, (count, len(runs)))
    scores = around(margin, rng)
    pairs = tuple(Pair(f"p{n}", f"prompt {n}", "chosen", "rejected", category=name) for n, name in enumerate(names))
    probes = {
        REORDERED: scores + rng.normal(0, 1e-6, scores.shape),
        TRUNCATED: around(margin + rng.normal(0, 0.5, margin.shape), rng),
        BLIND: around(0.4 * ideal[:, None] + rng.normal(0, 2.0, margin.shape), rng),
    }
    for probe in probes.values():
        probe[PROBED:] = np.nan
    return RewardScores(pairs, runs, scores, _tokens(names, rng), probes)


def around(margin: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Margins [pairs, runs] -> scores [pairs, runs, 2] around one level for each prompt."""
    level = rng.normal(0, 1, (len(margin), 1))
    return np.stack([level + margin / 2, level - margin / 2], axis=-1)


def _tokens(names: list[str], rng: np.random.Generator) -> np.ndarray:
    """Equally long answers but for chance; in brevity the rejected one is padded."""
    tokens = rng.lognormal(4, 0.25, (len(names), 2))
    tokens[:, 1] *= np.where(np.array(names) == "brevity", 1.6, 1.0)
    return tokens.round()


def constant(seed: int) -> RewardScores:
    """A head that never learned: one value, but for rounding."""
    found = sound(seed)
    return _scored(found, 0.3 + np.random.default_rng(seed).normal(0, 1e-8, found.scores.shape))


def length_only(seed: int) -> RewardScores:
    """A head that counts tokens, with a little noise, on pairs whose chosen answer is mostly the longer one."""
    found, rng = sound(seed), np.random.default_rng(seed)
    mixed = rng.random(len(found.pairs)) < 0.75
    tokens = np.where(mixed[:, None], np.sort(found.tokens, axis=1)[:, ::-1], np.sort(found.tokens, axis=1))
    scores = 4 * np.log(tokens)[:, None, :] + rng.normal(0, 0.05, found.scores.shape)
    return _scored(replace(found, tokens=tokens), scores)


def saturated(seed: int) -> RewardScores:
    """Right as often as the sound model, and always certain."""
    found = sound(seed)
    return _scored(found, 20 * found.scores)


def one_reversed(seed: int, category: str = "tone") -> RewardScores:
    """One category trained with chosen and rejected exchanged."""
    found = sound(seed)
    own = found.categories()[category]
    return _scored(found, np.where(own[:, None, None], found.scores[..., ::-1], found.scores))


def broken_weights(seed: int) -> RewardScores:
    """One of three runs has NaN weights, and so gives NaN for everything."""
    found = sound(seed)
    scores, probes = found.scores.copy(), {name: probe.copy() for name, probe in found.probes.items()}
    for values in (scores, *probes.values()):
        values[:, 1] = np.nan
    return replace(found, scores=scores, probes=probes)


def shuffled(seed: int) -> RewardScores:
    """Trained on shuffled labels: margins of the usual size that know nothing, in each run others."""
    found, rng = sound(seed), np.random.default_rng(seed)
    return _scored(found, around(rng.normal(0, 2.5, found.margin.shape), rng))


def one_value_for(seed: int, category: str = "refusals") -> RewardScores:
    """All answers of one category get one value, but for a little noise."""
    found, rng = sound(seed), np.random.default_rng(seed)
    own = found.categories()[category]
    return _scored(found, np.where(own[:, None, None], 1 + rng.normal(0, 0.02, found.scores.shape), found.scores))


def same_margin(seed: int) -> RewardScores:
    """A model that sees which answer is the chosen one: the same margin everywhere."""
    found, rng = sound(seed), np.random.default_rng(seed)
    return _scored(found, around(3 + rng.normal(0, 0.1, found.margin.shape), rng))


def by_batch(seed: int) -> RewardScores:
    """One answer's score depends on what it is padded with."""
    found = sound(seed)
    probe = found.probes[REORDERED].copy()
    probe[7, 2, 0] += 0.1
    return replace(found, probes={**found.probes, REORDERED: probe})


def _scored(found: RewardScores, scores: np.ndarray) -> RewardScores:
    """These scores, whatever the order; the other probes stay as they are asked."""
    return replace(found, scores=scores, probes={**found.probes, REORDERED: scores.copy()})
