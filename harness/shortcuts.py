"""What rules that understand nothing reach on held-out pairs: the figure that a trained model must clearly beat.

    for rule in measure(train, held_out): print(rule.name, rule.accuracy)

The learned rules get all training pairs, also where the model saw fewer. Each is a logistic regression on the
difference of the two answers' features, without an intercept, so that it cannot depend on which answer is named first.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from harness.pairs import Pair
from harness.stats import by_source

TOKEN = r"\w+"
FEWEST = 2  # training texts that a word or pair of words must stand in to be a feature
FIRST = 3  # words of an answer that the rule "first words" sees
FIGURE = re.compile(r"\d[\d,.]*")  # with what stands between thousands, and before decimals


@dataclass(frozen=True)
class Rule:
    """right: [held-out pairs] 1, 0, or 0.5 for a tie; by_fault, by_category: the mean of each kind that is named."""

    name: str
    right: tuple[float, ...]
    by_fault: dict[str, float]
    by_category: dict[str, float]

    @property
    def accuracy(self) -> float:
        """Share of the held-out pairs, in [0, 1]."""
        return sum(self.right) / len(self.right)


def measure(train: Sequence[Pair], held_out: Sequence[Pair]) -> list[Rule]:
    """The rules, each asked which answer of a held-out pair was chosen; seeded by nothing, as nothing is drawn."""
    words, first, overlap = _Words(train), _Words(train, FIRST), _Overlap(train)
    return [
        _rule("longer answer", held_out, _longer(held_out)),
        _rule("larger figures", held_out, _larger_figures(held_out)),
        _rule("first words", held_out, _learned(train, held_out, [first])),
        _rule("bag of words", held_out, _learned(train, held_out, [words])),
        _rule("bag of words, overlap with the prompt, length", held_out, _learned(train, held_out, [words, overlap])),
    ]


def _rule(name: str, pairs: Sequence[Pair], margin: NDArray[np.float64]) -> Rule:
    """margin: [pairs], above 0 where the rule takes the chosen answer; 0 is a tie."""
    right = (np.sign(margin) + 1) / 2
    return Rule(name, tuple(right.tolist()), by_label(pairs, right, "fault"), by_label(pairs, right, "category"))


def by_label(pairs: Sequence[Pair], values: Sequence[float], label: str) -> dict[str, float]:
    """Fault or category -> mean value of its prompts, in the order of the names; pairs without one are left out."""
    kept: dict[str, list[tuple[float, str]]] = {}
    for pair, value in zip(pairs, values, strict=True):
        if (name := getattr(pair, label)) is not None:
            kept.setdefault(name, []).append((float(value), pair.prompt))
    return {name: float(by_source(*zip(*own, strict=True)).mean()) for name, own in sorted(kept.items())}


def _longer(pairs: Sequence[Pair]) -> NDArray[np.float64]:
    return np.array([len(pair.chosen.split()) - len(pair.rejected.split()) for pair in pairs], float)


def _larger_figures(pairs: Sequence[Pair]) -> NDArray[np.float64]:
    def total(text: str) -> float:
        return sum(np.log1p(float(re.sub(r"\D", "", figure))) for figure in _figures(text))

    return np.array([total(pair.chosen) - total(pair.rejected) for pair in pairs]).round(12)


def _figures(text: str) -> list[str]:
    return [figure.rstrip(".,") for figure in FIGURE.findall(text)]


class _Words:
    """Counts of words and of pairs of words, all figures being one word; first: of so many words at the start only."""

    def __init__(self, train: Sequence[Pair], first: int | None = None):
        from sklearn.feature_extraction.text import CountVectorizer

        self.first = first
        self.counts = CountVectorizer(token_pattern=TOKEN, ngram_range=(1, 2))
        found = self.counts.fit_transform(self._texts(train, "chosen") + self._texts(train, "rejected"))
        self.kept = np.flatnonzero(np.bincount(found.indices, minlength=found.shape[1]) >= FEWEST)

    def difference(self, pairs: Sequence[Pair]):
        chosen, rejected = (self.counts.transform(self._texts(pairs, side)) for side in ("chosen", "rejected"))
        return (chosen - rejected)[:, self.kept]

    def _texts(self, pairs: Sequence[Pair], side: str) -> list[str]:
        texts = [_plain(getattr(pair, side)) for pair in pairs]
        return texts if self.first is None else [" ".join(re.findall(TOKEN, text)[: self.first]) for text in texts]


class _Overlap:
    """How much of an answer stands in its prompt - words, pairs of words, figures - and its length, standardised."""

    def __init__(self, train: Sequence[Pair]):
        self.scale = np.maximum(_overlaps(train).std(axis=0), 1e-9)

    def difference(self, pairs: Sequence[Pair]):
        from scipy.sparse import csr_matrix

        return csr_matrix(_overlaps(pairs) / self.scale)


def _overlaps(pairs: Sequence[Pair]) -> NDArray[np.float64]:
    return np.array([_overlap(pair.prompt, pair.chosen) - _overlap(pair.prompt, pair.rejected) for pair in pairs])


def _overlap(prompt: str, answer: str) -> NDArray[np.float64]:
    asked, said = (re.findall(TOKEN, text.lower()) for text in (prompt, answer))
    pairs_asked = set(pairwise(asked))
    pairs_said = list(pairwise(said))
    figures = _figures(answer)
    known = [figure in _figures(prompt) for figure in figures]
    words, runs = sum(word in set(asked) for word in said), sum(pair in pairs_asked for pair in pairs_said)
    return np.array([len(said), words, words / len(said), runs, len(figures), len(known) - sum(known)], float)


def _plain(text: str) -> str:
    return FIGURE.sub(" 0 ", text)


def _learned(train: Sequence[Pair], held_out: Sequence[Pair], features: Sequence[_Words | _Overlap]):
    from scipy.sparse import vstack
    from sklearn.linear_model import LogisticRegression

    given = _differences(train, features)
    if not given.shape[1]:
        return np.zeros(len(held_out))  # no word stands in two answers, so there is nothing to learn
    model = LogisticRegression(fit_intercept=False, max_iter=2000)
    model.fit(vstack([given, -given]), np.repeat([1, 0], len(train)))
    return model.decision_function(_differences(held_out, features)).round(12)


def _differences(pairs: Sequence[Pair], features: Sequence[_Words | _Overlap]):
    """[pairs, features], sparse: chosen minus rejected."""
    from scipy.sparse import hstack

    return hstack([feature.difference(pairs) for feature in features]).tocsr()
