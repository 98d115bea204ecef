"""The Allure results of a run: what stands first, what each case says, and that a case is the same one in every run."""

from __future__ import annotations

import csv
import html.parser
import io
import json
import re
from pathlib import Path
from types import SimpleNamespace
from xml.etree import ElementTree

import numpy as np
import pytest
from _pytest.junitxml import xml_key

from fixtures.gate_session import GateReports, GateSession
from harness.report import allure, allure_results, escape, flips, item_plot
from harness.report.terminal import decision_line
from tests import verdicts
from tests.recorded import recorded
from tests.tiny_audit import run, verdict_of
from tests.verdicts import HOSTILE

FOREST = "<svg xmlns='http://www.w3.org/2000/svg'/>"
DECISION = "tests.gates.test_forgetting#test_decision"


class Seen(html.parser.HTMLParser):
    """The elements of a page and its text."""

    def __init__(self, page: str):
        super().__init__()
        self.elements, self.attributes, self.words = set(), set(), ""
        self.feed(page)

    def handle_starttag(self, tag, attributes):
        self.elements.add(tag)
        self.attributes |= {name for name, _ in attributes}

    def handle_data(self, data):
        self.words += f"{data} "


# ---- what cases say --------------------------------------------------------------------------------------------------

KINDS = {name: getattr(verdicts, name) for name in ("ship", "inconclusive", "blocked", "worst_case")}
HARMLESS = {"div", "p", "h3", "ul", "li", "table", "thead", "tbody", "tr", "th", "td", "img"}


@pytest.mark.parametrize("make", KINDS.values(), ids=KINDS)
def test_the_summary_says_the_decision_and_every_interval(make):
    made = make()
    seen = Seen(allure.decision_html(made, FOREST))
    assert made["decision"] in seen.words
    assert decision_line(made).partition(": ")[2] in seen.words
    for row in made["benchmarks"]:
        assert allure.change(row) in seen.words
    if made["decision"] != "SHIP":  # a mitigation may ship, and says so in its own row alone
        able = [tried for tried in made["mitigations"] if tried.get("full")]
        assert seen.words.count("SHIP") == len(able)


@pytest.mark.parametrize("make", KINDS.values(), ids=KINDS)
def test_what_a_reader_sees_is_text_and_tables_whatever_the_names_are(make):
    made = make()
    pages = [allure.decision_html(made, FOREST), allure.verdict_page(made)]
    pages += [allure.benchmark_html(row, {"Interval": FOREST}) for row in made["benchmarks"]]
    pages += [allure.mitigation_html(row, HOSTILE) for row in made["mitigations"] if "error" not in row]
    for page in pages:
        seen = Seen(page)
        assert seen.elements <= HARMLESS | {"html", "head", "meta", "title", "body"}
        assert seen.attributes <= {"style", "src", "alt", "lang", "charset"}
    if make is verdicts.worst_case:
        assert escape.ends(HOSTILE, 80) in Seen(pages[0]).words


def test_a_mitigation_is_named_by_what_it_gives_back_and_keeps():
    merge, replay, _ = verdicts.blocked()["mitigations"]
    assert allure.mitigation_title("merge", merge) == (
        "merge: closes the gap: yes; 83% of the loss given back, 88% of the gain kept"
    )
    assert allure.mitigation_title("isolation", None) == "isolation: could not be tried"
    seen = Seen(allure.mitigation_html(replay, "closes the gap: no; ifeval REGRESSED")).words
    assert "Closes the gap: no; ifeval REGRESSED." in seen
    assert "83% [50%, 104%]" in seen


@pytest.mark.parametrize(
    ("message", "status", "category"),
    [
        ("REGRESSED: ifeval: the loss is above 5.0 points", "failed", "Regressed"),
        ("Failed: BLOCKED (exit 1): ifeval regressed", "failed", "Regressed"),
        ("BLOCKED (exit 1): head-to-head missed; capability inconclusive", "failed", "Missed"),
        ("BLOCKED (exit 1): two runs with one seed answered 50 rows otherwise", "failed", "Missed"),
        ("BLOCK: the head counts length", "failed", "Missed"),
        ("MISSED: tone: below 65%", "failed", "Missed"),
        ("NOT ASKED: agreement: there is one run", "failed", "Inconclusive"),
        ("INCONCLUSIVE: REGRESSED: the data cannot tell", "failed", "Inconclusive"),
        ("BLOCKED (exit 10): ifeval inconclusive", "failed", "Inconclusive"),
        ("merge: closes the gap: no; ifeval REGRESSED", "failed", "Mitigation"),
        ("isolation: could not be tried: no prompts\nat all", "failed", "Mitigation"),
        ("OutOfMemoryError: REGRESSED: no", "broken", "Run error"),
        ("NO DECISION (exit 3): the run broke", "broken", "Run error"),
    ],
)
def test_every_failure_has_one_category(message, status, category):
    found = [
        c["name"]
        for c in allure_results.CATEGORIES
        if status in c["matchedStatuses"] and re.search(c.get("messageRegex", ""), message)
    ]
    assert [name.startswith(category) for name in found] == [True]


def test_lost_items_are_there_for_work_and_for_reading():
    made = [
        flips.Flip(f"t:{n}", "t", 1.0, 0.0, -1.0, 3, f"=question {n}", "gold", HOSTILE, "x" * 9000) for n in range(60)
    ]
    rows = list(csv.DictReader(io.StringIO(flips.as_csv(made))))
    assert len(rows) == 60
    assert (rows[7]["base"], rows[7]["change"], rows[7]["seed"]) == ("100.0", "-100.0", "3")
    assert rows[7]["question"] == "'=question 7"
    assert rows[7]["answer_of_base"].startswith("<script>")
    assert len(rows[7]["answer_of_candidate"]) < 4100
    seen = Seen(flips.as_html(made, HOSTILE))
    assert "The 40 of 60 items that changed most" in seen.words
    assert seen.elements <= HARMLESS | {"html", "head", "meta", "title", "body"}
    assert "x" * 1000 not in seen.words


def test_the_answers_shown_are_those_of_the_seed_under_which_an_item_changed(tmp_path):
    """Under the other seed both sides may be right."""
    base, tuned = np.array([[1.0, 1.0], [0.0, 0.0], [1.0, 1.0]]), np.array([[1.0, 0.0], [0.0, 1.0], [1.0, 1.0]])
    audit = recorded(tmp_path, {"arith": base}, {"arith": tuned})
    lost, won = flips.changed(audit, audit.candidates, "arith")
    assert (lost.seed, lost.change, lost.before, lost.after) == (1, -0.5, "says 1", "says 0")
    assert (won.seed, won.change, won.before, won.after) == (1, 0.5, "says 0", "says 1")


def test_the_drawing_of_the_items_counts_them_and_is_the_same_every_time():
    change = np.array([-1, 0, 0.5, -0.25, 0])
    drawn = item_plot.changes(change)
    assert drawn == item_plot.changes(change)
    assert "<!-- 5 items, sorted: 2 lost, 2 the same, 1 won -->" in drawn


# ---- the folder ------------------------------------------------------------------------------------------------------


def write_result(folder: Path, name: str, full: str, start: int, **more) -> None:
    folder.mkdir(exist_ok=True)
    result = {"name": name, "fullName": full, "start": start, "stop": start + 5, "status": "passed"} | more
    (folder / f"{name}-result.json").write_text(json.dumps(result))


def results(folder: Path) -> list[dict]:
    """In the order in which Allure counts them."""
    found = [json.loads(path.read_text()) for path in folder.glob("*-result.json")]
    return sorted(found, key=lambda result: result.get("start", 0))


def test_the_decision_stands_first_and_its_reason_has_no_traceback(tmp_path):
    write_result(tmp_path, "cell", "gates#test_evaluation", 10)
    reason = {"message": "Failed: BLOCKED (exit 1): ifeval", "trace": "BLOCKED (exit 1): ifeval"}
    write_result(tmp_path, "decision", DECISION, 90, status="failed", statusDetails=reason)
    (tmp_path / "1-container.json").write_text("{}")
    allure_results.finish(tmp_path, DECISION, None)
    first, second = results(tmp_path)
    assert (first["name"], second["name"]) == ("decision", "cell")
    assert first["start"] < second["start"]
    assert first["statusDetails"] == {"message": "BLOCKED (exit 1): ifeval"}
    assert not list(tmp_path.glob("*container*"))


@pytest.mark.parametrize("told", [True, False], ids=["a case says SHIP", "no test came to it"])
def test_a_run_that_ended_without_a_verdict_has_no_case_that_says_ship(tmp_path, told):
    write_result(tmp_path, "cell", "gates#test_evaluation", 10)
    if told:
        write_result(
            tmp_path, "SHIP", DECISION, 90, descriptionHtml="SHIP", attachments=[{"source": "a", "name": "SHIP"}]
        )
        (tmp_path / "a").write_text("SHIP")
    allure_results.finish(tmp_path, DECISION, "NO DECISION (exit 3): the run broke")
    first = results(tmp_path)[0]
    assert (first["name"], first["status"]) == ("NO DECISION", "broken")
    assert first["statusDetails"]["message"] == "NO DECISION (exit 3): the run broke"
    assert "SHIP" not in json.dumps(first)
    assert not (tmp_path / "a").exists()


def test_environment_executor_and_categories_are_told(tmp_path):
    github = {
        "GITHUB_ACTIONS": "true", "GITHUB_SERVER_URL": "https://host", "GITHUB_REPOSITORY": "org/repo",
        "GITHUB_RUN_ID": "7", "GITHUB_RUN_NUMBER": "12", "GITHUB_WORKFLOW": "gate",
    }  # fmt: skip
    allure_results.describe(tmp_path, verdicts.worst_case(), github)
    lines = (tmp_path / "environment.properties").read_text(encoding="ascii").splitlines()
    assert "Base\\ digest=c1c1c1c1c1c1" in lines
    assert all(re.fullmatch(r"(\\.|[^\\ =:])+=.*", line) for line in lines), "one key and one value a line"
    assert len(lines) == len(allure_results.environment(verdicts.worst_case()))
    executor = json.loads((tmp_path / "executor.json").read_text())
    assert executor["buildUrl"] == "https://host/org/repo/actions/runs/7"
    assert (executor["type"], executor["buildName"], executor["buildOrder"]) == ("github", "gate #12", 12)
    assert allure_results.executor({"GITLAB_CI": "true", "CI_JOB_URL": "https://x/1"})["type"] == "gitlab"
    assert allure_results.executor({})["type"] == "local"
    assert json.loads((tmp_path / "categories.json").read_text()) == allure_results.CATEGORIES


# ---- a real run ------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def audited(tmp_path_factory, taught, spoiled):
    """A run that is blocked, as on GitHub: its folder, what it printed."""
    folder = tmp_path_factory.mktemp("audited")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("GITHUB_ACTIONS", "true")
        patch.setenv("GITHUB_STEP_SUMMARY", str(folder / "step.md"))
        done = run(folder, taught, spoiled, more=(f"--junitxml={folder / 'junit.xml'}",))
    assert done.returncode == 1, done.stdout
    return folder, done


def labels(result: dict) -> dict[str, str]:
    return {label["name"]: label["value"] for label in result["labels"]}


def of(folder: Path, test: str) -> list[dict]:
    return [r for r in results(folder / "out" / "allure-results") if r["fullName"].endswith(f"#{test}")]


def test_a_run_writes_its_cases_without_being_asked(audited):
    folder, _ = audited
    found, made = results(folder / "out" / "allure-results"), verdict_of(folder)
    first = found[0]
    assert first["fullName"] == DECISION
    assert first["name"].startswith("BLOCKED: ")
    assert first["statusDetails"] == {"message": decision_line(made)}
    assert labels(first)["epic"] == "0 - Executive summary"
    assert labels(first)["severity"] == "blocker"
    assert decision_line(made).partition(": ")[2] in Seen(first["descriptionHtml"]).words
    kinds = {a["name"]: a["type"] for a in first["attachments"]}
    assert (kinds["Verdict table"], kinds["Forest plot"]) == ("text/html", "image/svg+xml")
    assert {labels(r)["epic"][0] for r in found} == set("0134")
    (folder / "none").mkdir()
    allure_results.finish(folder / "none", DECISION, "NO DECISION")
    assert results(folder / "none")[0]["historyId"] == first["historyId"], "one history, decided or not"
    properties = (folder / "out" / "allure-results" / "environment.properties").read_text()
    assert f"Base\\ digest={made['base']['digest'][:12]}\n" in properties


def test_each_benchmark_has_its_interval_its_reason_and_its_items(audited):
    folder, _ = audited
    cases = of(folder, "test_regression")
    rows = {row["name"]: row for row in verdict_of(folder)["benchmarks"]}
    assert len(cases) == len(rows) == 2
    for case in cases:
        row = next(row for name, row in rows.items() if case["name"].startswith(f"{name}: "))
        assert case["name"] == allure.benchmark_title(row)
        assert row["reason"] in Seen(case["descriptionHtml"]).words
        if row["verdict"] != "PASS":
            assert case["statusDetails"] == {"message": f"{row['verdict']}: {row['name']}: {row['reason']}"}
        files = {a["name"]: folder / "out" / "allure-results" / a["source"] for a in case["attachments"]}
        for word, count in (("Lost", row["lost"]), ("Won", row["gained"])):
            items = list(csv.DictReader(io.StringIO(files[f"{word} items ({count}), CSV"].read_text())))
            assert len(items) == count
            assert all(item["question"] for item in items)
            assert files[f"{word} items ({count})"].suffix == ".html"


def test_a_case_is_the_same_one_in_other_runs_with_workers_and_other_seeds(tmp_path, audited, taught, spoiled):
    """Though it says something else: history needs one identity. Environment and executor come once."""
    folder, _ = audited
    more = ("-n", "2", "--seeds", "0,1,3,4", f"--out={tmp_path / 'out'}")
    done = run(folder, taught, spoiled, more=more)
    assert done.returncode in (1, 10), done.stdout
    before, after = ({r["historyId"] for r in results(at / "out" / "allure-results")} for at in (folder, tmp_path))
    assert before < after
    assert len(after) == len(results(tmp_path / "out" / "allure-results")), "no case twice"
    new = [r for r in results(tmp_path / "out" / "allure-results") if r["historyId"] not in before]
    assert {r["fullName"] for r in new} == {"tests.gates.test_forgetting#test_evaluation"}
    assert results(tmp_path / "out" / "allure-results")[0]["fullName"] == DECISION


def test_the_last_line_is_annotated_once_and_the_summary_appended(audited):
    folder, done = audited
    line = decision_line(verdict_of(folder))
    assert re.findall("^::error.*", done.stdout, re.M) == [f"::error title=Lethe::{line}"]
    assert f"\n{line}\n" in done.stdout
    assert (folder / "step.md").read_text() == (folder / "out" / "summary.md").read_text()
    assert "## Lethe: BLOCKED" in (folder / "step.md").read_text()


def test_junit_carries_the_decision_and_the_intervals_and_nothing_of_ours(audited):
    folder, _ = audited
    tree, made = ElementTree.parse(folder / "junit.xml"), verdict_of(folder)
    suite = {p.get("name"): p.get("value") for p in tree.find("testsuite/properties")}
    assert (suite["decision"], suite["exit"]) == ("BLOCKED", "1")
    cases = [{p.get("name"): p.get("value") for p in found} for found in tree.iterfind(".//testcase/properties")]
    told = {case["benchmark"]: (case["verdict"], case["change"]) for case in cases if "benchmark" in case}
    assert told == {row["name"]: (row["verdict"], allure.change(row)) for row in made["benchmarks"]}
    assert "lethe_" not in (folder / "junit.xml").read_text()


def test_a_sibling_gate_tells_junit_its_decision_once(tmp_path):
    """Where a report cannot be written, they are all written again, without the verdict."""
    config, properties = SimpleNamespace(stash={}, option=SimpleNamespace()), []
    config.pluginmanager = SimpleNamespace(register=lambda *given: None)
    config.stash[xml_key] = SimpleNamespace(add_global_property=lambda *given: properties.append(given))
    reports = GateReports("dpo", "parts", "MISSED", "", parts=lambda release: 0, line=str, lines=list, markdown=str,
                          written="")  # fmt: skip
    session = GateSession(config, reports, SimpleNamespace(out=tmp_path))
    session.record._properties.append(("lethe_verdict", json.dumps({"decision": "SHIP", "exit": 0})))
    session.record.settle(0)
    (tmp_path / "summary.md").mkdir()
    session._leave()
    assert properties == [("decision", "NO DECISION"), ("exit", "3")]


def test_a_run_that_broke_says_so_in_every_report(tmp_path, audited, taught, monkeypatch):
    """Where a verdict was reached and then something failed, no report may still say SHIP."""
    monkeypatch.setenv("GITHUB_ACTIONS", "true")
    folder, _ = audited
    junit = tmp_path / "junit.xml"
    done = run(folder, taught, taught, sabotage="fail", more=(f"--out={tmp_path / 'out'}", f"--junitxml={junit}"))
    assert done.returncode == 3, done.stdout
    first = results(tmp_path / "out" / "allure-results")[0]
    assert (first["fullName"], first["status"], first["name"]) == (DECISION, "broken", "NO DECISION")
    assert "SHIP" not in json.dumps(first)
    assert "no decision" in (tmp_path / "out" / "summary.md").read_text()
    assert len(re.findall("^::error title=Lethe::NO DECISION .exit 3.", done.stdout, re.M)) == 1
    properties = {p.get("name"): p.get("value") for p in ElementTree.parse(junit).find("testsuite/properties")}
    assert properties == {"decision": "NO DECISION", "exit": "3"}
