"""What a DPO release comes to, and what is said of it: every verdict, from plain values."""

from __future__ import annotations

import json
import re

import pytest

from harness.report import dpo_lines, dpo_memo
from harness.report.dpo_document import build, decision_line, next_steps
from harness.stats import Interval
from tests import verdicts
from tests.dpo_releases import LOST, release


def test_three_passes_ship():
    made = build(release())
    assert (made["decision"], made["exit"]) == ("SHIP", 0)
    assert decision_line(made) == "SHIP (exit 0): accuracy, head-to-head, capability passed"


@pytest.mark.parametrize(
    ("given", "status", "why"),
    [
        ({"right": 0.5}, 1, "accuracy missed; head-to-head, capability passed"),
        ({"right": 0.69}, 10, "accuracy inconclusive; head-to-head, capability passed"),
        ({"rates": LOST}, 1, "head-to-head missed; accuracy, capability passed"),
        ({"rates": (0.55, 0.1, 0.35)}, 10, "head-to-head inconclusive; accuracy, capability passed"),
        ({"rates": None}, 10, "head-to-head inconclusive; accuracy, capability passed"),
        ({"capability": verdicts.inconclusive()}, 10, "capability inconclusive; accuracy, head-to-head passed"),
        ({"capability": verdicts.blocked()}, 1, "capability missed; accuracy, head-to-head passed"),
    ],
)  # fmt: skip
def test_what_does_not_pass_blocks_and_is_named(given, status, why):
    made = build(release(**given))
    assert decision_line(made) == f"BLOCKED (exit {status}): {why}"
    assert made["exit"] == status


def test_the_document_is_json_and_holds_the_audits_own():
    made = build(release())
    assert json.loads(json.dumps(made)) == made
    assert made["capability"] == verdicts.ship()
    assert made["accuracy"]["plain"]["share"] == 90.0
    assert made["accuracy"]["shortcuts"][0]["lead"]["share"] == 35.0


def test_a_fall_of_the_chosen_answers_is_reported_and_blocks_nothing():
    made = build(release(chosen=Interval(-5.0, -7.0, -3.0)))
    assert made["decision"] == "SHIP"
    assert made["chosen_likelihood"]["falls"]
    assert "THEY FALL" in "\n".join(dpo_lines.verdict_lines(made))
    assert any("sigmoid+sft" in sentence for sentence in made["next"])
    assert not build(release())["chosen_likelihood"]["falls"]


def test_a_base_that_is_right_as_often_before_training_is_said():
    made = build(release(right=0.75, before=0.74))
    assert made["accuracy"]["over_base"]["low"] < 0 < made["accuracy"]["over_base"]["share"]
    assert "by its own likelihood: 74.0%; the model is +1.0 [" in "\n".join(dpo_lines.verdict_lines(made))
    assert any("likelier in 74.0%, and the tuned model is not shown to be ahead" in step for step in made["next"])
    assert "That tuning made it better at this is not shown." in dpo_memo.markdown_of(dpo_memo.content(made))
    ahead = build(release(right=0.9, before=0.5))
    assert not any("Before training" in step for step in ahead["next"])
    assert "is not shown" not in dpo_memo.markdown_of(dpo_memo.content(ahead))


def test_a_rule_that_the_model_is_not_ahead_of_is_said():
    told = next_steps(build(release(right=0.75, rule=0.8)))
    assert any("bag of words" in sentence and "not shown to be ahead" in sentence for sentence in told)
    assert not any("bag of words" in sentence for sentence in next_steps(build(release())))


def test_margins_wider_than_wanted_are_said_with_what_is_wanted():
    told = " ".join(dpo_lines.verdict_lines(build(release())))
    assert "mmlu: 2 points are wanted and 3 are judged; its 200 items resolve 4.1" in told


def test_who_has_trained_it_on_what_is_said_as_far_as_it_is_known():
    unknown = dpo_memo.markdown_of(dpo_memo.content(build(release())))
    assert "Whether it has seen some of the 300 judgements that test it is not known" in unknown
    given = release()
    given.saw_the_judges, given.too_long = lambda run: False, 40
    made = build(given)
    memo = dpo_memo.markdown_of(dpo_memo.content(made))
    assert "It saw 200 of 2,200 judgements; 260 others were kept back to test it. 40 more are too long" in memo
    assert "40 of 300 held-out pairs are longer than the model and were not asked" in dpo_lines.beside(made)


@pytest.mark.parametrize("simulated", [True, False])
def test_simulated_votes_say_so_in_every_report_and_others_do_not(tmp_path, simulated):
    made = build(release(simulated=simulated))
    dpo_memo.write(made, tmp_path)
    memo, lines, page = (tmp_path / "memo.md").read_text(), dpo_lines.verdict_lines(made), dpo_lines.markdown(made)
    assert bool(made["simulated"]) == simulated
    assert all(("SIMULATED" in text) == simulated for text in (memo, page, lines[0]))
    rows = [
        line
        for line in (*lines, *page.splitlines(), *memo.splitlines())
        if re.search("head-to-head +50|ditors prefer it", line)
    ]
    assert rows
    assert all(("SIMULATED" in row) == simulated for row in rows), rows
    votes = [sentence for sentence in memo.split(". ") if "of the votes" in sentence]
    assert votes
    assert all(("SIMULATED editors (programs)" in sentence) == simulated for sentence in votes)


@pytest.mark.parametrize("given", [{}, {"rates": None, "right": 0.5}, {"capability": verdicts.worst_case()}])
def test_the_memo_has_two_pages_and_the_same_bytes_again(tmp_path, given):
    made = build(release(**given))
    found = []
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        dpo_memo.write(made, tmp_path / name)
        found.append((tmp_path / name / "memo.pdf").read_bytes())
    assert found[0] == found[1]
    assert b"/Pages/Count 2/" in found[0]


def test_answers_of_models_do_nothing_in_the_memo(tmp_path):
    made = build(release())
    made["examples"] = [{"prompt": verdicts.HOSTILE, "base": "", "candidate": verdicts.HOSTILE * 40}] * 3
    dpo_memo.write(made, tmp_path)
    memo = (tmp_path / "memo.md").read_text()
    assert "<script>" not in memo
    assert "(it wrote nothing)" in memo.replace("\\", "")
