"""Texts of others stay texts in every format that a report has."""

from __future__ import annotations

import pytest
from markdown_it import MarkdownIt

from harness.report import escape

NASTY = {
    "markup": "<script>alert(1)</script> & <b>bold</b> \"quoted\" 'too'",
    "markdown": "# a | b `code` *em* _em_ [link](http://x) ![i](y) ~~s~~ $m$ <http://z> &lt; \\ {x}",
    "list": "- a",
    "numbers": "12. a",
    "heading": "## a",
    "rule": "===",
    "indented": "    code",
    "table": "a|b\\|c\n| d |",
    "workflow": "one\n::error::two\r\n%0A::set-output name=x::y",
    "formula": "=HYPERLINK(1)",
    "other scripts": "模型-ﬁne ‏نموذج 🧪 e\u0301",
}


@pytest.mark.parametrize("text", NASTY.values(), ids=NASTY)
def test_markdown_shows_the_text_itself(text):
    """As a renderer reads it: one paragraph of nothing but text."""
    inline = MarkdownIt("commonmark").enable(["table", "strikethrough"]).parse(escape.markdown(text))
    assert [token.type for token in inline] == ["paragraph_open", "inline", "paragraph_close"]
    assert {child.type for child in inline[1].children} <= {"text", "text_special"}
    assert "".join(child.content for child in inline[1].children) == escape.one_line(text)


def test_what_a_page_gets_has_no_markup_left():
    assert escape.html('<a href="x">&') == "&lt;a href=&quot;x&quot;&gt;&amp;"


def test_a_workflow_command_cannot_start_another():
    assert escape.workflow_command(NASTY["workflow"]) == "one ::error::two %250A::set-output name=x::y"


@pytest.mark.parametrize("text", ["=1+1", "+1", "-1", "@x", "\t=1"])
def test_a_spreadsheet_computes_no_cell(text):
    assert escape.csv_cell(text) == f"'{text}"


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("a\x1b[31mb\x00", "a�[31mb�"),
        ("a\u202eb", "a�b"),
        ("\ud800", "�"),
        ("a\uffffb", "a�b"),
        ("a\r\nb\tc", "a\nb\tc"),
    ],
)
def test_what_has_no_glyph_or_turns_a_line_round_is_replaced(text, shown):
    assert escape.printable(text) == shown
    escape.printable(text).encode()


def test_a_long_name_keeps_both_ends():
    assert escape.ends("/models/a/very/long/path/to/candidate-7", 20) == "/model…o/candidate-7"
    assert escape.ends("org/name", 20) == "org/name"


def test_a_long_text_says_how_much_is_left_out():
    assert escape.cut("x" * 12, 10) == "xxxxxxxxxx… [2 more characters]"
    assert escape.cut("x" * 10, 10) == "x" * 10


@pytest.mark.parametrize(
    ("text", "written"),
    [
        ("Base digest", "Base\\ digest"),
        ("a=b:c#d!e\\f", "a\\=b\\:c\\#d\\!e\\\\f"),
        ("é🧪", "\\u00E9\\uD83E\\uDDEA"),
        ("a\nb", "a\\ b"),
    ],
)
def test_a_property_reads_back_as_java_reads_it(text, written):
    assert escape.java_property(text) == written
