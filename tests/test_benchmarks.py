"""Benchmarks through lm-eval's own tasks: which items, which prompts, what a seed changes and what it does not."""

from __future__ import annotations

import math
import re
from pathlib import Path

import pytest

from harness.benchmarks import load_benchmarks
from harness.specs import Basket, Benchmark, Unusable
from tests.tiny_audit import write_tasks

WRITE = {"task": "tiny_write", "fewshot": None, "metric": "exact_match"}
SETTINGS = {  # generation settings of a task's own
    "penalty": "do_sample: false, repetition_penalty: 1.5",
    "beams": "num_beams: 3",
    "nucleus": "do_sample: true, temperature: 0.9, top_p: 0.95",
    "idle": "do_sample: false, top_p: 0.95, top_k: 50, num_beams: 1, repetition_penalty: 1.0, early_stopping: null",
}


@pytest.fixture(scope="module")
def tasks(tmp_path_factory) -> str:
    """tiny_choice, tiny_write and variants of them, each with the lines that make it different."""
    folder = write_tasks(tmp_path_factory.mktemp("tasks"))
    add(folder, "tiny_prompts", "tiny_choice", doc_to_text="'{{answer}}'", doc_to_target="'{{gold}}'")
    add(folder, "tiny_unlabelled", "tiny_choice", doc_to_target="-1")
    add(folder, "tiny_mislabelled", "tiny_choice", doc_to_target="'none of these'")
    add(folder, "tiny_sampled", "tiny_write", generation_kwargs="{until: [], do_sample: true, temperature: 0.9}")
    add(folder, "tiny_greedy", "tiny_write", generation_kwargs="{until: [], do_sample: false, temperature: 0.9}")
    for name, setting in SETTINGS.items():
        add(folder, f"tiny_{name}", "tiny_write", generation_kwargs=f"{{until: [], {setting}}}")
    add(folder, "tiny_picky", "tiny_write", process_results="!function scorer.first_word")
    (folder / "scorer.py").write_text(
        "def first_word(doc, results):\n    return {'first': results[0].split()[0] == 'a'}\n"
    )
    add(folder, "tiny_own", "tiny_write", fewshot_split="test")
    add(folder, "tiny_exact", "tiny_choice", metric_list="[{metric: exact_match}]")
    for name, members in (("tiny_both", "tiny_choice, tiny_exact"), ("tiny_mixed", "tiny_choice, tiny_write")):
        (folder / f"{name}.yaml").write_text(f"group: {name}\ntask: [{members}]\nmetadata: {{version: 1.0}}\n")
    (folder / "tiny_settings.yaml").write_text("group: tiny_settings\ntask: [{task: tiny_choice, num_fewshot: 3}]\n")
    return str(folder)


def add(folder: Path, name: str, like: str, **lines: str) -> None:
    """A task like another but for some lines of its file."""
    changed = {"task": name} | lines
    kept = [
        line for line in (folder / f"{like}.yaml").read_text().splitlines() if line.partition(":")[0] not in changed
    ]
    (folder / f"{name}.yaml").write_text("\n".join([*kept, *(f"{key}: {text}" for key, text in changed.items())]))


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
        (WRITE, (0,)),
        (WRITE | {"temperature": 0.7}, (0, 1, 2)),
        (WRITE | {"temperature": 0.7, "gold": "{{ gold }}", "metric": "gold_prob_per_byte"}, (0,)),  # a likelihood
        (WRITE | {"task": "tiny_sampled"}, (0, 1, 2)),  # the task's own temperature
        (WRITE | {"task": "tiny_greedy"}, (0,)),  # one that do_sample: false turns off
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


def test_choices_may_be_prompts_with_one_answer_in_common(tasks):
    benchmark = load(tasks, task="tiny_prompts", fewshot=0)
    item = benchmark.items[0]
    requests = benchmark.requests(item, 0)
    right = item.doc["choices"][item.doc["answer"]]
    responses = [(math.log(0.6 if r.args[0].endswith(right) else 0.2), False) for r in requests]
    found = benchmark.score(item, requests, responses)
    assert [r.args[1] for r in requests] == [f" {item.doc['gold']}"] * 3
    assert found["acc"] == 1
    assert found["choice_prob"] == pytest.approx(0.6)
    assert benchmark.reference_request(item, requests).args[0].endswith(right)


def test_what_a_user_would_ask_is_never_the_place_of_the_right_choice(tasks):
    benchmark = load(tasks, task="tiny_prompts", fewshot=0)
    asked = benchmark.question(benchmark.items[0])
    assert all(choice in asked for choice in benchmark.items[0].doc["choices"])
    plain = load(tasks, task="tiny_choice", fewshot=0)
    assert plain.question(plain.items[0]) == f"Q: {plain.items[0].doc['question']}\nA:"


@pytest.mark.parametrize("task", ["tiny_unlabelled", "tiny_mislabelled"])
def test_without_a_right_choice_there_is_no_probability_of_it(tasks, task):
    benchmark = load(tasks, task=task)
    item = benchmark.items[0]
    requests = benchmark.requests(item, 0)
    assert benchmark.score(item, requests, [(-1.0, False)] * 3) == {"acc": 0}
    assert benchmark.reference_request(item, requests) is None
    with pytest.raises(Unusable, match=r"benchmark 'b': item .* has no right choice, so it has no choice_prob"):
        load(tasks, task=task, metric="choice_prob")


def test_a_gold_solution_is_scored_per_byte(tasks):
    benchmark = load(tasks, **WRITE, gold="{{ gold }}")
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
    assert load(tasks, **WRITE).floor() == 0


@pytest.mark.parametrize(
    "change", [{"fewshot": 1}, {"chat": True}, {"temperature": 0.5}, {"gold": "{{ gold }}"}, {"max_gen_toks": 9}]
)
def test_whatever_changes_a_score_changes_the_digest(tasks, change):
    assert load(tasks, **WRITE | change).digest != load(tasks, **WRITE).digest


@pytest.mark.parametrize("change", [{"items": 30}, {"margin": 9.0}, {"metric": "choice_prob"}, {"floor": 3.0}])
def test_what_only_judges_keeps_the_stored_scores(tasks, change):
    assert load(tasks, **change).digest == load(tasks).digest


def test_a_task_on_a_file_of_ones_own_stands_beside_embedded_documents(tasks):
    asked = (Benchmark("b", "tiny_choice", fewshot=2),)
    embedded = load_benchmarks(Basket("t", asked, documents="embedded", tasks=tasks))["b"]
    assert embedded.digest == load(tasks).digest


def test_documents_count_by_content_and_not_by_where_they_lie(tasks, tmp_path):
    assert load(str(write_tasks(tmp_path / "moved"))).digest == load(tasks).digest
    assert load(str(write_tasks(tmp_path / "more", items=41))).digest != load(tasks).digest


UNUSABLE = {
    "more shots than exemplars": ({"fewshot": 9}, "fewshot = 9 is more than the 8 exemplars of task tiny_choice allow"),
    "all items as shots": (
        WRITE | {"task": "tiny_own", "fewshot": 40},
        "fewshot = 40 is more than the 40 exemplars of task tiny_own",
    ),
    "a gold template that is none": (WRITE | {"gold": "{{ gold"}, "its gold template fails on item tiny_write:"),
    "a gold field that is not there": (WRITE | {"gold": "{{ solution }}"}, "'solution' is undefined"),
    "an empty gold text": (WRITE | {"gold": "{{ '' }}"}, "its gold template gives no text for item"),
    "one item without gold": (WRITE | {"gold": "{% if gold != 'dune' %}{{ gold }}{% endif %}"}, "gives no text for"),
    "a gold with several prompts": ({"task": "tiny_prompts", "gold": "{{ gold }}"}, "has a prompt for each choice"),
    "tasks of two types": (
        {"task": "tiny_mixed"},
        "tasks tiny_choice (multiple_choice) and tiny_write (generate_until)",
    ),
    "no such metric": (
        {"metric": "elo"},
        "has no metric 'elo'; name one that task tiny_choice gives: acc, choice_prob.",
    ),
    "a metric of one task alone": ({"task": "tiny_both"}, "has no metric 'acc'; name one that task tiny_exact gives"),
    "a repetition penalty": (WRITE | {"task": "tiny_penalty"}, "task tiny_penalty asks for repetition_penalty = 1.5"),
    "a temperature where nothing is written": ({"temperature": 0.7}, "temperature = 0.7 is of texts, and task tiny_c"),
    "a group that sets shots": ({"task": "tiny_settings"}, "group tiny_settings sets num_fewshot for its tasks"),
    "beams": (WRITE | {"task": "tiny_beams"}, "task tiny_beams asks for num_beams = 3, and texts are written with"),
    "a nucleus": (WRITE | {"task": "tiny_nucleus"}, "task tiny_nucleus asks for top_p = 0.95"),
    "a nucleus that a temperature wakes": (WRITE | {"task": "tiny_idle", "temperature": 0.7}, "asks for top_k = 50"),
    "a gold metric without gold": (WRITE | {"metric": "gold_prob_per_byte"}, "has no metric 'gold_prob_per_byte'"),
}


@pytest.mark.parametrize(("settings", "sentence"), UNUSABLE.values(), ids=UNUSABLE)
def test_what_a_task_cannot_give_is_said_before_any_model_runs(tasks, settings, sentence):
    with pytest.raises(Unusable, match=rf"benchmark 'b'.*{re.escape(sentence)}"):
        load(tasks, **settings)


def test_generation_settings_that_change_no_greedy_text_are_taken(tasks):
    assert load(tasks, **WRITE | {"task": "tiny_idle"}).temperature == 0


def test_as_many_shots_as_there_are_exemplars_can_be_asked_for(tasks):
    assert (
        len(load(tasks, fewshot=8).items) == len(load(tasks, **WRITE | {"task": "tiny_own", "fewshot": 39}).items) == 40
    )


def test_a_scorer_that_wants_more_than_an_empty_text_is_checked_on_a_real_one(tasks):
    benchmark = load(tasks, **WRITE | {"task": "tiny_picky", "metric": "last"})
    item = benchmark.items[0]
    metrics = benchmark.score(item, benchmark.requests(item, 0), ["a b"])
    with pytest.raises(Unusable, match=r"has no metric 'last'; name one that task tiny_picky gives: .*first"):
        benchmark.check_metric(metrics, item)


def test_a_metric_outside_0_to_1_is_said(tasks):
    benchmark = load(tasks, metric="acc")
    with pytest.raises(Unusable, match=r"metric 'acc' is 7.0 on item .*; name one that lies in \[0, 1\]"):
        benchmark.check_metric({"acc": 7.0}, benchmark.items[0])
