"""What a reader sees of an item: the answer that was given, and the one that was expected."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from harness.answers import answer_of, expected_of
from harness.store import Cell, Score

CHOICES = ["red", "blue"]


def task(kind: str, target: object = 1) -> SimpleNamespace:
    return SimpleNamespace(
        OUTPUT_TYPE=kind,
        multiple_input=0,
        doc_to_choice=lambda doc: CHOICES,
        doc_to_target=lambda doc: target,
        config=SimpleNamespace(doc_to_choice=CHOICES),
    )


def answered(*responses: object) -> Score:
    return Score(Cell("m", "b", 0), "t:1", {}, list(responses))


def test_an_answer_is_what_was_written_or_the_choice_found_most_likely():
    of_gold = [-0.1, True]  # the third response is the likelihood of the gold solution, and no choice
    assert answer_of(task("multiple_choice"), {}, answered([-3.0, False], [-1.0, True], of_gold)) == "blue"
    assert answer_of(task("generate_until"), {}, answered("it is blue", [-1.0, False])) == "it is blue"
    assert answer_of(task("generate_until"), {}, answered([-1.0, False])) == ""


@pytest.mark.parametrize(
    ("kind", "target", "expected"),
    [
        ("multiple_choice", 1, "blue"),
        ("multiple_choice", [0, 1], "red | blue"),
        ("generate_until", "it is blue", "it is blue"),
        ("generate_until", 0, ""),  # IFEval's: nothing is compared with it
    ],
)
def test_what_is_expected_is_the_right_choice_or_the_text_that_answers_are_compared_with(kind, target, expected):
    assert expected_of(task(kind, target), {}) == expected
