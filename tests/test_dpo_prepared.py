"""What the DPO gate refuses, each in one sentence, before a model is loaded or anything is trained."""

from __future__ import annotations

import hashlib
import json
import shutil
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest

from fixtures import dpo_release
from fixtures.dpo_prepared import prepared
from harness.ballot.key import write_key
from harness.pairs import read_pairs
from harness.specs import Unusable
from tests.conftest import save_adapter
from tests.test_dpo_gate import write_rows
from tests.tiny_audit import write_basket
from tests.voting import key_of, pairs


@pytest.fixture
def given(tmp_path, tiny_base, own_cache) -> dict:
    """Options of a gate that can run."""
    names = ("candidate", "basket", "seeds", "votes", "recipe", "stop_early", "greedy", "mitigate", "backend", "dtype")
    return dict.fromkeys(names) | {
        "base": str(tiny_base), "pairs": write_rows(tmp_path / "pairs.jsonl"), "out": str(tmp_path / "out"),
        "store": str(tmp_path / "store"), "basket": write_basket(tmp_path), "margin": [], "trust_remote_code": None,
        "device": "cpu",
    }  # fmt: skip


def release(given: dict, **changed):
    plugins = SimpleNamespace(getplugin=lambda name: None)
    return prepared(SimpleNamespace(option=SimpleNamespace(**given | changed), pluginmanager=plugins))


def test_a_file_of_pairs_is_split_the_same_way_each_time_with_no_prompt_on_both_sides(given):
    one, two = release(given).material, release(given).material
    assert (one.train, one.held_out) == (two.train, two.held_out)
    assert (len(one.train), len(one.held_out)) == (176, 24)
    assert not {pair.prompt for pair in one.train} & {pair.prompt for pair in one.held_out}
    assert set(one.prompts) <= {pair.prompt for pair in one.held_out}
    assert tuple(read_pairs(one.train_file)) == one.train


def test_votes_are_those_of_programs_on_our_pairs_alone(given):
    assert release(given).votes == "none"
    ours = release(given, pairs=None)
    assert ours.votes == "simulated"
    assert release(given, pairs=None, votes="none").votes == "none"
    seen = {pair.prompt for pair in (*ours.material.train, *ours.material.held_out)}
    assert len(set(ours.material.prompts) - seen) == 50
    assert (len(ours.material.train), len(ours.material.held_out), ours.material.ceiling) == (2200, 300, 0.95)


@pytest.mark.parametrize(
    ("changed", "sentence"),
    [
        ({"pairs": Path("nowhere.jsonl")}, "data 'nowhere.jsonl' does not exist"),
        ({"votes": "nowhere"}, "--votes 'nowhere' is no folder"),
        ({"candidate": ["nowhere/at/all/"]}, "model 'nowhere/at/all/' is a directory that does not exist"),
        ({"candidate": ["embedded:base"], "seeds": "0"}, "leave one of them out"),
        ({"recipe": True}, "--recipe is of another gate"),
        ({"mitigate": "merge"}, "--mitigate is of another gate"),
        ({"target": ["overall=80"]}, "--target is of another gate"),
        ({"seeds": "x"}, "--seeds x are no whole numbers"),
        ({"numprocesses": 2}, "runs in one process"),
        ({"base": "samples:logs"}, "--base samples:logs answers no new prompt"),
        ({"basket": Path("nowhere.toml")}, "nowhere.toml"),
        ({"margin": ["nothing=2"]}, "benchmark 'nothing' is not in basket"),
        ({"device": "tpu"}, "--device tpu"),
        ({"basket": "with [run]"}, "basket 'tiny' has a [run] table, which this gate does not read"),
    ],
)
def test_what_cannot_be_used_is_said_in_one_sentence(given, tmp_path, changed, sentence):
    if changed.get("basket") == "with [run]":
        changed = {"basket": tmp_path / "basket.toml"}
        changed["basket"].write_text(given["basket"].read_text() + '[run]\nout = "elsewhere"\n')
    with pytest.raises(Unusable) as error:
        release(given, **changed)
    assert sentence in str(error.value)
    assert "\n" not in str(error.value)


def with_positions(path: Path, copy: Path, positions: int) -> str:
    """The directory of a model that takes so few tokens."""
    shutil.copytree(path, copy)
    config = json.loads((copy / "config.json").read_text())
    (copy / "config.json").write_text(json.dumps(config | {"max_position_embeddings": positions}))
    return str(copy)


def test_texts_that_a_base_has_no_room_for_are_told_before_anything_is_trained(given, tmp_path, tiny_base):
    for said, positions in {"pairs": 60, "prompt 1 of the head-to-head": 240}.items():
        with pytest.raises(Unusable, match=said):
            release(given, base=with_positions(tiny_base, tmp_path / f"short-{positions}", positions))


def test_ballots_are_not_judged_at_another_level_than_they_were_sealed_for(given, tiny_adapter):
    one = release(given, candidate=[str(tiny_adapter)])
    write_key(key_of(pairs()), one.ballots)
    one.check_votes()
    stricter = replace(one, basket=replace(one.basket, policy=replace(one.basket.policy, alpha=0.01)))
    with pytest.raises(Unusable, match=r"are sealed for an error rate of 0\.05 and basket 'tiny' has alpha = 0\.01"):
        stricter.check_votes()


def test_a_base_with_code_of_its_own_is_not_trained(given, tmp_path, tiny_base):
    own = Path(shutil.copytree(tiny_base, tmp_path / "own"))
    (own / "tok.py").write_text("x = 1")
    config = json.loads((own / "tokenizer_config.json").read_text())
    (own / "tokenizer_config.json").write_text(json.dumps(config | {"auto_map": {"AutoTokenizer": ["tok.X", None]}}))
    with pytest.raises(Unusable, match="runs code of its own, with which the recipe does not train"):
        release(given, base=str(own), trust_remote_code=True)


def test_an_isolated_writer_is_scored_by_the_side_that_its_router_picks(given, monkeypatch):
    adapter, found = SimpleNamespace(is_adapter=True), release(given)
    router = SimpleNamespace(domain=lambda prompts: [n % 2 for n in range(len(prompts))])
    isolated = SimpleNamespace(routed=adapter, path="isolated")
    monkeypatch.setattr(dpo_release.Release, "candidates", (isolated,))
    monkeypatch.setattr(dpo_release, "load_isolation", lambda path: SimpleNamespace(router=router))
    monkeypatch.setattr(dpo_release, "preference_scores", lambda model, asked, *_: {i.id: model for i in asked.items})
    _, (scores,) = found._scores
    assert [score is adapter for score in scores.values()] == [bool(n % 2) for n in range(24)]


def test_too_few_pairs_are_refused(given, tmp_path):
    with pytest.raises(Unusable, match="holds 20 pairs; give 50 or more"):
        release(given, pairs=write_rows(tmp_path / "few.jsonl", 20))


def test_a_base_as_its_own_candidate_is_refused(given, tiny_base):
    with pytest.raises(Unusable, match="are the same model"):
        release(given, candidate=[str(tiny_base)])


def test_an_adapter_that_was_trained_on_what_judges_it_is_refused(given, tmp_path, tiny_base):
    adapter = save_adapter(tmp_path / "adapter", tiny_base, scale=0.1)
    (adapter / "lethe.json").write_text(json.dumps({"data": hashlib.sha256(given["pairs"].read_bytes()).hexdigest()}))
    with pytest.raises(Unusable, match=r"was trained on held-out pairs of pairs\.jsonl too"):
        release(given, candidate=[str(adapter)])


def test_an_adapter_that_was_trained_on_the_training_side_is_known_by_its_note(given, tmp_path, tiny_base):
    adapter = save_adapter(tmp_path / "adapter", tiny_base, scale=0.1)
    assert release(given, candidate=[str(adapter)]).saw_the_judges("candidate") is None
    train = release(given).material.train_file
    (adapter / "lethe.json").write_text(json.dumps({"data": hashlib.sha256(train.read_bytes()).hexdigest()}))
    assert release(given, candidate=[str(adapter)]).saw_the_judges("candidate") is False


@pytest.mark.parametrize("trained", [True, False])
def test_votes_on_ballots_that_are_not_there_are_refused(given, tmp_path, tiny_adapter, trained):
    (tmp_path / "votes").mkdir()
    with pytest.raises(Unusable, match="run without --votes first"):
        release(given, votes=str(tmp_path / "votes"), candidate=[str(tiny_adapter)] if trained else None)


def test_the_default_basket_wants_two_points_or_what_its_items_resolve():
    from fixtures.dpo_prepared import BASKET
    from harness.baskets import load_basket
    from harness.report.dpo_document import WANTED
    from harness.report.terminal import REFERENCE_FLIPS, REFERENCE_SPREAD
    from harness.specs import GOLD_PROB
    from harness.stats import detectable_margin

    basket = load_basket(BASKET)
    for benchmark in basket.skills:
        spread = REFERENCE_SPREAD**2 if benchmark.metric == GOLD_PROB else REFERENCE_FLIPS
        resolved = 100 * detectable_margin(benchmark.items or 120, spread, basket.policy.alpha)
        least = max(WANTED, resolved)
        assert least <= benchmark.margin <= least + 0.5
