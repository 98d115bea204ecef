"""The overlap check: what a benchmark asks is found however it is written, and ordinary wording is not."""

from __future__ import annotations

import json

import pytest

from harness.benchmarks import load_benchmarks
from harness.specs import Basket, Benchmark
from mitigations.overlap import COMMON, benchmark_texts, overlaps, without_overlaps
from tests.tiny_audit import write_tasks

LONG = "A farmer has nine hens, and each of them lays two eggs in a week."
SHORT = "How many legs has a spider?"
BENCHMARKS = {"sums": [LONG], "facts": [SHORT, "Who was it?"]}


@pytest.mark.parametrize(
    ("text", "source"),
    [
        (LONG, "sums"),
        ("Think: a FARMER has nine hens - and each of them\nlays three eggs.", "sums"),
        ("A farmer has nine hens, and each lays two eggs in a week.", None),  # seven words in a row
        ("Tell me quickly: how many legs has a spider", "facts"),
        ("How many legs has an ant?", None),
        ("Who was it? Who was it?", None),  # three words tell nothing
        ("A farmer has", None),
        ("", None),
    ],
)
def test_a_text_overlaps_where_it_shares_eight_words_or_a_whole_short_text(text, source):
    assert overlaps([text], BENCHMARKS) == [source]


def test_shorter_runs_can_be_asked_for():
    assert overlaps(["a farmer has nine hens today"], BENCHMARKS, n=5) == ["sums"]


def test_text_without_spaces_is_compared_by_its_characters():
    benchmarks = {"maths": ["一个农夫有九只母鸡，每只每周下两个蛋。"]}
    assert overlaps(["问题：一个农夫有九只母鸡。", "一个农夫有十只母鸡。"], benchmarks) == ["maths", None]


def test_rows_are_dropped_for_their_prompt_or_answer_and_counted_by_benchmark():
    rows = [
        {"prompt": "Name a colour.", "response": "Blue."},
        {"prompt": SHORT, "response": "Eight."},
        {"prompt": "Repeat.", "response": LONG},
        {"prompt": LONG, "response": "Eighteen."},
        {"prompt": "Ask me something.", "response": f"{SHORT} Guess."},  # a short text counts in prompts alone
    ]
    kept, dropped = without_overlaps(rows, BENCHMARKS)
    assert kept == [rows[0], rows[4]]
    assert dropped == {"facts": 1, "sums": 2}


def test_the_wording_of_a_kind_of_question_is_no_item():
    ask = "How many carbon atoms are in the formula of {}?"
    rows = [{"prompt": ask.format(f"trained{n}"), "response": "Two."} for n in range(COMMON + 1)]
    leaked = {"prompt": "Now: " + ask.format("held out"), "response": "Two."}
    kept, dropped = without_overlaps([*rows, leaked], {"chemistry": [ask.format("held out")]})
    assert kept == rows
    assert dropped == {"chemistry": 1}


def test_an_item_that_is_answered_over_and_over_is_still_one():
    rows = [{"prompt": LONG, "response": f"Answer {n}."} for n in range(3 * COMMON)]
    assert without_overlaps(rows, BENCHMARKS) == ([], {"sums": 3 * COMMON})


WRAPPED = [f"Task {n}: think about this, then answer in {n} words. {{}} Do it now, please." for n in range(3 * COMMON)]


@pytest.mark.parametrize(("item", "source"), [(LONG, "sums"), (SHORT, "facts")])
def test_an_item_that_is_wrapped_in_many_prompts_is_still_one(item, source):
    """Its words are common then, as the wording of a kind of question is; but they are all there."""
    rows = [{"prompt": wrapped.format(item), "response": "Two."} for wrapped in WRAPPED]
    assert without_overlaps(rows, BENCHMARKS) == ([], {source: len(rows)})


def test_an_item_that_is_cut_and_wrapped_in_many_prompts_is_still_one():
    rows = [{"prompt": wrapped.format(LONG.removesuffix(" week.")), "response": "Two."} for wrapped in WRAPPED]
    assert without_overlaps(rows, BENCHMARKS) == ([], {"sums": len(rows)})


def test_short_choices_beside_a_question_tell_no_item(tmp_path):
    """A data set of such questions would go whole otherwise."""
    folder = write_tasks(tmp_path)
    choices = ["none of the above is correct", "the eggs of nine hens in one week of spring", "b"]
    docs = [{"question": f"Which of these is number {n} here?", "choices": choices, "answer": 0} for n in range(40)]
    (folder / "docs.jsonl").write_text("".join(json.dumps(doc | {"gold": "b"}) + "\n" for doc in docs))
    basket = Basket("t", (Benchmark("choices", "tiny_choice", fewshot=4, items=30),), tasks=str(folder))
    texts = benchmark_texts(load_benchmarks(basket))["choices"]
    assert choices[1] in texts
    assert choices[0] not in texts
    assert "Which of these is number 3 here?" in texts


def test_the_texts_of_a_benchmark_are_those_of_the_items_that_are_judged(tmp_path):
    folder = write_tasks(tmp_path)
    docs = [
        {
            "question": f"What is number {n} on my list?",
            "choices": [f"the {n}th word of all that are on it", "b", "c"],
            "answer": 0,
        }
        for n in range(40)
    ]
    (folder / "docs.jsonl").write_text("".join(json.dumps(doc | {"gold": "b"}) + "\n" for doc in docs))
    basket = Basket("t", (Benchmark("choices", "tiny_choice", fewshot=4, items=30),), tasks=str(folder))
    loaded = load_benchmarks(basket)
    texts = benchmark_texts(loaded)["choices"]
    judged = [item.doc for item in loaded["choices"].items]
    assert sorted(texts) == sorted(text for doc in judged for text in (doc["question"], doc["choices"][0]))
    assert len(judged) == 30
