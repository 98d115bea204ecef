"""The held-out split: no prompt on both sides, near-duplicates together, the number asked for."""

from __future__ import annotations

import random
from dataclasses import replace

import pytest

from harness.held_out import near_duplicates, split
from harness.pairs import Pair
from harness.specs import Unusable

WORDS = ("amber", "birch", "cedar", "dune", "ember", "fjord", "grove", "heath", "islet", "jetty", "knoll", "larch")


def prompt(n: int) -> str:
    return " ".join(random.Random(n).choices(WORDS, k=30))


def pairs(count: int) -> list[Pair]:
    return [Pair(str(n), prompt(n), "a", "b") for n in range(count)]


def test_no_prompt_stands_on_both_sides_and_none_is_lost():
    given = [replace(pair, id=f"{pair.id}/{n}") for pair in pairs(200) for n in range(1 + int(pair.id) % 3)]
    train, test = split(given, held_out=50, seed=1)
    assert len(test) == 50
    assert not {p.prompt for p in train} & {p.prompt for p in test}
    assert sorted(p.id for p in [*train, *test]) == sorted(p.id for p in given)
    assert [p.id for p in train] == [p.id for p in given if p in train]


def test_near_duplicates_stay_together():
    given = [p for pair in pairs(60) for p in (pair, replace(pair, id=pair.id + "'", prompt=pair.prompt + " Please."))]
    train, test = split(given, held_out=20)
    assert {p.id.rstrip("'") for p in train}.isdisjoint(p.id.rstrip("'") for p in test)


def test_a_seed_gives_one_split_whatever_else_was_drawn():
    given = pairs(100)
    assert split(given, 20, seed=1) == split(given, 20, seed=1)
    assert split(given, 20, seed=1) != split(given, 20, seed=2)


def test_groups_are_what_a_hand_computation_of_jaccard_gives():
    texts = ["a b c d e", "a b c d e f", "a b c x y", "c d e f g", "A, b: c d e!", ""]
    # runs of 3: {abc bcd cde}; {abc bcd cde def}: 3/4; {abc bcx cxy}: 1/5; {cde def efg}: 1/5 of the first, 2/5 of the
    assert near_duplicates(texts, 0.6) == [0, 0, 1, 2, 0, 3]
    assert near_duplicates(texts, 0.4) == [0, 0, 1, 0, 0, 2]  # second, to which it is joined at 0.4
    assert near_duplicates([], 0.6) == []


def test_blocks_of_rows_change_nothing(monkeypatch):
    texts = [prompt(n // 2) + " x" * (n % 2) for n in range(40)]
    whole = near_duplicates(texts)
    monkeypatch.setattr("harness.held_out.ROWS", 7)
    assert near_duplicates(texts) == whole == [n // 2 for n in range(40)]


def test_a_number_that_cannot_be_held_out_is_said():
    with pytest.raises(Unusable, match="10 of 10 pairs cannot be held out; write a number from 1 to 9"):
        split(pairs(10), 10)
    alike = [replace(pair, prompt=prompt(0)) for pair in pairs(30)]
    with pytest.raises(Unusable, match="the largest group of them has 30 pairs; give prompts that differ more"):
        split(alike, 10)
