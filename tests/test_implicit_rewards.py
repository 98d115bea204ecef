"""Implicit rewards from stored scores: by hand, aligned by id, with length controlled, beside the shortcuts."""

from __future__ import annotations

import numpy as np
import pytest

from harness.implicit_rewards import CHOSEN, CHOSEN_TOKENS, PREFERS, REJECTED, REJECTED_TOKENS, margins, won
from harness.pairs import Pair
from harness.preference_accuracy import held_out_accuracy
from harness.shortcuts import Rule
from harness.store import Cell, Score


def score(id: str, chosen: float, rejected: float, tokens=(10, 10)) -> Score:
    metrics = {PREFERS: float(chosen > rejected), CHOSEN: chosen, REJECTED: rejected}
    metrics |= {CHOSEN_TOKENS: tokens[0], REJECTED_TOKENS: tokens[1]}
    return Score(Cell("m", "b", 0), id, metrics, [])


def pair(id: str, fault: str | None = None, category: str | None = None) -> Pair:
    return Pair(id, f"prompt {id}", "good", "bad", fault=fault, category=category)


def scores(**values) -> dict[str, Score]:
    return {id: score(id, *own) for id, own in values.items()}


def test_a_margin_is_the_difference_of_the_changes_times_beta():
    found = margins([pair("a")], scores(a=(-10, -20, (5, 20))), [scores(a=(-8, -25, (5, 20)))], beta=0.5)
    assert found.plain.tolist() == [[0.5 * (2 - -5)]]
    assert found.normalised.tolist() == [[pytest.approx(0.5 * (2 / 5 - -5 / 20))]]
    assert found.right.tolist() == [[1.0]]


def test_scores_are_aligned_by_id_and_never_by_order():
    pairs = [pair("a"), pair("b")]
    base = scores(a=(-10, -10), b=(-30, -30))
    candidate = dict(reversed(scores(a=(-9, -10), b=(-31, -30)).items()))
    assert margins(pairs, base, [candidate], 1.0).plain.tolist() == [[1.0], [-1.0]]
    assert margins(pairs[::-1], base, [candidate], 1.0).plain.tolist() == [[-1.0], [1.0]]


def test_a_model_that_is_its_base_ties_everywhere():
    base = scores(a=(-10, -20), b=(-20, -10))
    found = margins([pair("a"), pair("b")], base, [base], 0.1)
    assert found.right.tolist() == [[0.5], [0.5]]
    assert found.base.tolist() == [1.0, 0.0]
    assert held_out_accuracy(found).plain.share == 0.5


def test_a_rounding_error_is_a_tie():
    assert won([1e-7, -1e-7, 1e-3, -1e-3]).tolist() == [0.5, 0.5, 1.0, 0.0]


def test_a_pair_without_a_score_of_the_base_is_left_out_and_one_that_the_candidate_lacks_is_an_error():
    base = scores(a=(-10, -20))
    assert len(margins([pair("a"), pair("long")], base, [base], 0.1).pairs) == 1
    with pytest.raises(ValueError, match="candidate 1 has no score of pair a"):
        margins([pair("a")], base, [base, {}], 0.1)


def longer_is_better(count: int = 60):
    """A candidate that gains 0.1 nats with each token, whatever the token: right where the chosen answer is longer."""
    pairs, base, candidate = [], {}, {}
    for n in range(count):
        id, tokens = str(n), ((40, 20), (20, 40), (30, 30))[n % 3]
        pairs.append(pair(id))
        base[id] = score(id, -50, -50, tokens)
        candidate[id] = score(id, *(-50 + 0.1 * number for number in tokens), tokens)
    return margins(pairs, base, [candidate], 0.1)


def test_a_model_that_only_likes_length_is_at_chance_per_token_and_at_equal_length():
    found = held_out_accuracy(longer_is_better())
    assert found.by_run == (0.5,)
    unfair = longer_is_better()
    kept = [n for n in range(60) if n % 3 != 1]  # no pair whose rejected answer is the longer one
    pairs = [unfair.pairs[n] for n in kept]
    plain = unfair.plain[kept]
    assert won(plain).mean() == 0.75
    controlled = held_out_accuracy(type(unfair)(tuple(pairs), plain, unfair.normalised[kept], unfair.tokens[kept],
                                                unfair.base[kept]))  # fmt: skip
    assert (controlled.plain.share, controlled.per_token.share, controlled.matched.share) == (0.75, 0.5, 0.5)
    assert controlled.matched.items == 20


def planted(shares: dict[str, float], each: int, runs: int, seed: int = 0):
    """Margins of known accuracy by fault: each answer is right with the share of its fault."""
    rng = np.random.default_rng(seed)
    pairs = [pair(f"{fault}{n}", fault, "tone" if n % 2 else None) for fault in shares for n in range(each)]
    base = {p.id: score(p.id, -50, -50) for p in pairs}
    candidates = []
    for _ in range(runs):
        right = {p.id: rng.random() < shares[p.fault] for p in pairs}
        candidates.append({p.id: score(p.id, *((-49, -50) if right[p.id] else (-50, -49))) for p in pairs})
    return margins(pairs, base, candidates, 0.1)


def test_planted_accuracies_come_back_overall_and_by_fault():
    found = held_out_accuracy(planted({"jargon": 0.95, "wrong sum": 0.7}, each=400, runs=3))
    assert found.plain.verdict == "PASS"
    assert found.plain.share == pytest.approx(0.825, abs=0.02)
    for fault, share in (("jargon", 0.95), ("wrong sum", 0.7)):
        interval, n = found.by_fault[fault]
        assert n == 400
        assert interval.low < share < interval.high
    assert set(found.by_category) == {"tone"}
    assert len(found.by_run) == 3


def test_the_lead_over_the_best_shortcut_is_paired():
    found = planted({"jargon": 0.9}, each=300, runs=1)
    same = tuple(found.right[:, 0].tolist())
    worse = tuple([0.0] * 150 + [1.0] * 150)
    rules = [Rule("the model itself", same, {}, {}), Rule("half", worse, {}, {})]
    by_name = {beside.name: beside for beside in held_out_accuracy(found, rules).shortcuts}
    assert by_name["the model itself"].lead.estimate == 0
    assert by_name["the model itself"].lead.high < 0.02  # no pair differs: next to nothing is left open
    assert by_name["half"].lead.low > 0.3
    assert held_out_accuracy(found, rules).lead.name == "the model itself"


def test_a_rule_on_other_pairs_is_refused():
    with pytest.raises(ValueError, match="rule 'r' answered 2 pairs, the model 60; match them"):
        held_out_accuracy(longer_is_better(), [Rule("r", (1.0, 0.0), {}, {})])
