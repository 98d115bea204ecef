"""Trivial rules: each finds what it is made to find, and nothing where there is nothing."""

from __future__ import annotations

import random
from dataclasses import replace

import pytest

from harness.pairs import Pair
from harness.shortcuts import measure

WORDS = ("amber", "birch", "cedar", "dune", "ember", "fjord", "grove", "heath", "islet", "jetty", "knoll", "larch")
LEARNED = ("first words", "bag of words", "bag of words, overlap with the prompt, length")


def noise(n: int, words: int = 12) -> str:
    return " ".join(random.Random(n).choices(WORDS, k=words))


def word(n: int) -> str:
    """One of its own for each number, without a digit."""
    return "".join(chr(97 + int(digit)) for digit in f"{n:05}")


def accuracies(train, held_out) -> dict[str, float]:
    return {rule.name: rule.accuracy for rule in measure(train, held_out)}


def sets(make, count: int = 300):
    return [make(n) for n in range(count)], [make(n) for n in range(count, 2 * count)]


def test_pairs_without_a_difference_leave_all_rules_at_chance():
    found = accuracies(*sets(lambda n: Pair(str(n), noise(3 * n), noise(3 * n + 1), noise(3 * n + 2)), 1000))
    assert found["longer answer"] == found["larger figures"] == 0.5  # ties
    assert all(0.45 < found[name] < 0.55 for name in LEARNED)


def test_a_telling_word_is_learned():
    found = accuracies(*sets(lambda n: Pair(str(n), noise(n), noise(2 * n), noise(2 * n + 1) + " leverage")))
    assert found["bag of words"] == 1.0
    assert found["longer answer"] == 0.0


def test_only_a_telling_word_at_the_start_is_seen_by_the_rule_of_first_words():
    def make(n, at):
        words = [noise(2 * n + side).split() for side in (0, 1)]
        words[1].insert(at, "sadly")
        return Pair(str(n), "?", *(" ".join(text) for text in words))

    assert accuracies(*sets(lambda n: make(n, at=2)))["first words"] == 1.0
    assert 0.4 < accuracies(*sets(lambda n: make(n, at=3)))["first words"] < 0.6


def test_a_rule_whose_words_never_come_twice_ties():
    found = accuracies(*sets(lambda n: Pair(str(n), "?", *(f"{word(2 * n + side)} it is" for side in (0, 1))), 20))
    assert found["first words"] == found["bag of words"] == 0.5
    alone = accuracies(*sets(lambda n: Pair(str(n), "?", word(2 * n), word(2 * n + 1)), 20))
    assert alone["first words"] == alone["bag of words"] == 0.5


def test_words_of_the_prompt_are_seen_by_the_rule_with_overlap_alone():
    def make(n):
        own = [word(10 * n + k) for k in range(8)]
        return Pair(str(n), " ".join(own), " ".join(own[:4]), " ".join([*own[:3], word(10 * n + 9)]))

    found = accuracies(*sets(make))
    assert found["bag of words"] == 0.5
    assert found[LEARNED[2]] == 1.0


def test_figures_are_compared_by_size_and_are_one_word_to_the_bag():
    found = accuracies(*sets(lambda n: Pair(str(n), "How many?", f"We serve £{1000 + n:,}.", f"We serve {3 + n % 7}.")))
    assert found["larger figures"] == 1.0
    assert found["bag of words"] == 0.5


def test_results_are_given_by_fault_and_category():
    def make(n):
        pair = Pair(str(n), "?", noise(2 * n), noise(2 * n + 1) + " leverage", fault="jargon", category="tone")
        return pair if n % 2 else replace(pair, rejected=noise(2 * n + 1), fault="other", category=None)

    rule = next(rule for rule in measure(*sets(make)) if rule.name == "bag of words")
    assert rule.by_fault["jargon"] > 0.95
    assert 0.3 < rule.by_fault["other"] < 0.7
    assert set(rule.by_category) == {"tone"}
    assert rule.accuracy == pytest.approx((rule.by_fault["jargon"] + rule.by_fault["other"]) / 2)
