"""The held-out split: no prompt on both sides, near-duplicates together, the number asked for."""

from __future__ import annotations

import random
from collections import Counter
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


def labelled(counts: dict[str | None, int]) -> list[Pair]:
    names = [name for name, count in counts.items() for _ in range(count)]
    random.Random(0).shuffle(names)
    return [replace(pair, category=name) for pair, name in zip(pairs(len(names)), names, strict=True)]


def test_each_category_gives_its_share_of_the_held_out_pairs():
    given = labelled({"tone": 150, "brevity": 61, "refusals": 28, None: 11})
    train, test = split(given, held_out=50, seed=3, by="category")
    found = Counter(pair.category for pair in test)
    assert found == {"tone": 30, "brevity": 12, "refusals": 6, None: 2}  # of 30, 12.2, 5.6 and 2.2
    assert len(train) == 200
    assert Counter(pair.category for pair in split(given, held_out=50, seed=3)[1]) != found


def test_pairs_of_one_prompt_stay_together_where_each_category_gives_its_share():
    given = [
        replace(p, id=f"{p.id}/{n}") for p in labelled({"tone": 120, "brevity": 60}) for n in range(1 + len(p.id) % 2)
    ]
    train, test = split(given, held_out=40, by="category")
    shares = {name: 40 * count / len(given) for name, count in Counter(p.category for p in given).items()}
    assert all(abs(Counter(p.category for p in test)[name] - share) <= 1 for name, share in shares.items())
    assert not {p.prompt for p in train} & {p.prompt for p in test}


def test_pairs_without_categories_are_split_as_if_none_were_asked_for():
    assert split(pairs(100), 20, seed=1, by="category") == split(pairs(100), 20, seed=1)


def test_the_turns_of_one_conversation_stay_on_one_side():
    def turns(n):
        said = [f"Customer: {prompt(2 * n)}", f"Agent: {prompt(2 * n + 1)}", "Customer: And how long does it take?"]
        return [Pair(f"{n}/{k}", "\n".join(said[: k + 1]), "a", "b", category="abc"[k]) for k in (1, 2)]

    given = [pair for n in range(50) for pair in turns(n)]
    train, test = split(given, held_out=20, by="category")
    assert len(test) == 20
    assert {p.id.split("/")[0] for p in train}.isdisjoint(p.id.split("/")[0] for p in test)


def test_a_category_that_cannot_give_its_share_is_named():
    alike = [replace(p, prompt=prompt(0)) if p.category == "tone" else p for p in labelled({"tone": 40, "brevity": 40})]
    with pytest.raises(
        Unusable, match=r"20 of 80 pairs \(of the category 'tone', 10\) cannot be held out, as near-dup"
    ):
        split(alike, 20, by="category")


def test_a_prompt_that_goes_on_from_another_stays_with_it():
    first = "Customer: my parcel is late, where is it?"
    later = f"{first} Agent: sent. {'Customer: thank you, and the other one? ' * 9}"
    other = f"{first} Agent: lost. {'I want my money back at once. ' * 9}"
    assert near_duplicates([first, later, "Hello!", "Hello! Where?", other]) == [0, 0, 1, 2, 0]


def test_texts_without_spaces_are_compared_by_their_characters():
    text = "お客様のご注文は現在配送中でございますのでもうしばらくお待ちくださいませ"
    other = "返金の手続きには三日から五日ほどかかりますのでご了承ください"
    assert near_duplicates([text, text.replace("現在", "只今"), other]) == [0, 0, 1]
