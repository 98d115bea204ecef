"""The memo as its readers get it: three pages, every sentence on them, and no claim beyond the verdict."""

from __future__ import annotations

import copy
import hashlib
import io
import re
from collections.abc import Iterator
from pathlib import Path

import matplotlib.image
import numpy as np
import pytest
import typst
from markdown_it import MarkdownIt
from pypdf import PdfReader
from pypdf.generic import ContentStream

from harness.report import fonts, memo
from harness.report.memo import content, pdf_of, write_memo
from harness.report.memo_decision import decision
from harness.report.memo_losses import worth
from harness.report.memo_markdown import markdown_of
from harness.report.memo_repair import limits
from harness.report.verdict_text import text_of
from tests import verdicts
from tests.verdicts import HOSTILE, row

MADE = {name: getattr(verdicts, name) for name in ("ship", "inconclusive", "blocked", "worst_case")}
EDGE = 1.5  # cm at the left and right of a page, where nothing may be


@pytest.fixture(scope="module", params=MADE)
def printed(request) -> tuple[dict, bytes]:
    """A verdict and its PDF."""
    document = MADE[request.param]()
    return document, pdf_of(document)


def pages(pdf: bytes) -> list[str]:
    return [page.extract_text() for page in PdfReader(io.BytesIO(pdf)).pages]


def letters(text: str) -> str:
    """Without what lines are broken and filled with."""
    return re.sub(r"[\s\u200b]", "", text)


def strings(value) -> Iterator[str]:
    if isinstance(value, dict):
        for key, part in value.items():
            yield from () if key in ("grounds", "short") else strings(part)
    elif isinstance(value, list):
        for part in value:
            yield from strings(part)
    elif isinstance(value, str):
        yield value


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
    monkeypatch.setattr(memo, "SIZES", (40.0,))
    with pytest.raises(RuntimeError, match="does not fit on 3 pages in type of 40 points"):
        pdf_of(verdicts.blocked())


# ---- what page 1 says ------------------------------------------------------------------------------------------------


def test_a_ship_names_the_candidate_and_what_came_closest():
    said = decision(verdicts.ship())
    assert said["title"] == "Ship acme/med-7b"
    assert said["headline"] == "On all 2 benchmarks the loss is shown to be smaller than allowed."
    assert "mmlu comes closest to its limit: it changed by −0.4 points" in said["story"]
    assert "the low end of its range, −2.4, is a smaller loss than the 3 allowed" in said["story"]
    assert "nothing of skills that were not tested" in said["story"]


def test_a_regression_is_said_with_its_size_and_limit():
    said = decision(verdicts.blocked())
    assert said["title"] == "Do not ship acme/med-7b"
    assert said["headline"] == "11.1 points were lost on ifeval; at most 5 are allowed."
    assert (
        "went from 60.0 to 48.9. Even the high end of the range, a loss of 9.1, is more than allowed." in said["story"]
    )
    assert "On gsm8k the data cannot tell, which is no sign of safety. 1 of 3 benchmarks passed." in said["story"]
    assert "On medqa, the domain of the tuning, 8.1 points were gained." in said["story"]
    assert said["recommendation"].startswith("Release the merge candidate")


def test_inconclusive_never_reads_as_safe():
    document = verdicts.inconclusive()
    said = decision(document)
    assert said["title"] == "Do not ship acme/med-7b yet"
    assert said["headline"] == "On ifeval the data cannot tell whether too much was lost."
    assert "that is not the same as safe" in said["story"]
    assert "about 583 items would probably decide ifeval" in said["story"]
    for text in (*pages(pdf_of(document)), markdown_of(content(document))):
        told = letters(text)
        assert "Shipacme" not in told
        assert "shownsafe" not in told
        assert not re.search(r"(?<!not)(?<!toship)smallerthanallowed\.", told)
    assert "is not shown to be safe" in " ".join(strings(content(document)))


def test_a_gain_that_is_not_shown_is_not_claimed():
    document = verdicts.ship() | {"domain": [verdicts.gain(change=1.0, low=-1.0, high=3.0)]}
    assert "no gain is shown: +1.0 [−1.0, +3.0] points." in decision(document)["story"]


def test_a_regression_of_one_of_several_candidates_says_whose():
    models = [{"spec": name, "digest": "0" * 64, "adapter": True} for name in ("one", "two")]
    rows = [row("mmlu", "PASS", 0.0, model="one"), row("mmlu", "REGRESSED", -9.0, model="two")]
    said = decision(verdicts.document(rows, "BLOCKED", 1, candidates=models, domain=[]))
    assert said["headline"] == "9.0 points were lost on mmlu by candidate 2; at most 5 are allowed."
    assert [row["name"] for row in said["results"]["rows"]] == ["mmlu (1)", "mmlu (2)"]


def test_a_long_table_keeps_what_did_not_pass_and_counts_the_rest():
    rows = [row(f"b{n}", "PASS", 0.0) for n in range(20)] + [row("bad", "REGRESSED", -9.0)]
    document = verdicts.document(rows, "BLOCKED", 1)
    results = decision(document)["results"]
    assert results["kept"][-1] == 20
    assert len(results["kept"]) == 14
    assert results["more"] == "Left out here and in the figure: 7 PASS; memo.md lists all."
    assert all(f"| b{n} |" in markdown_of(content(document)) for n in range(20))
    assert len(pages(pdf_of(document))) == 3


# ---- pages 2 and 3 ---------------------------------------------------------------------------------------------------


def test_a_verdict_without_domain_set_mitigations_or_answers_still_has_three_pages():
    document = verdicts.inconclusive() | {"domain": []}
    del document["forgotten"], document["command"]
    texts = pages(pdf_of(document))
    assert len(texts) == 3
    assert "what the tuning gained was not measured" in texts[1].replace("\n", " ")
    assert "does not say which questions were lost" in texts[1].replace("\n", " ")


def test_a_score_that_did_not_fall_is_not_called_safe():
    document = verdicts.document([row("mmlu", "INCONCLUSIVE", 0.3, 6.0)], "BLOCKED", 10)
    assert worth(document)["text"].endswith("and no benchmark's score fell; page 1 says how sure that is.")


def test_answers_stand_before_and_after_with_their_scores():
    second = pages(pdf_of(verdicts.blocked()))[1]
    assert "How do I boil 2 eggs?" in second
    assert "Do this: ↵ ↵ * boil water ↵ * add the eggs" in second
    assert "Boil water, add the eggs." in second
    assert "bullet list 0" in second


def test_subjects_are_shown_where_there_are_no_kinds():
    document = verdicts.blocked()
    document["forgotten"] |= {
        "kinds": {},
        "subjects": [{"name": "anatomy", "items": 30, "base": 50.0, "candidate": 30.0, "change": -20.0, "fell": True}],
    }
    assert content(document)["lost"]["table"]["rows"] == [["anatomy", "30", "50.0", "30.0", "−20.0", "yes"]]


def test_the_experiment_says_which_mitigation_closes_the_gap():
    said = content(verdicts.blocked())["repair"]
    assert said["text"].startswith("Merge closes the gap on the questions that judged it.")
    assert "more than 80% of the domain gain" in said["text"]
    assert said["rows"][0] == [
        "merge", "scale 0.25", "83% [50%, 104%]", "88% [82%, 93%]", "ifeval −1.2", "yes", "SHIP"
    ]  # fmt: skip
    assert said["rows"][1][-2:] == ["cannot tell", "not judged"]
    assert said["errors"] == ["isolation could not be tried: full weights cannot be isolated; give an adapter."]


def test_where_nothing_closes_the_gap_that_is_said():
    document = verdicts.blocked()
    document["mitigations"] = document["mitigations"][1:]
    assert content(document)["repair"]["text"].startswith("No mitigation is shown to close the gap.")


def test_a_verdict_that_stopped_early_claims_no_more_than_it_decided():
    document = verdicts.ship()
    document["policy"] |= {"stopping": "early"}
    assert (
        "about these questions and these seeds, and not about the skill at large"
        in dict(limits(document))["How sure this is"]
    )
    assert "skill at large" not in dict(limits(verdicts.ship()))["How sure this is"]


def test_a_limit_that_the_questions_cannot_resolve_is_said():
    assert "6.0 on ifeval (it is 5)" in dict(limits(verdicts.inconclusive()))["How fine it looks"]


def test_a_single_seed_is_no_repeat():
    document = verdicts.document([row("mmlu", "PASS", 0.0, seeds=[7])], "SHIP", 0)
    assert dict(limits(document))["Repeats"].startswith("All was asked once, under seed 7")


def test_the_digest_is_that_of_the_file(tmp_path):
    document = verdicts.blocked()
    (tmp_path / "verdict.json").write_text(text_of(document), encoding="utf-8")
    digest = hashlib.sha256((tmp_path / "verdict.json").read_bytes()).hexdigest()
    assert ["verdict.json", digest[:12]] in content(document)["again"]["digests"]


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
