"""A stored audit judged again: the same bytes where nothing is changed, other margins where they are."""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
from pathlib import Path

import pytest

from harness.report import again
from harness.report.__main__ import main
from harness.report.memo import write_memo
from harness.report.model_card import write_model_card
from harness.report.terminal import decision_line
from harness.specs import Policy
from tests.recorded import recorded, scores_of, verdict_in, write
from tests.tiny_audit import ROOT, environment, run, write_basket

BASE = {"arith": scores_of(0.6), "recall": scores_of(0.5, key=1), "domain": scores_of(0.2, key=2)}
TUNED = {"arith": scores_of(0.5), "recall": scores_of(0.5, key=1), "domain": scores_of(0.7, key=2)}
WORSE = {**TUNED, "arith": scores_of(0.3)}
SETTINGS = {"arith": {"margin": 7.0}, "domain": {"role": "domain"}}  # 100 * (7 / 100) is not 7


@pytest.fixture
def stored(tmp_path) -> Path:
    """The --out of an audit that arith blocks: a loss of ten points, more than seven."""
    write(recorded(tmp_path / "out", BASE, TUNED, settings=SETTINGS))
    return tmp_path / "out"


def same(folder: Path, other: Path) -> bool:
    """All that an audit leaves but what only the gate writes, and plots, which memo.pdf has."""
    names = ("verdict.json", "scores.jsonl", "memo.pdf", "memo.md", "model-card.yaml")
    return all((folder / name).read_bytes() == (other / name).read_bytes() for name in names)


AUDITS = {
    "one candidate": ((TUNED,), {}),
    "two candidates": ((TUNED, WORSE), {}),
    "the base itself": ((BASE,), {"names": ("base", "base")}),
    "a recipe": ((TUNED, WORSE, {**TUNED, "arith": scores_of(0.45)}), {"recipe": True}),
    "stopped early": ((WORSE,), {"policy": Policy(stopping="early", batch=20)}),
    "without Holm": ((TUNED, WORSE), {"policy": Policy(alpha=0.1, multiplicity="none")}),
}


@pytest.mark.parametrize(("candidates", "more"), AUDITS.values(), ids=AUDITS)
def test_nothing_changed_gives_the_same_verdict_byte_for_byte(tmp_path, candidates, more):
    made = write(recorded(tmp_path / "out", BASE, *candidates, settings=SETTINGS, **more))
    edited(tmp_path / "out", "verdict.json", lambda text: text.replace(made["created"], "2020-02-02T02:02:02+00:00"))
    write_memo(verdict_in(tmp_path / "out"), tmp_path / "out")
    write_model_card(verdict_in(tmp_path / "out"), tmp_path / "out")
    assert main(["--from", str(tmp_path / "out" / "scores.jsonl")]) == made["exit"]
    assert same(tmp_path / "out", tmp_path / "out" / "again")
    assert "2 February 2020" in (tmp_path / "out" / "again" / "memo.md").read_text()


def test_an_audit_that_stopped_early_keeps_what_it_planned(tmp_path):
    write(recorded(tmp_path / "out", BASE, WORSE, settings=SETTINGS, policy=Policy(stopping="early", batch=20)))
    main(["--from", str(tmp_path / "out")])
    row = verdict_in(tmp_path / "out" / "again")["benchmarks"][0]
    assert row["items"] < row["planned"] == 200


@pytest.fixture(scope="module")
def audited(tmp_path_factory, taught, spoiled):
    """A real audit on tiny models: sampled, few-shot, answers under one seed alone, a domain set, two candidates."""
    folder = tmp_path_factory.mktemp("audited")
    gold = 'metric = "gold_prob_per_byte"\ngold = "{{ gold }}"\n'
    letters = f'task = "tiny_write"\n{gold}margin = 7.0\nchat = true\nanswers = "first"\ntemperature = 0.7'
    basket = write_basket(folder, letters=letters, other=f'task = "tiny_write"\n{gold}role = "domain"')
    return folder, run(folder, taught, taught, spoiled, basket=basket)


def test_a_gate_s_own_verdict_comes_out_again_without_torch(audited, tmp_path):
    folder, done = audited
    given = [sys.executable, "-m", "tests.without_torch", "harness.report", "--from", folder / "out" / "scores.jsonl"]
    told = subprocess.run([*given, "--out", tmp_path], cwd=ROOT, env=environment(), capture_output=True, text=True)
    assert told.returncode == done.returncode == 1, told.stderr + done.stdout
    assert same(folder / "out", tmp_path)
    decision = [text for text in told.stdout.splitlines() if text.startswith("BLOCKED")]
    assert len(decision) == 1
    assert decision[0] in done.stdout.splitlines()


def test_another_margin_decides_otherwise_and_is_told(stored, capsys):
    assert verdict_in(stored)["decision"] == "BLOCKED"
    before = (stored / "verdict.json").read_bytes()
    assert main(["--from", str(stored / "scores.jsonl"), "--margin", "arith=20"]) == 0
    made = verdict_in(stored / "again")
    assert (made["decision"], made["exit"]) == ("SHIP", 0)
    assert [row["margin"] for row in made["benchmarks"]] == [20.0, 3.0]
    run = verdict_in(stored)
    assert made["rejudged"] == {"margins": {"arith": 7.0}, "command": run["command"]}
    assert made["created"] == run["created"]
    assert made["command"] == f"{run['command']} --margin arith=20"
    said = capsys.readouterr().out
    told = "Margins were changed after the answers were known: 20 on arith (it ran with 7)."
    assert told in said
    for name in ("memo.md", "summary.md", "model-card.yaml"):
        assert told in (stored / "again" / name).read_text().replace("\\", "")
    assert "SHIP (exit 0): all 2 benchmarks lost less than their margins" in said
    assert (stored / "verdict.json").read_bytes() == before


def test_the_numbers_are_those_of_an_audit_with_that_margin(stored, tmp_path):
    main(["--from", str(stored), "--margin", "recall=1.1", "--margin", "arith=11"])
    settings = {"arith": {"margin": 11.0}, "recall": {"margin": 1.1}, "domain": {"role": "domain"}}
    write(recorded(tmp_path / "fresh", BASE, TUNED, settings=settings))
    changed = verdict_in(stored / "again")
    assert changed.pop("rejudged")
    fresh = verdict_in(tmp_path / "fresh")
    of_the_run = {"created": "", "command": ""}
    assert {**changed, **of_the_run} == {**fresh, **of_the_run}


def test_back_to_the_margins_of_the_run_is_the_run(stored, tmp_path):
    main(["--from", str(stored), "--margin", "arith=20", "--out", str(tmp_path / "one")])
    main(["--from", str(tmp_path / "one"), "--margin", "recall=9", "--out", str(tmp_path / "two")])
    assert verdict_in(tmp_path / "two")["rejudged"]["margins"] == {"arith": 7.0, "recall": 3.0}
    main(["--from", str(tmp_path / "two"), "--margin", "arith=7", "--margin", "recall=3", "--out", str(tmp_path / "x")])
    assert same(stored, tmp_path / "x")


def edited(folder: Path, name: str, change) -> None:
    path = folder / name
    path.write_text(change(path.read_text()))


def without(*keys: str):
    return lambda text: json.dumps({k: v for k, v in json.loads(text).items() if k not in keys})


def broken_settings(text: str) -> str:
    told = json.loads(text)
    del told["settings"]["benchmarks"][0]["guessing"]
    return json.dumps(told)


UNUSABLE = {
    "another score": ("scores.jsonl", lambda text: text.replace("0.0", "1.0", 1), "is not the file that"),
    "a cut file": ("scores.jsonl", lambda text: text[:-40], "is not the file that"),
    "an older verdict": ("verdict.json", without("settings", "scores"), "as an older version wrote it"),
    "another schema": ("verdict.json", lambda text: text.replace('"schema": 1', '"schema": 9'), "no verdict of schema"),
    "no JSON": ("verdict.json", lambda text: text[:50], "cannot be read"),
    "settings that lack something": ("verdict.json", broken_settings, "is not as this version writes it"),
}  # fmt: skip


@pytest.mark.parametrize(("name", "change", "sentence"), UNUSABLE.values(), ids=UNUSABLE)
def test_files_that_do_not_belong_together_are_refused(stored, capsys, name, change, sentence):
    edited(stored, name, change)
    assert main(["--from", str(stored / "scores.jsonl")]) == 4
    assert sentence in capsys.readouterr().err
    assert not (stored / "again").exists()


OPTIONS = {
    "no such file": (["--from", "nowhere/scores.jsonl"], "nowhere/verdict.json does not exist"),
    "no such benchmark": (["--margin", "mmlu=3"], "benchmark 'mmlu' is not in basket 'arrays'; it has arith, recall"),
    "no number": (["--margin", "arith=few"], "--margin arith=few is no NAME=POINTS"),
    "no margin": (["--margin", "arith=nan"], "--margin arith: margin = nan is no loss in points"),
    "no option": (["--margins", "3"], "unrecognized arguments"),
}


@pytest.mark.parametrize(("given", "sentence"), OPTIONS.values(), ids=OPTIONS)
def test_options_that_cannot_be_used_end_with_the_gate_s_status(stored, capsys, given, sentence):
    assert main(["--from", str(stored), *given]) == 4
    assert sentence in capsys.readouterr().err
    assert not (stored / "again").exists()


def test_the_audit_that_is_judged_again_stays_as_it_is(stored, capsys):
    before = {path: path.read_bytes() for path in stored.iterdir() if path.is_file()}
    assert main(["--from", str(stored), "--margin", "arith=20", "--out", str(stored / ".")]) == 4
    assert "holds the audit that is judged again" in capsys.readouterr().err
    assert {path: path.read_bytes() for path in stored.iterdir() if path.is_file()} == before


def test_a_verdict_that_came_out_before_does_not_outlive_a_refusal(stored):
    assert main(["--from", str(stored), "--margin", "arith=20"]) == 0
    assert (stored / "again" / "summary.md").read_text().startswith("## Lethe: SHIP")
    edited(stored, "scores.jsonl", lambda text: text[:-40])
    assert main(["--from", str(stored), "--margin", "arith=20"]) == 4
    assert not [path for path in (stored / "again").rglob("*") if path.is_file()]


def test_a_pipeline_is_told_as_by_the_gate(stored, tmp_path, monkeypatch, capsys):
    step = tmp_path / "step.md"
    monkeypatch.setenv("GITHUB_ACTIONS", "true")
    monkeypatch.setenv("GITHUB_STEP_SUMMARY", str(step))
    assert main(["--from", str(stored), "--margin", "arith=5"]) == 1
    line = decision_line(verdict_in(stored / "again"))
    assert capsys.readouterr().out.splitlines()[-1] == f"::error title=Lethe::{line}"
    assert step.read_text() == (stored / "again" / "summary.md").read_text()


def test_an_inconclusive_audit_ends_with_its_own_status(tmp_path):
    small = {"arith": scores_of(0.6, items=30, seeds=1)}
    less = {"arith": scores_of(0.55, items=30, seeds=1)}
    write(recorded(tmp_path, small, less))
    assert main(["--from", str(tmp_path)]) == 10


def test_scores_that_are_not_there_are_never_a_smaller_n(stored):
    """Lines that were dropped by a program which also wrote their digest."""
    kept = (stored / "scores.jsonl").read_text().splitlines(keepends=True)[:-7]
    (stored / "scores.jsonl").write_text("".join(kept))
    told = verdict_in(stored) | {"scores": hashlib.sha256("".join(kept).encode()).hexdigest()}
    (stored / "verdict.json").write_text(json.dumps(told))
    with pytest.raises(again.Unusable, match="has no recorded score of 7 of 200 items under seed 1"):
        again.load(stored, stored)
