"""The reports of a reward model's release, from planted scores: figures, pages, and texts that do nothing."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
from markdown_it import MarkdownIt

from harness.report import (
    allure_results,
    reward_lines,
    reward_methodology,
    reward_page,
    reward_pages,
    reward_plots,
    reward_report,
)
from harness.report.files import remove_verdict
from harness.report.reward_document import build, candidate_row
from harness.reward.checks import BLOCKING, WARNING
from harness.reward.scores import read_scores
from tests import planted_rewards as planted
from tests.reward_releases import LOG, many, release
from tests.tiny_audit import ROOT
from tests.verdicts import HOSTILE, RIGHT_TO_LEFT

SOUND = release()
FAULTS = {"separation": planted.shuffled, "finite": planted.broken_weights, "saturated": planted.saturated}
ODD = f"{HOSTILE} {'W' * 400} \x00 \ud800 {RIGHT_TO_LEFT} 👩\u200d🔬 中文 " * 9
FOUND = SOUND.scores


def written(given, folder):
    document = build(given)
    folder.mkdir(exist_ok=True)
    reward_report.write(document, given.scores, given.policy, folder)
    return document


@pytest.fixture(scope="module")
def shipped(tmp_path_factory):
    folder = tmp_path_factory.mktemp("reward") / "out"
    return written(SOUND, folder), folder


def no_numbers(value: float):
    return replace(FOUND, scores=np.full_like(FOUND.scores, value), probes={})


# ---- figures ---------------------------------------------------------------------------------------------------------


def test_what_the_document_says_stands_in_every_report(shipped):
    document, folder = shipped
    assert document["decision"] == "SHIP"
    page = json.dumps(reward_pages.content(document), ensure_ascii=False)
    methodology = (folder / "methodology.md").read_text().replace("\\", "")
    summary = reward_lines.markdown(document).replace("\\", "")
    for row in (document["accuracy"]["overall"], *document["accuracy"]["categories"].values()):
        bounds = f"[{row['low']:.1f}, {row['high']:.1f}]"
        assert all(bounds in text and f"{row['share']:.1f}" in text for text in (page, methodology, summary))
    for check in document["diagnostics"]:
        assert check["title"] in page
        assert check["reason"] in methodology
        assert check["reason"] in summary
    lead = document["accuracy"]["rules"][-1]["lead"]
    assert f"+{lead['share']:.1f} [+{lead['low']:.1f}, +{lead['high']:.1f}]" in page
    assert f"+{lead['share']:.1f} [+{lead['low']:.1f}, +{lead['high']:.1f}]" in methodology
    assert all("SIMULATED" in text for text in (page, methodology, summary))


def test_verdict_and_scores_can_be_read_again(shipped):
    document, folder = shipped
    assert json.loads((folder / "verdict.json").read_text()) == json.loads(json.dumps(document, allow_nan=False))
    again = read_scores(folder / "scores.jsonl", FOUND.pairs)
    np.testing.assert_array_equal(again.scores, FOUND.scores)


@pytest.mark.parametrize("fault", FAULTS)
def test_what_blocks_is_named_with_its_reason_on_the_first_page_and_as_a_next_step(fault):
    document = build(release(FAULTS[fault](0)))
    said = reward_pages.content(document)
    check = next(check for check in document["diagnostics"] if check["name"] == fault)
    assert (document["decision"], check["verdict"], said["tone"]) == ("BLOCKED", "BLOCK", "MISSED")
    assert said["title"] == "Do not ship this reward model"
    assert f"“{check['title']}”" in said["story"]
    assert ["BLOCK", check["title"], check["reason"]] in said["checks"]["told"]
    assert check["reason"] in said["next"]


def test_what_is_open_is_not_said_to_be_bad():
    said = reward_pages.content(build(release(planted.sound(0, runs=("seed0",)))))
    assert (said["title"], said["tone"]) == ("Do not ship this reward model yet", "INCONCLUSIVE")
    assert "Not asked: “Training runs agree”." in said["story"]
    assert any("train another seed" in sentence for sentence in said["next"])


def test_worst_pairs_are_those_with_the_lowest_margin_and_readable():
    document = build(SOUND)
    mean = FOUND.margin.mean(axis=1)
    worst = document["worst_pairs"][0]
    assert worst["id"] == FOUND.pairs[int(mean.argmin())].id
    shown = reward_pages.content(document)["worst"][0]
    assert [shown[name] for name in ("prompt", "chosen", "rejected")] == [worst["prompt"], "chosen", "rejected"]
    margins = [f"{run} −{-value:.2f}" for run, value in zip(FOUND.runs, worst["margins"], strict=True)]
    assert shown["margins"] == "margin: " + ", ".join(margins)


def test_a_head_that_gives_one_value_has_no_worst_pairs():
    assert build(release(planted.constant(0)))["worst_pairs"] == []


def test_a_run_without_numbers_does_not_hide_the_worst_pairs_of_the_others():
    document = build(release(planted.broken_weights(0)))
    assert len(document["worst_pairs"]) == 8
    assert all(pair["margins"][1] is None for pair in document["worst_pairs"])
    assert "seed1 no number" in reward_pages.content(document)["worst"][0]["margins"]


def test_categories_that_did_not_pass_are_kept_where_a_page_has_no_room_for_all():
    found = many(40, 2)
    own = np.array([pair.category.startswith("kind 39 ") for pair in found.pairs])
    turned = np.where(own[:, None, None], found.scores[..., ::-1], found.scores)
    document = build(release(replace(found, scores=turned)))
    said = reward_pages.content(document)
    assert len(said["table"]["rows"]) == 1 + reward_pages.ROWS
    assert any(row[0].startswith("kind 39 ") and row[-1] == "MISSED" for row in said["table"]["rows"])
    assert "27 more categories are in verdict.json" in said["table"]["note"]


# ---- pages and bytes -------------------------------------------------------------------------------------------------

CASES = {
    "no numbers": lambda: release(no_numbers(np.nan), rules=False, best_of_n=None),
    "infinite": lambda: release(no_numbers(np.inf)),
    "one run broken": lambda: release(planted.broken_weights(0)),
    "40 categories, 10 runs, odd texts": lambda: release(many(40, 10, ODD), embedded=False, best_of_n=None),
    "one category and run": lambda: release(many(1, 1), rules=False, given=(ODD[:200],), embedded=False),
    "long texts": lambda: release(many(5, 3, "y" * 5000)),
    "long words": lambda: release(many(14, 3, "word " * 1000)),
}


@pytest.mark.parametrize("name", CASES)
def test_the_report_has_three_pages_whatever_the_scores_and_texts(name):
    given = CASES[name]()
    pdf = reward_report.pdf_of(build(given), given.scores, given.policy)
    assert b"/Pages/Count 3/" in pdf


def test_the_same_release_gives_the_same_bytes_and_all_of_it_can_be_removed(shipped, tmp_path):
    document, folder = shipped
    reward_report.write(document, FOUND, SOUND.policy, tmp_path)
    files = sorted(path.relative_to(tmp_path) for path in tmp_path.rglob("*") if path.is_file())
    assert len(files) == 8
    assert all((folder / file).read_bytes() == (tmp_path / file).read_bytes() for file in files)
    assert b"/Pages/Count 3/" in (tmp_path / "report.pdf").read_bytes()
    remove_verdict(tmp_path)
    assert not [path for path in tmp_path.rglob("*") if path.is_file()]


def test_a_drawing_that_cannot_be_made_is_not_left_from_before_and_is_said(tmp_path):
    (tmp_path / "plots").mkdir()
    (tmp_path / "plots" / "margins.svg").write_text("of another run")
    document = written(release(no_numbers(np.nan), rules=False), tmp_path)
    assert sorted(path.name for path in (tmp_path / "plots").iterdir()) == ["accuracy.svg"]
    said = reward_pages.content(document)
    assert said["left_out"] == "No score is a number in: seed0, seed1, seed2."
    verdicts = [verdict for verdict, *_ in said["checks"]["told"]]
    assert verdicts == sorted(verdicts)  # BLOCK before NOT ASKED, before OK
    assert verdicts[0] == "BLOCK"


# ---- the methodology -------------------------------------------------------------------------------------------------


def section(document, title: str) -> str:
    text = reward_methodology.markdown_of(document).replace("\\", "")
    return text.partition(f"## {title}\n")[2].partition("\n## ")[0]


def test_the_methodology_tells_how_it_was_made_and_how_the_training_went():
    document = build(SOUND)
    again, course = section(document, "To run it again"), section(document, "Training, and how it went")
    assert "python -m pytest -m reward --base=embedded:base --seeds=0,1,2 --train-pairs=1500" in again
    assert all(f"--data train.jsonl --out {run}" in again for run in FOUND.runs)
    assert "torch 2.0, trl 1.16" in again
    assert f"| {LOG[-1]['step']} | {LOG[-1]['loss']:.3f} | {LOG[-1]['accuracy']:.3f}" in course
    assert course.count("| step |") == 3
    assert "| brevity | 300 | 100 |" in section(document, "Data and splits")
    assert "c = 0.01" in section(document, "Loss")
    for check in document["diagnostics"]:
        assert f"| {check['title']} | {'blocks' if check['blocks'] else 'warns'} |" in section(document, "Diagnostics")


def test_what_was_not_tested_follows_from_the_run():
    ours = section(build(SOUND), "What was not tested")
    theirs = release(planted.sound(0, runs=("candidate",)), embedded=False, given=("./my",), best_of_n=None)
    untested = section(build(theirs), "What was not tested")
    assert "reinforcement learning" in ours
    assert "reinforcement learning" in untested
    assert "generated by rules" in ours
    assert "generated by rules" not in untested
    assert "SIMULATED" in ours
    assert "best of n was not asked" in untested
    assert "Training runs agree: Not asked" in untested
    assert "seen the held-out pairs in training" in untested
    assert "seen the held-out pairs in training" not in ours
    assert "not recorded" in section(build(theirs), "Training, and how it went")


def test_embedded_pairs_are_said_to_be_generated_in_every_report():
    for embedded in (True, False):
        document = build(release(embedded=embedded, best_of_n=None))
        assert ("GENERATED BY RULES" in section(document, "Data and splits")) == embedded
        said = reward_pages.content(document)
        assert ("generated by rules" in said["label"]) == embedded
        assert ("5% of the labels are flipped on purpose" in said["noise"]) == embedded


def test_texts_of_others_do_nothing_in_the_methodology():
    given = release(many(3, 2, ODD), given=(HOSTILE, HOSTILE + "2"), embedded=False)
    given.runs = given.scores.runs
    text = reward_methodology.markdown_of(build(given))
    tokens = MarkdownIt("gfm-like", {"html": True, "linkify": False}).parse(text)
    kinds = {child.type for token in tokens for child in token.children or ()} | {token.type for token in tokens}
    assert not kinds & {"html_block", "html_inline", "image", "link_open", "em_open"}


# ---- Allure ----------------------------------------------------------------------------------------------------------


def given_to(name: str, made: SimpleNamespace) -> dict:
    return {
        "test_reward_training": {"reward_run": candidate_row(made, made.runs[0])},
        "test_target": {"target_name": "tone", "target": made.accuracy.categories["tone"]},
        "test_target_of_run": {"target_name": "overall", "run": made.runs[-1]},
        "test_diagnostic": {"diagnostic": made.checks[0]},
        "test_decision": {"reward_decision": build(made)},
    }[name]


@pytest.mark.parametrize(
    ("name", "title", "told"),
    [
        ("test_reward_training", r"seed0: trained", "setting epochs"),
        ("test_target", r"tone: PASS, 82\.7% \[76\.3, 88\.3\], wanted > 65\.0%", "bag of words"),
        ("test_target_of_run", r"overall, seed2 alone: 83\.2%", "the verdict over all runs decides"),
        ("test_diagnostic", r"Every score is a number: OK", "0 of 2,800 scores are NaN"),
        ("test_decision", r"SHIP: reward model on embedded:base", "6 of 6 targets passed"),
    ],
)
def test_every_case_has_a_page(name, title, told):
    said, html = reward_page.case(name, given_to(name, SOUND), SOUND)
    assert re.fullmatch(title, said)
    assert told in html


def test_the_page_of_a_target_has_the_rules_on_the_same_pairs():
    for name, found in {"overall": SOUND.accuracy.overall, **SOUND.accuracy.categories}.items():
        _, html = reward_page.case("test_target", {"target_name": name, "target": found}, SOUND)
        lead, by_category = SOUND.accuracy.lead, SOUND.accuracy.rules_by_category
        share = lead.accuracy if name == "overall" else by_category[lead.name][name]
        assert f">{lead.name}<" in html
        assert f">{100 * share:.1f}<" in html


def test_allure_is_told_what_was_run():
    found = allure_results.environment(build(SOUND))
    assert found["Basket"] == "reward"
    assert found["Package trl"] == "1.16"
    assert found["Candidate 3"] == "./seed2"


def test_candidates_of_other_programs_have_pages_too():
    made = release(planted.broken_weights(0), rules=False, given=("a", "b", "c"), embedded=False, best_of_n=None)
    pages = [reward_page.case(name, given_to(name, made), made) for name in reward_page.CASES]
    assert "not recorded" in pages[0][1]
    assert pages[-1][0].startswith("BLOCKED")
    assert "<script" not in "".join(html for _, html in pages)


def test_the_page_of_documentation_knows_every_diagnostic_and_option():
    text = (ROOT / "docs" / "reward.md").read_text()
    lines = [line for line in text.splitlines() if line.startswith("| `")]
    told = {line.split("`")[1].split()[0]: line for line in lines}
    for name, title in (BLOCKING | WARNING).items():
        assert title in told[name]
        assert ("blocks" in told[name]) == (name in BLOCKING)
    ours = set(re.findall(r'"(--[a-z-]+)"', (ROOT / "fixtures" / "reward_gate.py").read_text()))
    assert ours | {"--pairs", "--base", "--candidate", "--seeds", "--basket", "--store"} <= told.keys()
    assert all(name in text for name in ("report.pdf", "methodology.md", "scores.jsonl", "verdict.json", "summary.md"))


def test_more_runs_than_have_a_name_of_their_own_are_counted():
    assert reward_plots._named([f"r{n}" for n in range(7)]) == ["r0", "r1", "r2", "r3", "and 3 more", None, None]
    assert reward_plots._named(["r0", "r1"]) == ["r0", "r1"]
