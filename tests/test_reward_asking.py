"""Scores of reward models out of the store: asked once, gone on with after a kill, and the probes ask what they say."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest

from fixtures import best_of_n, support
from fixtures.reward_release import Release
from harness.checkpoints import check
from harness.pairs import Pair, write_pairs
from harness.reward import asking
from harness.reward.asking import reward_scores
from harness.reward.models import RewardModels
from harness.reward.policy import Policy
from harness.reward.scores import BLIND, REORDERED, TRUNCATED
from harness.reward.texts import answered, oldest_cut
from harness.specs import Unusable, parse_model
from harness.store import Store
from harness.tokenizers import load_tokenizer
from recipes.reward import Settings, train
from tests.conftest import save_tiny

PAIRS = tuple(
    Pair(str(n), f"Fact {n}: blue.\nWhere is order {n} of the last week?", f"Order {n} is sent.", f"No idea, {n}.")
    for n in range(10)
)


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    return check(parse_model(str(save_tiny(tmp_path_factory.mktemp("models") / "base", layers=3))))


@pytest.fixture(scope="module")
def candidate(tmp_path_factory, base):
    folder = tmp_path_factory.mktemp("trained")
    write_pairs(PAIRS, folder / "pairs.jsonl")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("LETHE_CACHE", str(folder / "cache"))
        settings = Settings(pairs=0, epochs=1, batch=5, lr=1e-2, rank=2, depth=3, layers=1)
        return check(parse_model(str(train(base, folder / "pairs.jsonl", folder / "out", settings))), base)


def alone(base, candidate, prompt, pair, side) -> float:
    return RewardModels(base, [candidate]).scores([answered(pair, side, load_tokenizer(base), prompt)])[0, 0]


def test_pairs_and_probes_are_scored_as_they_say(base, candidate, tmp_path, monkeypatch):
    monkeypatch.setattr(asking, "PROBED", 4)
    found = reward_scores(base, {"run": candidate}, PAIRS, Store(tmp_path))
    assert found.scores.shape == (10, 1, 2)
    for at, pair in enumerate(PAIRS[:3]):
        assert found.scores[at, 0, 1] == pytest.approx(alone(base, candidate, None, pair, "rejected"), abs=1e-4)
    probed = np.flatnonzero(np.isfinite(found.probes[BLIND]).all(axis=(1, 2)))
    assert len(probed) == 4
    pair = PAIRS[probed[0]]
    assert found.probes[BLIND][probed[0], 0, 0] == pytest.approx(alone(base, candidate, "", pair, "chosen"), abs=1e-4)
    cut = alone(base, candidate, oldest_cut(pair.prompt), pair, "chosen")
    assert found.probes[TRUNCATED][probed[0], 0, 0] == pytest.approx(cut, abs=1e-4)
    assert np.allclose(found.probes[REORDERED][probed], found.scores[probed], atol=1e-4)
    assert oldest_cut(pair.prompt) != pair.prompt


def test_what_is_stored_is_not_asked_again_and_a_killed_run_goes_on(base, candidate, tmp_path, monkeypatch):
    monkeypatch.setattr(asking, "AT_ONCE", 3)
    asked, real = [], asking.RewardModels.scores

    def killed_at_the_third(self, texts, shuffled=None):
        asked.append(len(texts))
        if len(asked) == 3:
            raise KeyboardInterrupt
        return real(self, texts, shuffled)

    monkeypatch.setattr(asking.RewardModels, "scores", killed_at_the_third)
    with pytest.raises(KeyboardInterrupt):
        reward_scores(base, {"run": candidate}, PAIRS, Store(tmp_path))
    found = reward_scores(base, {"run": candidate}, PAIRS, Store(tmp_path))
    assert sum(asked) - asked[2] == 4 * 2 * len(PAIRS)  # each of the four ways once
    monkeypatch.setattr(asking, "RewardModels", None)
    again = reward_scores(base, {"run": candidate}, PAIRS, Store(tmp_path))
    assert np.array_equal(again.scores, found.scores)


def test_another_run_of_the_recipe_is_asked_by_itself(base, candidate, tmp_path):
    reward_scores(base, {"run": candidate}, PAIRS, Store(tmp_path))
    told = []
    reward_scores(base, {"other": candidate}, PAIRS, Store(tmp_path), progress=lambda *given: told.append(given))
    assert all(done == of for _, done, of in told)  # the same model, whatever it is called


def test_the_base_answers_and_the_reward_picks_for_simulated_raters(base, candidate, tmp_path, monkeypatch):
    monkeypatch.setattr(best_of_n, "PROMPTS", 3)
    monkeypatch.setattr(best_of_n, "LONGEST", 12)
    options = SimpleNamespace(device="cpu", dtype="float32", trust_remote_code=False, store=tmp_path / "store")
    release = SimpleNamespace(base=base, candidates=(candidate,), options=options, policy=Policy())
    found = best_of_n.embedded_best_of_n(release)
    assert (found["prompts"], found["n"]) == (3, 4)
    assert found["win"]["low"] <= found["win"]["estimate"] <= found["win"]["high"]
    assert "SIMULATED raters take the answer that the reward picks" in found["sentence"]
    monkeypatch.setattr(best_of_n, "RewardModels", None)
    assert best_of_n.embedded_best_of_n(release) == found


def test_a_base_that_cannot_be_sampled_here_costs_no_decision(monkeypatch):
    def refused(release):
        raise Unusable("benchmark 'ballot' is sampled; write --greedy.")

    monkeypatch.setattr(best_of_n, "embedded_best_of_n", refused)
    assert Release.best_of_n.func(SimpleNamespace(material=SimpleNamespace(embedded=True))) is None


def test_the_prompts_of_the_check_stand_in_no_pair_of_ours():
    ours = support.generate()
    known = {pair.prompt for pair in (*ours.train, *ours.held_out)}
    assert not {pair.prompt for pair in best_of_n.fresh_pairs()} & known
