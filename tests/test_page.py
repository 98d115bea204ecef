"""The Allure page of a real audit, opened in a real browser: `make page`, as it needs Node.js and Chromium.

The audit is a tiny one whose questions, choices and model names are an attacker's.
"""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from harness.report.allure_page import HISTORY, build
from tests.browser import Browser
from tests.conftest import save_adapter, save_tiny
from tests.tiny_audit import run, teach, verdict_of, write_basket

pytestmark = pytest.mark.page

ATTACK = '<img src=x onerror="alert(1)"><script>alert(2)</script>'
NAME = "<img src=x onerror=alert(3)>"
TITLE = "[data-testid=test-result-info-title]"
HEADER = "[data-testid=test-result-attachment-header]"
ATTACHMENT = f"{HEADER} > button:first-child"
PREVIEW = "[data-testid=html-attachment-preview] iframe"


@pytest.fixture(scope="module")
def audited(tmp_path_factory) -> Path:
    """The folder of a blocked audit."""
    folder = tmp_path_factory.mktemp("page")
    basket = write_basket(folder)
    docs = folder / "tasks" / "docs.jsonl"
    rows = [json.loads(line) for line in docs.read_text().splitlines()]
    for row in rows:
        row["question"] += ATTACK
        row["choices"] = [choice + ATTACK for choice in row["choices"]]
    docs.write_text("".join(json.dumps(row) + "\n" for row in rows))
    taught = teach(save_tiny(folder / "untaught"), folder / "tasks")
    done = run(folder, taught, save_adapter(folder / NAME, taught, scale=0.5), basket=basket)
    assert done.returncode == 1, done.stdout
    return folder


@pytest.fixture(scope="module")
def page(audited) -> Path:
    return build(audited / "out" / "allure-results", audited / "out" / "allure.html")


@pytest.fixture
def browser(page):
    with Browser() as opened:
        opened.open(page.as_uri())
        opened.wait_for(TITLE)
        yield opened


def cases(folder: Path) -> list[dict]:
    """The cases of the last run, as Allure has put them into its history."""
    last = (folder / "out" / HISTORY).read_text(encoding="utf-8").splitlines()[-1]
    return list(json.loads(last)["testResults"].values())


def unfolded(browser: Browser) -> str:
    """The text of the description and of all attached pages, once all are there."""
    browser.run(f"document.querySelectorAll({json.dumps(ATTACHMENT)}).forEach(button => button.click())")
    headers = f"[...document.querySelectorAll({json.dumps(HEADER)})]"
    pages = f"{headers}.filter(header => header.innerText.includes('text/html')).length"
    browser.wait_until(f"document.querySelectorAll({json.dumps(PREVIEW)}).length >= {pages}")
    wanted = browser.run("document.querySelectorAll('iframe').length")
    for _ in range(500):
        if len(texts := [text for text in browser.frames() if text]) >= wanted:
            return " ".join(texts)
        browser.run("new Promise(requestAnimationFrame)")
    raise AssertionError(f"{len(texts)} of {wanted} pages inside the page are there")


def test_the_decision_is_the_first_thing(browser, audited):
    assert browser.text(TITLE).startswith("BLOCKED: ")
    assert browser.text("[data-testid=report-title]").startswith("Lethe, BLOCKED: ")
    assert browser.text("[data-testid=tree-section-title]") == "0 - Executive summary"
    assert browser.text("[data-testid=tree-leaf]").split("\n")[1].startswith("BLOCKED: ")
    described = unfolded(browser)
    for row in verdict_of(audited)["benchmarks"]:
        assert row["name"] in described
        assert row["verdict"] in described
    shown = "[...document.querySelectorAll('article')].filter(e => e.getClientRects().length).map(e => e.innerText)"
    assert "%" not in " ".join(browser.run(shown)), "no share of passed cases beside a decision"


def test_no_request_leaves_the_machine_and_nothing_hostile_runs(browser, audited):
    seen = ""
    for case in cases(audited):
        browser.run(f"location.hash = {json.dumps(case['id'])}")
        name = json.dumps(" ".join(case["name"].split()))
        browser.wait_until(f"document.querySelector({json.dumps(TITLE)})?.innerText.trim() === {name}")
        seen += browser.run("document.body.innerText") + unfolded(browser)
    assert ATTACK in seen, "questions and answers show as they are"
    assert NAME in seen
    assert browser.dialogs == []
    schemes = {address.partition(":")[0] for address in browser.requests}
    assert schemes <= {"file", "data", "blob"}, browser.requests
    asked = [address for address in browser.requests if address.startswith("file:")]
    assert len(asked) == 1, "the page is one file"


def test_an_earlier_audit_is_in_the_history_once(audited, page, browser):
    before = len((audited / "out" / HISTORY).read_text().splitlines())
    models = [path["spec"] for path in (verdict_of(audited)["base"], *verdict_of(audited)["candidates"])]
    assert run(audited, *models, basket=audited / "basket.toml", more=("--margin", "letters=99")).returncode in (1, 10)
    for _ in range(2):
        build(audited / "out" / "allure-results", page)
    assert len((audited / "out" / HISTORY).read_text().splitlines()) == before + 1
    browser.open(page.as_uri())
    browser.wait_for("[data-testid=test-result-tab-history]")
    assert browser.text("[data-testid=test-result-tab-history]").split() == ["History", str(before)]
