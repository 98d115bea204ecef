"""The score card: one page whatever a submission says, and nothing of it that acts."""

from __future__ import annotations

import io
from pathlib import Path

import pytest
from pypdf import PdfReader

from harness.report.ticket_card import ELSEWHERE, card_html, case_title, content, markdown_of, pdf_of, write
from harness.report.ticket_document import build, lines
from harness.submission.assessment import Assessment, Challenge
from harness.submission.contract import Limits
from harness.submission.grading import judge
from harness.submission.judge import measure_noise
from harness.submission.sandbox import Outcome
from tests.grades import RIGHT, ROWS, TAXONOMY, WordJudge, answers, graded

HOSTILE = "<script>alert(1)</script> | [x](http://e.example) #set page() " + "W" * 400


def document(results=RIGHT, ledger=None, name="mine.zip", failure=None, elsewhere=None):
    grade = graded(results)
    outcomes = [Outcome(b"", None, 61.25, 3 << 30, ""), Outcome(b"", None, 60.0, 1 << 30, "")]
    judged = WordJudge()
    challenge = Challenge(TAXONOMY, ROWS, Path("hidden"), Path("train"), Path("weights"), Limits(threads=1))
    noise = measure_noise(judged, ROWS, results)
    found = Assessment(grade, judge(grade, 0.5), failure, outcomes, results, [], judged.name, noise, graded(answers()))
    base = {"spec": "weights", "digest": "1" * 64}
    return build(found, challenge, {"name": name, "digest": "0" * 64}, base, ledger, elsewhere)


def text_of(pdf: bytes) -> str:
    return "".join(page.extract_text() for page in PdfReader(io.BytesIO(pdf)).pages)


def test_the_card_is_one_page_with_dimensions_cost_and_judge():
    pdf = pdf_of(document())
    said = text_of(pdf)
    assert len(PdfReader(io.BytesIO(pdf)).pages) == 1
    for words in (
        "mine.zip",
        "intent accuracy",
        "40%",
        "reproducibility",
        "61.2, 60.0",
        "3,072 MiB",
        "words in common",
    ):
        assert words in said


def test_the_same_document_gives_the_same_bytes(tmp_path):
    made = document()
    write(made, tmp_path)
    assert (tmp_path / "card.pdf").read_bytes() == pdf_of(made)


@pytest.mark.parametrize("render", [card_html, markdown_of])
def test_what_a_submission_says_is_text(render):
    said = render(document(answers(), failure=f"it ended with status 1: {HOSTILE}"))
    assert "<script>" not in said
    assert "alert(1)" in said.replace("\\", "")  # it is shown


def test_a_card_of_long_and_odd_texts_is_one_page():
    said = f"it ended with status 1: {HOSTILE}"
    pdf = pdf_of(document(answers(**dict.fromkeys("abcd", (HOSTILE, HOSTILE))), name=HOSTILE, failure=said))
    assert len(PdfReader(io.BytesIO(pdf)).pages) == 1
    assert "<script>" in text_of(pdf)


def test_worst_rows_and_confusions_are_shown_worst_first():
    results = answers(
        a=("product.bug", "x"), b=("data.export", "It takes 24 hours"), c=("?", "x"), d=("product.bug", "x")
    )
    tables = content(document(results))["tables"]
    assert [row[0] for row in tables["Worst rows"][1]] == ["a", "c", "d"]
    assert ("billing.seats", "product.bug", "1") in tables["Intents that were confused"][1]


def test_calls_to_a_model_are_shown_as_the_host_counted_them():
    ledger = {"calls": {"200": 3, "402": 1}, "cost": 0.0123, "budget": 3.0}
    assert ("calls to a model", "4, $0.0123 of $3.0000") in content(document(ledger=ledger))["tables"]["Cost"][1]


def audit(names, verdict="PASS") -> dict:
    """The parts of a forgetting audit's verdict.json that a card shows."""
    row = {"base": 40.0, "candidate": 38.9, "change": -1.1, "low": -2.3, "high": 0.1, "margin": 3.0, "verdict": "PASS"}
    benchmarks = [{"name": name, "items": 9, **row} for name in names]
    benchmarks[-1]["verdict"] = verdict
    return {
        "decision": "SHIP",
        "candidates": [{"spec": "mine", "digest": "0" * 64}],
        "basket": "quick",
        "benchmarks": benchmarks,
    }


def test_what_an_audit_of_the_same_adapter_says_stands_on_the_card_and_decides_nothing():
    made, alone = document(elsewhere=audit(["mmlu", "gsm8k"])), document()
    assert content(made)["tables"][ELSEWHERE][1][0] == ("mmlu", "−1.1 [−2.3, +0.1]", "3", "PASS")
    assert "elsewhere (decides nothing): SHIP: mmlu −1.1 [−2.3, +0.1] PASS, gsm8k" in "\n".join(lines(made))
    assert ELSEWHERE in text_of(pdf_of(made))
    assert ELSEWHERE not in text_of(pdf_of(alone))
    assert "gsm8k" in markdown_of(made)
    assert "gsm8k" in card_html(made)
    assert (made["decision"], made["total"]) == (alone["decision"], alone["total"])


def test_a_card_with_an_audit_of_many_benchmarks_is_one_page():
    made = document(elsewhere=audit([HOSTILE, *map(str, range(11))]))
    assert len(PdfReader(io.BytesIO(pdf_of(made))).pages) == 1
    assert content(made)["tables"][ELSEWHERE][1][6][0] == "6 more in the audit's own report"


def test_what_an_audit_found_regressed_stands_first_and_its_decision_last():
    told = audit(map(str, range(9)), "REGRESSED") | {"decision": "BLOCKED"}
    rows = content(document(elsewhere=told))["tables"][ELSEWHERE][1]
    assert (rows[0][0], rows[0][-1]) == ("8", "REGRESSED")
    assert (rows[-1][0], rows[-1][-1]) == ("all of basket quick: mine", "BLOCKED")
    changed = told | {"rejudged": {"margins": {"8": 1.0}}}
    assert "Margins were changed" in content(document(elsewhere=changed))["tables"][ELSEWHERE][1][-1][0]


def test_titles_name_the_decision_and_each_score():
    made = document()
    assert case_title(made, None) == f"{made['decision']}: mine.zip"
    assert case_title(made, made["dimensions"][3]) == "training efficiency: 100.0 [100.0 to 100.0]"
