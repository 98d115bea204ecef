"""Text from models and users: it shows all of itself, on one line, and does nothing."""

from __future__ import annotations

import pytest
from markdown_it import MarkdownIt

from harness.report.fonts import clusters, spelled
from harness.report.foreign import columns, markdown, shown
from tests.verdicts import HOSTILE


@pytest.mark.parametrize(
    ("text", "seen"),
    [
        ("plain", "plain"),
        ("two\r\n\r\nlines\tand\u00a0a tab", "two ↵ ↵ lines and a tab"),
        ("\x00\x1b[31mred", "\\u{0000}\\u{001B}[31mred"),
        ("a\u202eb", "a\\u{202E}b"),
        ("half \ud800 a pair", "half \\u{D800} a pair"),
        ("private \ue000", "private \\u{E000}"),
        ("\U00013000", "\\u{13000}"),
        ("中文 한국어 日本語 ไทย é", "中文 한국어 日本語 ไทย é"),
        ("👩\u200d🔬", "👩\u200d🔬"),
        ("z\u0301\u0302\u0303\u0304\u0305", "z\u0301\u0302\u0303\u0304\\u{0305}"),
        (12, "12"),
    ],
)
def test_what_would_not_show_is_spelled_out(text, seen):
    assert shown(text, 200) == seen


def test_text_is_cut_at_its_width_and_between_letters():
    assert shown("x" * 300, 20) == "x" * 19 + "…"
    assert shown("中" * 300, 20) == "中" * 9 + "…"
    assert shown("e\u0301" * 30, 10) == "e\u0301" * 9 + "…"
    assert columns(shown("中" * 300 + "x" * 300, 50)) <= 50
    assert len(shown("\ue000" * 300, 50)) <= 50


def test_a_long_name_keeps_both_ends():
    name = shown("a_long_path/" * 20 + "the-end", 30, middle=True)
    assert name.startswith("a_long_path/")
    assert name.endswith("the-end")
    assert len(name) == 30


def test_right_to_left_text_turns_nothing_around_it():
    assert shown("نموذج", 20) == "\u2068نموذج\u2069"
    assert shown("left", 20) == "left"


def test_a_mark_without_a_font_in_common_with_its_letter_is_spelled_out():
    assert spelled("中\u0941") == "中\\u{0941}"
    assert list(clusters("ne\u0301e")) == ["n", "e\u0301", "e"]


@pytest.mark.parametrize(
    "text",
    [HOSTILE, "[x](javascript:y)", "https://evil.example www.evil.example", "<b>", "# no", "a@b.example", "~~no~~"],
)
def test_markdown_shows_it_and_does_nothing(text):
    tokens = MarkdownIt("gfm-like", {"html": True, "linkify": False}).parse(f"said: {markdown(text)}")
    children = [child for token in tokens for child in token.children or ()]
    assert {child.type for child in children} <= {"text", "text_special"}
    assert "".join(child.content for child in children) == f"said: {text}"
