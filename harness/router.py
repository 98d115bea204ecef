"""Which prompts go to an adapter: those of its domain. All others stay with the base, which forgets nothing.

    router = Router.fit(domain_prompts, general_prompts)
    router.domain(["What is the molar mass of ethanol?", "Write a limerick."])     # [True, False]

A linear classifier (logistic regression of scikit-learn) over hashed groups of three to five characters. It has no
vocabulary, so it is one array and one number, saved without pickle, and what it has never seen scores near 0.

A router reads one request of a user. Whoever calls it passes that text alone: the last question behind a block of
shots, the last user turn of a chat. With the shots in front it would judge the shots.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from harness.checkpoints import NOTE
from harness.compare import Unpaired
from harness.fingerprint import files_digest
from harness.specs import Unusable
from harness.store import Score

# Chosen on folds of training prompts with whole templates or kinds held out: of words, characters and both, characters
# alone took the most questions of kinds that the training lacked.
FEATURES = {"analyzer": "char_wb", "ngram_range": [3, 5], "n_features": 2**17}
INVERSE_PENALTY = 10.0
FOLDS = 5
STRAY = 0.001  # share of general prompts of the training that may lie above the threshold
FILES = SETTINGS, WEIGHTS = "router.json", "router.safetensors"


@dataclass(frozen=True)
class Router:
    """A prompt is of the domain if its score, `weights` (float32) times its features, is above `threshold`."""

    weights: NDArray[np.float32] = field(repr=False)
    threshold: float

    @classmethod
    def fit(
        cls, domain_texts: Sequence[str], general_texts: Sequence[str], seed: int = 0, keep: float = 0.99
    ) -> Router:
        """Learns from prompts of both sides; the same texts in the same order and seed give the same router.

        The two errors differ: a domain prompt that stays with the base gains nothing, a general one that goes to the
        adapter can lose what the base knew. So the threshold lies as high as it can while the share `keep` of the
        domain prompts in held-out folds clears it, and higher where more than `STRAY` of the general ones would.
        Below 0 it never lies: a text without any known feature stays with the base.
        """
        from sklearn.model_selection import StratifiedKFold

        for name, texts in (("domain", domain_texts), ("general", general_texts)):
            if len(texts) < FOLDS:
                raise Unusable(
                    f"{len(texts)} {name} prompts cannot teach a router; give at least {FOLDS}, better hundreds."
                )
        features = _features([*domain_texts, *general_texts], FEATURES)
        domain = np.repeat([True, False], [len(domain_texts), len(general_texts)])
        scores = np.empty(len(domain))
        folds = StratifiedKFold(FOLDS, shuffle=True, random_state=seed)
        for learned, held_out in folds.split(features, domain):
            scores[held_out] = features[held_out] @ _learn(features[learned], domain[learned])
        kept = np.quantile(scores[domain], 1 - keep, method="lower")
        strays = np.quantile(scores[~domain], 1 - STRAY, method="lower")
        return cls(_learn(features, domain), max(0.0, float(kept), float(strays)))

    def domain(self, texts: Sequence[str]) -> NDArray[np.bool_]:
        """For each text whether it goes to the adapter."""
        return self.scores(texts) > self.threshold

    def scores(self, texts: Sequence[str]) -> NDArray[np.float64]:
        """Log-odds of the domain; 0 where nothing is known of a text. Each text is scored by itself."""
        return _features(texts, FEATURES) @ self.weights if len(texts) else np.empty(0)

    def save(self, directory: str | Path) -> None:
        """Writes `FILES` into a directory, which is made if missing."""
        from safetensors.numpy import save_file

        directory = Path(directory)
        directory.mkdir(parents=True, exist_ok=True)
        settings = {"features": FEATURES, "threshold": self.threshold}
        (directory / SETTINGS).write_text(json.dumps(settings, indent=2, sort_keys=True) + "\n")
        save_file({"weights": self.weights}, directory / WEIGHTS)

    @classmethod
    def load(cls, directory: str | Path) -> Router:
        """What `save` wrote; `Unusable` if a file is missing, damaged or of another kind of router."""
        from safetensors import SafetensorError
        from safetensors.numpy import load_file

        directory = Path(directory)
        try:
            settings = json.loads((directory / SETTINGS).read_text(encoding="utf-8"))
            weights, threshold = load_file(directory / WEIGHTS)["weights"], settings["threshold"]
            if settings["features"] != FEATURES or weights.shape != (FEATURES["n_features"],):
                raise ValueError("its features are not those of this version")
            if weights.dtype != np.float32 or not np.isfinite(weights).all() or not 0 <= threshold < math.inf:
                raise ValueError("its numbers are not finite, or not of single precision")
        except (OSError, ValueError, KeyError, TypeError, SafetensorError) as error:
            raise Unusable(f"router '{directory}' cannot be used ({error}); copy it again, or train another.") from None
        return cls(weights, threshold)


def _features(texts: Sequence[str], options: Mapping[str, Any]):
    """[texts, features], sparse, each row of length 1."""
    from sklearn.feature_extraction.text import HashingVectorizer

    return HashingVectorizer(**options).transform(texts)


def _learn(features, domain: NDArray[np.bool_]) -> NDArray[np.float32]:
    """Weights without an intercept, so that no evidence means a score of 0."""
    from sklearn.linear_model import LogisticRegression

    model = LogisticRegression(C=INVERSE_PENALTY, fit_intercept=False, class_weight="balanced", max_iter=1000)
    return model.fit(features, domain).coef_[0].astype(np.float32)


@dataclass(frozen=True)
class Isolated:
    """What `mitigations.isolation` wrote. adapter: its directory, judged as any other; note: what lethe.json says."""

    path: Path
    adapter: Path
    router: Router
    note: dict[str, Any]


def load_isolation(path: str | Path) -> Isolated:
    """Reads the directory; `Unusable` if it is no isolation, or not whole, or its router is not the certified one."""
    path = Path(path)
    try:
        note = json.loads((path / NOTE).read_text(encoding="utf-8"))
        if note["kind"] != "isolation":
            raise ValueError(f"its kind is {note['kind']!r}")
        certified = note["router"]["digest"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise Unusable(
            f"'{path}' is no isolation ({NOTE}: {error}); name a directory that mitigations.isolation wrote."
        ) from None
    router, adapter = Router.load(path / "router"), path / "adapter"
    if router_digest(path / "router") != certified:
        raise Unusable(f"the router of '{path}' is not the one that {NOTE} certifies; copy the whole directory again.")
    if not (adapter / "adapter_config.json").is_file():
        raise Unusable(f"'{path}' lacks adapter/adapter_config.json; copy the whole directory again.")
    return Isolated(path, adapter, router, note)


def router_digest(directory: Path) -> str:
    """One digest over the files of a saved router."""
    return files_digest(Path(directory) / name for name in FILES)


def routed(
    base_scores: Mapping[str, Score], candidate_scores: Mapping[str, Score], to_adapter: Mapping[str, bool]
) -> dict[str, Score]:
    """Item -> the score of the side that the router hands it to, as the routed model would score; no model runs.

    All three are by item id, of one benchmark and one seed. Raises `Unpaired` where they are not of the same items: an
    item that the router did not see has no score.
    """
    for name, given in (("the candidate's scores", candidate_scores), ("the router's decisions", to_adapter)):
        if other := sorted(base_scores.keys() ^ given.keys()):
            raise Unpaired(
                f"the base's scores and {name} are not of the same items ({other[0]} is the first of {len(other)});"
                " score and route them all."
            )
    return {item: candidate_scores[item] if to_adapter[item] else score for item, score in base_scores.items()}
