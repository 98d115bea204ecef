"""What continuous integration shows of a run: a page in Markdown, one annotation, properties; and docs/ci.md."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest
import yaml
from markdown_it import MarkdownIt

from harness.report import escape
from harness.report.summary import annotation, case_properties, suite_properties, summary, undecided_summary, write
from harness.report.terminal import decision_line
from tests import verdicts
from tests.tiny_audit import ROOT, command, environment
from tests.verdicts import HOSTILE

KINDS = {name: getattr(verdicts, name) for name in ("ship", "inconclusive", "blocked", "worst_case")}
ON_GITHUB = {"GITHUB_ACTIONS": "true"}
PROSE = {"text", "text_special", "strong_open", "strong_close"}


def read(text: str):
    """The tokens of a page as GitHub's renderer would see them."""
    return MarkdownIt("commonmark", {"html": True}).enable(["table", "strikethrough"]).parse(text)


def cells(text: str) -> list[list[str]]:
    """Rows of all tables, as a reader sees them."""
    rows: list[list[str]] = []
    for token in read(text):
        if token.type == "tr_open":
            rows.append([])
        if token.type == "inline" and token.level == 4:
            rows[-1].append("".join(child.content for child in token.children))
    return rows


@pytest.mark.parametrize("make", KINDS.values(), ids=KINDS)
def test_the_page_says_the_decision_in_the_words_of_the_last_line(make):
    made = make()
    shown = ["".join(c.content for c in t.children) for t in read(summary(made)) if t.type == "inline"]
    assert shown[0] == f"Lethe: {made['decision']}"
    assert shown[1] == escape.one_line(decision_line(made), escape.SENTENCE)


def test_the_table_holds_every_benchmark_with_its_interval_and_margin():
    rows = cells(summary(verdicts.blocked()))
    assert rows[0] == ["benchmark", "items", "base", "fine-tuned", "change [bounds]", "margin", "verdict"]
    assert rows[2] == ["ifeval", "200", "60.0", "48.9", "−11.1 [−13.1, −9.1]", "5", "❌ REGRESSED"]
    assert rows[4][-1] == "domain gain"
    assert rows[6] == ["merge", "83% [50%, 104%]", "88% [82%, 93%]", "yes", "SHIP"]
    assert rows[8][3].startswith("could not be tried: full weights")


def test_an_inconclusive_run_never_reads_as_a_pass():
    page = summary(verdicts.inconclusive())
    assert "INCONCLUSIVE: the data cannot tell, which is no pass." in page
    assert "✅ INCONCLUSIVE" not in page
    assert "SHIP" not in page


def test_names_and_reasons_of_others_are_nothing_but_text():
    tokens = read(summary(verdicts.worst_case()))
    assert not [token for token in tokens if token.type.startswith("html")]
    inside = {child.type for token in tokens if token.type == "inline" for child in token.children}
    assert inside <= PROSE
    rows = cells(summary(verdicts.worst_case()))
    assert {len(row) for row in rows} == {8, 5}
    assert rows[8][0] == escape.ends(HOSTILE, 80)


@pytest.mark.parametrize("make", KINDS.values(), ids=KINDS)
def test_one_error_is_annotated_unless_the_model_may_ship(make):
    made = make()
    line = annotation(made["exit"], decision_line(made), ON_GITHUB)
    if made["decision"] == "SHIP":
        assert line is None
    else:
        assert line.count("\n") == 0
        assert line.startswith(f"::error title=Lethe::BLOCKED (exit {made['exit']}): ")


def test_a_run_without_a_verdict_says_so_everywhere():
    line = "NO DECISION (exit 3): the run broke: disk full; nothing may ship on this."
    assert annotation(3, line, ON_GITHUB) == f"::error title=Lethe::{line}"
    assert annotation(3, line, {}) is None
    assert "Nothing may ship on this run." in undecided_summary(line)
    assert suite_properties(3, None) == [("decision", "NO DECISION"), ("exit", "3")]


def test_junit_has_the_decision_and_each_interval():
    made = verdicts.blocked()
    assert ("decision", "BLOCKED") in suite_properties(1, made)
    assert ("ifeval", "REGRESSED −11.1 [−13.1, −9.1]") in suite_properties(1, made)
    assert dict(case_properties(made["benchmarks"][1])) == {
        "benchmark": "ifeval", "verdict": "REGRESSED", "change": "−11.1 [−13.1, −9.1]", "margin": "5",
        "reason": verdicts.blocked()["benchmarks"][1]["reason"],
    }  # fmt: skip


def test_the_page_is_kept_and_appended_to_the_steps_own(tmp_path):
    step = tmp_path / "step.md"
    step.write_text("before\n")
    write(tmp_path, "the verdict\n", {"GITHUB_STEP_SUMMARY": str(step)})
    write(tmp_path, "the verdict\n", {})
    assert step.read_text() == "before\nthe verdict\n"
    assert (tmp_path / "summary.md").read_text() == "the verdict\n"


def test_input_that_cannot_be_used_is_annotated_too(tmp_path, monkeypatch):
    """And the pages of an earlier run, which may say SHIP, are gone."""
    out, step = tmp_path / "out", tmp_path / "step.md"
    (out / "allure-results").mkdir(parents=True)
    (out / "allure-results" / "1-result.json").write_text('{"name": "SHIP"}')
    (out / "summary.md").write_text("SHIP")
    monkeypatch.setenv("GITHUB_ACTIONS", "true")
    monkeypatch.setenv("GITHUB_STEP_SUMMARY", str(step))
    done = subprocess.run(
        command(tmp_path, Path("/nowhere"), Path("/nowhere")),
        cwd=ROOT,
        env=environment(),
        capture_output=True,
        text=True,
    )
    assert done.returncode == 4, done.stdout
    why = "model '/nowhere' is a directory that does not exist; check the path."
    assert re.findall("^::error.*", done.stdout, re.M) == [f"::error title=Lethe::NO DECISION (exit 4): {why}"]
    assert "NO DECISION (exit 4)" in step.read_text() == (out / "summary.md").read_text()
    assert not list((out / "allure-results").iterdir())


# ---- docs/ci.md ------------------------------------------------------------------------------------------------------

PAGE = (ROOT / "docs" / "ci.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"```yaml\n(.*?)```", PAGE, re.S)


def test_the_documented_pipelines_are_yaml_that_gates_a_release():
    github, gitlab = map(yaml.safe_load, BLOCKS)
    assert github["jobs"]["publish"]["needs"] == "forgetting"
    assert gitlab["publish"]["needs"] == ["forgetting"]
    assert "allow_failure" not in gitlab["forgetting"]
    kept = [step for step in github["jobs"]["forgetting"]["steps"] if "upload-artifact" in step.get("uses", "")]
    assert kept[0]["if"] == "${{ always() }}"
    assert gitlab["forgetting"]["artifacts"]["when"] == gitlab["forgetting"]["cache"]["when"] == "always"


def test_the_documented_commands_use_options_and_targets_that_exist():
    known = set(re.findall(r'"(--[a-z-]+)"', (ROOT / "conftest.py").read_text())) | {"--junitxml", "--results"}
    assert set(re.findall(r"--[a-z-]+(?==)", PAGE)) <= known
    targets = set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(), re.M)) | {".venv/.ready"}
    assert set(re.findall(r"make (?:-\w )?([a-z.][\w./]+)", "\n".join(BLOCKS))) <= targets | {"nodejs"}
    for path in re.findall(r"--basket=(\S+)", PAGE):
        assert (ROOT / path).is_file()


@pytest.mark.parametrize("status", [0, 1, 10, 4, 3])
def test_every_exit_status_is_explained(status):
    assert re.search(rf"^\| (?:\d, )*{status}(?:, \d)* \|", PAGE, re.M)
