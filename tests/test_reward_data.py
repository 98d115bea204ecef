"""What a reward model is trained on and judged by: the embedded support answers, or a file split by category."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest

from fixtures import support
from fixtures.reward_data import embedded_material, material_of
from fixtures.support import CATEGORIES, generate
from harness.pairs import Pair, read_pairs, write_pairs
from harness.specs import Unusable


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("LETHE_CACHE", str(tmp_path / "cache"))


@pytest.fixture
def small(monkeypatch):
    monkeypatch.setattr(support, "generate", lambda seed: generate(seed, pairs=120, held_out=20))
    monkeypatch.setattr(support, "PAIRS", 120)
    monkeypatch.setattr(support, "HELD_OUT", 20)


@pytest.fixture(scope="module")
def pairs() -> list[Pair]:
    """As a user's file may have them: 500, of all categories."""
    return list(generate(2, pairs=520, held_out=20).train)


def written(pairs: list[Pair], path: Path) -> Path:
    write_pairs(pairs, path)
    return path


def test_the_embedded_pairs_train_and_judge_with_a_known_ceiling(small):
    found = embedded_material()
    assert (len(found.train), len(found.held_out), found.ceiling, found.embedded) == (100, 20, 0.95, True)
    assert tuple(read_pairs(found.train_file)) == found.train
    assert [tuple(read_pairs(file)) for file in found.judging_files] == [found.held_out]
    assert found.findings.pairs == 120


def test_fewer_embedded_pairs_are_of_all_categories_and_what_judges_stays(small):
    found = embedded_material(pairs=25)
    assert tuple(read_pairs(found.train_file)) == found.train == embedded_material().train[:25]
    assert Counter(pair.category for pair in found.train) == dict.fromkeys(CATEGORIES, 5)
    assert found.held_out == embedded_material().held_out


@pytest.mark.parametrize("given", [0, 4, 101])
def test_a_number_of_embedded_pairs_that_there_are_not_is_refused(small, given):
    with pytest.raises(
        Unusable, match=f"{given} embedded pairs cannot be trained on; write a number from 5 to 100, or"
    ):
        embedded_material(given)


def test_a_file_is_split_by_category_and_always_in_the_same_way(tmp_path, pairs):
    path = written(pairs, tmp_path / "own.jsonl")
    found = material_of(path)
    assert (len(found.train), len(found.held_out), found.ceiling, found.embedded) == (438, 62, None, False)
    assert set(Counter(pair.category for pair in found.held_out).values()) <= {12, 13}
    assert tuple(read_pairs(found.train_file)) == found.train
    assert (found.name, found.judging_files) == ("own.jsonl", (path,))
    assert {pair.prompt for pair in found.train}.isdisjoint(pair.prompt for pair in found.held_out)
    assert material_of(path) == found


def test_a_file_of_too_few_pairs_is_refused(tmp_path, pairs):
    with pytest.raises(Unusable, match=r"own.jsonl' holds 99 pairs; give 100 or more, 8,000 are usual"):
        material_of(written(pairs[:99], tmp_path / "own.jsonl"))


def test_pairs_without_a_category_are_refused_with_what_to_write(tmp_path, pairs):
    given = [replace(pair, category=None) if at in (7, 9) else pair for at, pair in enumerate(pairs)]
    with pytest.raises(Unusable) as refused:
        material_of(written(given, tmp_path / "own.jsonl"))
    assert f"has 2 pairs without a category, the first with the id '{pairs[7].id}'" in str(refused.value)
    assert json.dumps({"category": "helpfulness"}) in str(refused.value)


def test_a_category_that_too_few_pairs_would_judge_is_refused_with_how_many_it_takes(tmp_path, pairs):
    given = [pair for at, pair in enumerate(pairs) if pair.category != "tone" or at < 100]
    with pytest.raises(Unusable) as refused:
        material_of(written(given, tmp_path / "own.jsonl"))
    said = str(refused.value)
    assert "20 pairs of the category 'tone', of which 2 would be held out" in said or "of which 3 would" in said
    assert "give about 81 or more, so that 10 judge it, or leave the category out" in said
