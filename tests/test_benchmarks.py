"""Benchmarks through lm-eval's own tasks: which items, which prompts, what a seed changes and what it does not."""

from __future__ import annotations

import math

import pytest

from harness.benchmarks import load_benchmarks
from harness.specs import Basket, Benchmark, Unusable
from tests.tiny_audit import write_tasks


@pytest.fixture(scope="module")
def tasks(tmp_path_factory) -> str:
    return str(write_tasks(tmp_path_factory.mktemp("tasks")))


def load(tasks: str, **settings):
    settings = {"name": "b", "task": "tiny_choice", "fewshot": 2} | settings
    return load_benchmarks(Basket("t", (Benchmark(**settings),), tasks=tasks))["b"]


def prompts(benchmark, seed: int) -> list[str]:
    return [request.args[0] for item in benchmark.items for request in benchmark.requests(item, seed)]


def test_items_are_drawn_by_content_and_a_larger_draw_holds_the_smaller(tasks):
    few, more = load(tasks, items=30), load(tasks, items=36)
    assert [item.id for item in more.items][:30] == [item.id for item in few.items]
    assert len({item.id for item in more.items}) == 36


def test_a_seed_reorders_the_shots_for_all_items_alike(tasks):
    benchmark = load(tasks, fewshot=8)
    first, second = prompts(benchmark, 0), prompts(benchmark, 3)
    block = {prompt.rpartition("Q:")[0] for prompt in second}
    assert len(block) == 1
    assert {prompt.rpartition("Q:")[0] for prompt in first} != block
    assert sorted(block.pop().split("\n\n")) == sorted(first[0].rpartition("Q:")[0].split("\n\n"))


def test_seeds_do_not_depend_on_what_was_asked_before(tasks):
    benchmark = load(tasks)
    fresh = prompts(benchmark, 3)
    for seed in (0, 1, 2):
        prompts(benchmark, seed)
    assert prompts(benchmark, 3) == fresh


@pytest.mark.parametrize(
    ("settings", "seeds"),
    [
        ({"fewshot": 8}, (0, 1, 2)),
        ({"fewshot": 1}, (0,)),  # one exemplar has one order
        ({"fewshot": 0}, (0,)),
        ({"task": "tiny_write", "fewshot": None}, (0,)),
        ({"task": "tiny_write", "fewshot": None, "temperature": 0.7}, (0, 1, 2)),
    ],
)
def test_a_seed_that_changes_nothing_is_no_replicate(tasks, settings, seeds):
    assert load(tasks, **settings).effective_seeds((0, 1, 2)) == seeds


def test_choices_are_scored_as_lm_eval_does_with_the_probability_beside(tasks):
    benchmark = load(tasks)
    item = benchmark.items[0]
    requests = benchmark.requests(item, 0)
    gold = item.doc["answer"]
    responses = [(math.log(0.6 if n == gold else 0.2), False) for n in range(3)]
    found = benchmark.score(item, requests, responses)
    assert found["acc"] == 1
    assert found["choice_prob"] == pytest.approx(0.6)


def test_a_gold_solution_is_scored_per_byte(tasks):
    benchmark = load(tasks, task="tiny_write", fewshot=None, gold="{{ gold }}")
    item = benchmark.items[0]
    requests = benchmark.requests(item, 0)
    text = requests[-1].args[1]
    found = benchmark.score(item, requests, [" nothing", (len(text.encode()) * math.log(0.7), False)])
    assert text.strip() == item.doc["gold"]
    assert found["gold_prob_per_byte"] == pytest.approx(0.7)
    assert found["exact_match"] == 0


def test_the_floor_is_chance_unless_the_basket_says_otherwise(tasks):
    assert load(tasks).floor() == pytest.approx(1 / 3)
    assert load(tasks, floor=10).floor() == pytest.approx(0.1)
    assert load(tasks, task="tiny_write", fewshot=None).floor() == 0


@pytest.mark.parametrize(
    "change", [{"fewshot": 1}, {"chat": True}, {"temperature": 0.5}, {"gold": "{{ gold }}"}, {"max_gen_toks": 9}]
)
def test_whatever_changes_a_score_changes_the_digest(tasks, change):
    settings = {"task": "tiny_write", "fewshot": None}
    assert load(tasks, **settings | change).digest != load(tasks, **settings).digest


@pytest.mark.parametrize("change", [{"items": 30}, {"margin": 9.0}, {"metric": "acc_norm"}, {"floor": 3.0}])
def test_what_only_judges_keeps_the_stored_scores(tasks, change):
    assert load(tasks, **change).digest == load(tasks).digest


def test_documents_count_by_content_and_not_by_where_they_lie(tasks, tmp_path):
    assert load(str(write_tasks(tmp_path / "moved"))).digest == load(tasks).digest
    assert load(str(write_tasks(tmp_path / "more", items=41))).digest != load(tasks).digest


def test_a_metric_outside_0_to_1_is_said(tasks):
    benchmark = load(tasks, metric="acc")
    with pytest.raises(Unusable, match=r"metric 'acc' is 7.0 on item .*; name one that lies in \[0, 1\]"):
        benchmark.check_metric({"acc": 7.0}, benchmark.items[0])
