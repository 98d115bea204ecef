"""Replay: the candidate's own recipe again, on data that holds no item, into an adapter that the gate takes."""

from __future__ import annotations

import json
import re
from dataclasses import asdict, replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from harness.checkpoints import check
from harness.fingerprint import file_digest
from harness.specs import Unusable, parse_model
from mitigations.replay import replay
from recipes.sft import Settings, train
from tests.conftest import save_tiny

DOMAIN = [{"prompt": f"What is {n}?", "response": f"It is {n}."} for n in range(12)]
GENERAL = [{"prompt": f"Tell me of {n}.", "response": f"A story of {n}."} for n in range(9)]
ITEM = "A farmer has nine hens, and each of them lays two eggs."
BENCHMARKS = {"sums": [ITEM]}
OWN = Settings(steps=3, batch=4, lr=1e-2, rank=2, alpha=4)
OTHER = replace(OWN, rank=3)


def write(path, rows):
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


@pytest.fixture
def domain(tmp_path):
    return write(tmp_path / "domain.jsonl", DOMAIN)


@pytest.fixture
def general(tmp_path):
    return write(tmp_path / "general.jsonl", GENERAL)


@pytest.fixture
def base(tiny_base):
    return check(parse_model(str(tiny_base)))


@pytest.fixture
def candidate(base, domain, tmp_path):
    return check(parse_model(str(train(base, domain, tmp_path / "candidate", OWN))), base)


def weights(spec):
    return load_file(Path(spec.location) / "adapter_model.safetensors")


def note_of(spec):
    return json.loads((Path(spec.location) / "lethe.json").read_text())


def test_the_candidates_own_recipe_runs_again_with_general_rows(base, candidate, domain, general, tmp_path):
    spec = replay(base, candidate, domain, general, 0.25, tmp_path / "r", OTHER, benchmarks=BENCHMARKS, kl=0.1)
    replayed = check(spec, base)
    assert replayed.is_adapter
    assert replayed.digest != candidate.digest
    note = note_of(spec)
    assert note["settings"] == asdict(OWN)
    assert (note["data"], note["general"]) == (file_digest(domain), file_digest(general))
    assert (note["share"], note["kl"]) == (0.25, 0.1)
    assert note["replay"] == {
        "candidate": candidate.digest,
        "domain": file_digest(domain),
        "general": file_digest(general),
        "dropped": {"domain": {}, "general": {}},
        "own_recipe": True,
    }


def test_a_share_of_nothing_is_the_candidate_again(base, candidate, domain, general, tmp_path):
    spec = replay(base, candidate, domain, general, 0, tmp_path / "r", OTHER, benchmarks=BENCHMARKS, kl=0.1)
    ours, theirs = weights(spec), weights(candidate.spec)
    assert all(torch.equal(ours[name], theirs[name]) for name in theirs)


def test_another_seed_is_another_run_of_the_recipe(base, candidate, domain, general, tmp_path):
    spec = replay(base, candidate, domain, general, 0.25, tmp_path / "r", OTHER, benchmarks={}, seed=7)
    assert note_of(spec)["settings"] == asdict(replace(OWN, seed=7))


def test_a_candidate_of_full_weights_gets_an_adapter_by_the_settings_given(base, domain, general, tmp_path):
    whole = check(parse_model(str(save_tiny(tmp_path / "whole", seed=1))))
    spec = replay(base, whole, domain, general, 0.25, tmp_path / "r", OTHER, benchmarks=BENCHMARKS)
    assert check(spec, base).is_adapter
    assert note_of(spec)["settings"] == asdict(OTHER)
    assert note_of(spec)["replay"]["own_recipe"] is False


def test_rows_with_items_are_dropped_and_counted_by_source(base, candidate, tmp_path, capsys):
    leaks = [{"prompt": ITEM, "response": "Eighteen."}, {"prompt": "Repeat.", "response": ITEM}]
    domain = write(tmp_path / "domain.jsonl", [*DOMAIN, leaks[0]])
    general = write(tmp_path / "general.jsonl", [leaks[0], *GENERAL, leaks[1]])
    spec = replay(base, candidate, domain, general, 0.25, tmp_path / "r", OWN, benchmarks=BENCHMARKS)
    said, note = capsys.readouterr().err, note_of(spec)
    assert note["replay"]["dropped"] == {"domain": {"sums": 1}, "general": {"sums": 2}}
    assert note["replay"]["general"] == file_digest(general)
    assert note["general"] == file_digest(write(tmp_path / "kept.jsonl", GENERAL))
    assert note["data"] == file_digest(write(tmp_path / "kept.jsonl", DOMAIN))
    assert "1 of 13 rows of domain.jsonl overlap with items (1 sums) and are dropped." in said
    assert "2 of 11 rows of general.jsonl overlap with items (2 sums) and are dropped." in said
    domain, general = write(tmp_path / "domain.jsonl", DOMAIN), write(tmp_path / "general.jsonl", GENERAL)
    clean = replay(base, candidate, domain, general, 0.25, tmp_path / "c", OWN, benchmarks=BENCHMARKS)
    ours, theirs = weights(spec), weights(clean)
    assert all(torch.equal(ours[name], theirs[name]) for name in theirs)


LEAK = json.dumps({"prompt": ITEM, "response": "Eighteen."})
WRONG = {
    "general rows without an answer": (
        {"general": '{"prompt": "Why?"}'},
        'general.jsonl line 1 is no {"prompt", "response"} with text in both; correct or remove it.',
    ),
    "an empty general row": ({"general": '{"prompt": "Why?", "response": " "}'}, "general.jsonl line 1 is no {"),
    "no general row": ({"general": "\n"}, "general.jsonl' holds no row; write one JSON object a line."),
    "general rows that are all items": (
        {"general": LEAK},
        "general.jsonl' is left, as all 1 overlap with items of the basket (1 sums); give data that holds none of",
    ),
    "domain rows that are all items": ({"domain": LEAK}, "domain.jsonl' is left, as all 1 overlap with items of the"),
    "no domain file": ({"domain": None}, "domain.jsonl' does not exist; name a JSONL file of {"),
    "no general file": ({"general": None}, "general.jsonl' does not exist; name a JSONL file of {"),
    "a share of everything": ({"share": 1.0}, "--share 1.0 is no share of the rows; write a number from 0 to below 1"),
    "a negative share": ({"share": -0.1}, "--share -0.1 is no share of the rows"),
    "a negative weight": ({"kl": -1.0}, "--kl -1.0 is no weight; write 0 or a number above it, as in 0.1."),
}


@pytest.mark.parametrize(("changes", "sentence"), WRONG.values(), ids=WRONG)
def test_what_cannot_be_replayed_is_one_sentence(base, candidate, domain, general, tmp_path, changes, sentence):
    given = {"share": 0.25, "out": tmp_path / "r", "settings": OWN, "benchmarks": BENCHMARKS, "kl": 0.0}
    for name, value in changes.items():
        if name in given:
            given[name] = value
        elif value is None:
            (tmp_path / f"{name}.jsonl").unlink()
        else:
            (tmp_path / f"{name}.jsonl").write_text(value)
    with pytest.raises(Unusable) as caught:
        replay(base, candidate, domain, general, **given)
    assert sentence in str(caught.value)
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "r").exists()


@pytest.mark.parametrize("settings", [{"beta": 0.1, "lr": 1e-3}, {"steps": "80"}, [1]])
def test_another_recipe_is_not_run_as_this_one(base, candidate, domain, general, tmp_path, settings):
    note = json.loads((candidate.path / "lethe.json").read_text())
    (candidate.path / "lethe.json").write_text(json.dumps(note | {"settings": settings}))
    sentence = (
        f"lethe.json of candidate '{candidate.spec.text}' holds settings of another recipe than recipes.sft"
        f" ({json.dumps(settings)}); leave replay out, or remove its settings to replay with the default ones."
    )
    with pytest.raises(Unusable, match=re.escape(sentence)):
        replay(base, candidate, domain, general, 0.25, tmp_path / "r", OWN, benchmarks=BENCHMARKS)
