"""A submission from its archive to its grade, with real runs in the sandbox."""

from __future__ import annotations

import json
import zipfile
from pathlib import Path

import pytest

from fixtures.ticket_data import TRAIN
from harness.report.ticket_document import build, decision_line, lines
from harness.submission.assessment import Challenge, assess
from harness.submission.contract import GIB, Limits
from tests import hostile
from tests.grades import ROWS, TAXONOMY, WordJudge

ANSWERS = {row.id: (row.intent, row.ideal_reply) for row in ROWS}
PERFECT = (
    hostile.SOUND
    + f"""
answers = {ANSWERS!r}
write([dict(row, predicted_intent=answers[row["id"]][0], prediction=answers[row["id"]][1]) for row in predictions])
"""
)


@pytest.fixture
def challenge(tmp_path) -> Challenge:
    """Four rows, a short time limit and no model."""
    hidden = tmp_path / "hidden.jsonl"
    hidden.write_text("the rows that grade")
    (tmp_path / "weights").mkdir()
    limits = Limits(seconds=20, memory=GIB, processes=32, threads=1)
    return Challenge(TAXONOMY, ROWS, hidden, TRAIN, tmp_path / "weights", limits)


@pytest.fixture
def grade(tmp_path, challenge):
    """Program of a run.py -> (assessment, document)."""

    def grade(program: str, **options):
        folder = hostile.folder(tmp_path / "mine", program)
        found = assess(folder, challenge, WordJudge(), **options)
        submission, base = ({"name": name, "digest": "0" * 64} for name in ("mine", "weights"))
        return found, build(found, challenge, submission, base)

    return grade


def test_a_perfect_submission_earns_everything_twice_alike(grade):
    found, document = grade(PERFECT)
    assert found.grade.total.estimate == pytest.approx(1.0)
    assert len(found.outcomes) == 2
    assert document["reproducible"] is True
    assert document["total"] == pytest.approx(100)
    assert [row["score"] for row in document["dimensions"]] == pytest.approx([100] * 5)
    assert document["judge"] == {"name": "words in common", "noise": {"repeat": 0, "order": 0, "rows": 4, "repeats": 3}}
    assert len(document["cost"]["seconds"]) == 2
    json.dumps(document)


def test_four_rows_prove_nothing_even_if_all_are_right(grade):
    _, document = grade(PERFECT)
    assert (document["decision"], document["exit"], document["verdict"]) == ("BLOCKED", 10, "INCONCLUSIVE")
    assert "enclose the threshold of 50" in document["reason"]


def test_one_that_answers_otherwise_the_second_time_earns_nothing(grade):
    found, document = grade(hostile.RANDOM)
    assert list(found.differing) == ["a", "b", "c", "d"]
    assert (document["total"], document["exit"], document["reproducible"]) == (0, 1, False)
    assert decision_line(document) == (
        "BLOCKED (exit 1): two runs with one seed answered 4 rows otherwise, which earns nothing."
    )


@pytest.mark.parametrize(
    ("program", "said"),
    [
        ("raise SystemExit(3)", "it ended with status 3"),
        (hostile.NO_OUTPUT, "it ended well and left no results file"),
        (hostile.MALFORMED, "the results are no JSON"),
    ],
)
def test_one_that_fails_is_graded_with_the_reason_in_every_row(grade, program, said):
    _, document = grade(program)
    assert document["exit"] == 1
    assert all(said in row["reasons"][0] for row in document["rows"])
    assert [row["score"] for row in document["dimensions"]][:4] == [0, 0, 0, 0]
    assert said in document["reason"] or "nothing for intent accuracy" in document["reason"]
    assert lines(document)[-1] == decision_line(document)


def test_an_archive_that_is_refused_is_graded_and_never_run(tmp_path, challenge):
    path = tmp_path / "mine.zip"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("run.py", PERFECT)
        archive.writestr("../README.md", "out")
    found = assess(path, challenge, WordJudge())
    assert list(found.outcomes) == []
    assert "would leave the archive's folder" in found.failure
    assert found.verdict == "MISSED"
    assert not list(tmp_path.parent.glob("README.md"))


def test_a_submission_sees_tickets_and_no_answers(grade):
    program = PERFECT + "print(sorted({key for row in rows for key in row}), len(rows))"
    found, _ = grade(program)
    assert found.outcomes[0].printed.strip() == "['id', 'ticket'] 4"


def test_the_untuned_base_is_graded_beside_it(grade, tmp_path):
    untuned = hostile.SOUND.replace(
        "given = parser.parse_args()", 'parser.add_argument("--epochs")\ngiven = parser.parse_args()'
    )
    reference: Path = hostile.folder(tmp_path / "reference", untuned + "assert given.epochs == '0'\nwrite()")
    found, document = grade(PERFECT, reference=reference)
    assert found.base.accuracy < 1.0
    assert document["base_accuracy"] == 100 * found.base.accuracy
    assert document["dimensions"][0]["base"] is not None
    assert document["dimensions"][3]["base"] is None  # a base is not trained
