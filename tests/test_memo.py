"""The memo as its readers get it: three pages, every sentence on them, and no claim beyond the verdict."""

from __future__ import annotations

import copy
import io
import re
from pathlib import Path

import matplotlib.image
import numpy as np
import pytest
import typst
from markdown_it import MarkdownIt
from pypdf import PdfReader
from pypdf.generic import ContentStream

from harness.report import fonts
from harness.report.memo import content, pdf_of, write_memo
from harness.report.memo_markdown import markdown_of
from tests import verdicts
from tests.printed import MADE, letters, pages, strings
from tests.verdicts import HOSTILE

EDGE = 1.5  # cm at the left and right of a page, where nothing may be


@pytest.fixture(scope="module", params=MADE)
def printed(request) -> tuple[dict, bytes]:
    """A verdict and its PDF."""
    document = MADE[request.param]()
    return document, pdf_of(document)


def unshown(pdf: bytes) -> int:
    """How many glyphs are the box that a font has for what it does not know, in text and plots."""

    def of(stream, resources) -> int:
        found = 0
        for operands, operator in ContentStream(stream, reader).operations:
            if operator == b"Do" and (part := resources["/XObject"][operands[0]].get_object())["/Subtype"] == "/Form":
                found += of(part, part.get("/Resources", resources))
            parts = operands[0] if operator == b"TJ" else operands
            for text in parts if operator in (b"Tj", b"TJ") else ():
                if hasattr(text, "original_bytes"):
                    codes = text.original_bytes
                    found += sum(codes[at : at + 2] == b"\0\0" for at in range(0, len(codes), 2))
        return found

    reader = PdfReader(io.BytesIO(pdf))
    return sum(of(page.get_contents(), page["/Resources"]) for page in reader.pages)


def test_it_has_three_pages_with_their_parts(printed):
    first, second, third = pages(printed[1])
    assert "MODELSAFETYMEMO" in letters(first)
    assert "Results against the base model" in first
    assert "Figure 1." in first
    assert "Was the domain gain worth it?" in second
    assert "What was forgotten" in second
    for part in ("Can it be repaired?", "For the next fine-tune", "does not say", "To run it again"):
        assert part in third


@pytest.mark.parametrize("name", ["ship", "inconclusive", "blocked"])
def test_every_word_is_on_its_page(name):
    document = MADE[name]()
    said, printed = content(document), [letters(page) for page in pages(pdf_of(document))]
    places = {"worth": 1, "lost": 1, "repair": 2, "advice": 2, "limits": 2, "again": 2}
    for key, value in said.items():
        for text in strings({key: value}):
            assert letters(text) in printed[places.get(key, 0)], text


def test_every_character_has_a_glyph(printed):
    assert unshown(printed[1]) == 0


def test_a_character_without_a_glyph_would_be_found():
    source = b'#set text(font: "Libertinus Serif", fallback: false)\n\xe4\xb8\xad'
    assert unshown(typst.compile(source, format="pdf", font_paths=fonts.book())) == 1


def test_nothing_runs_over_the_edge_of_a_page(printed, monkeypatch):
    made = []
    real = typst.compile
    monkeypatch.setattr(
        typst, "compile", lambda *a, **k: made.extend(real(*a, **k | {"format": "png", "ppi": 60})) or b""
    )
    pdf_of(printed[0])
    assert len(made) == 3
    for png in made:
        page = matplotlib.image.imread(io.BytesIO(png))[..., :3]
        edge = int(EDGE / 2.54 * 60)
        assert np.all(page[:, :edge] == 1)
        assert np.all(page[:, -edge:] == 1)


def test_the_same_verdict_gives_the_same_bytes(printed):
    document, pdf = printed
    assert pdf_of(copy.deepcopy(document)) == pdf
    made = PdfReader(io.BytesIO(pdf)).metadata.creation_date
    assert made.isoformat() == document["created"]  # and not the machine's clock
    assert markdown_of(content(copy.deepcopy(document))) == markdown_of(content(document))


def test_what_fits_in_no_type_is_an_error(monkeypatch):
    monkeypatch.setattr("harness.report.pdf.SIZES", (40.0,))
    with pytest.raises(RuntimeError, match="does not fit on 3 pages in type of 40 points"):
        pdf_of(verdicts.blocked())


# ---- hostile input, and files ----------------------------------------------------------------------------------------


def test_hostile_text_shows_as_text_on_every_page():
    for page in pages(pdf_of(verdicts.worst_case())):
        assert letters("<script>al") in letters(page)
    third = letters(pages(pdf_of(verdicts.worst_case()))[2])
    assert letters(HOSTILE) in third


def test_markdown_holds_no_markup_of_others():
    tokens = MarkdownIt("gfm-like", {"html": True, "linkify": False}).parse(markdown_of(content(verdicts.worst_case())))
    flat = [*tokens, *(child for token in tokens for child in token.children or ())]
    assert [token.attrs["src"] for token in flat if token.type == "image"] == ["plots/forest.svg", "plots/pareto.svg"]
    assert not [token for token in flat if token.type in ("link_open", "html_inline", "code_inline")]
    html = [token.content for token in flat if token.type == "html_block"]
    assert len(html) == 1
    assert re.findall(r"<.*?>", html[0]) == ["<pre>", "</pre>"]
    assert [token.level for token in flat if token.type == "heading_open"] == [0] * 9


def test_the_files_are_written_whole_and_old_plots_do_not_stay(tmp_path):
    write_memo(verdicts.blocked(), tmp_path)
    names = sorted(str(path.relative_to(tmp_path)) for path in Path(tmp_path).rglob("*") if path.is_file())
    assert names == ["memo.md", "memo.pdf", "plots/forest.svg", "plots/pareto.svg"]
    write_memo(verdicts.blocked() | {"domain": []}, tmp_path)
    assert not (tmp_path / "plots" / "pareto.svg").exists()
