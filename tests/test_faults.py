"""The form of an answer: empty, cut off, going round in circles."""

from __future__ import annotations

import pytest

from harness.faults import faults


@pytest.mark.parametrize(
    ("text", "tokens", "expected"),
    [
        ("Paris is the capital of France.", 8, (0, 0, 0)),
        ("", 0, (1, 0, 0)),
        (" \n…!", 3, (1, 0, 0)),
        ("a long answer that was cut", 100, (0, 1, 0)),
        ("a long answer that was almost cut", 98, (0, 1, 0)),
        ("one two " * 6, 12, (0, 0, 1)),
        ("An answer. " + "I do not know what to say next. " * 4, 40, (0, 0, 1)),
        ("no no no", 3, (0, 0, 0)),  # three times is emphasis
        ("1 2 3 4 5 6 7 8 9 10 11 12 13 14", 14, (0, 0, 0)),
        ("東京", 2, (0, 0, 0)),
    ],
)
def test_each_fault_is_found_and_no_sound_answer_is_blamed(text, tokens, expected):
    assert tuple(faults(text, tokens, 100).values()) == expected


def test_an_answer_without_limit_is_never_truncated():
    assert faults("text", 10_000, None)["truncated"] == 0
