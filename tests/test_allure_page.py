"""What `make report` does to Allure's page, and what it says where it cannot make one; no Node.js is needed here."""

from __future__ import annotations

import json

import pytest

from harness.report.allure_page import HISTORY, build, forget, main, opening, without_counter
from harness.report.allure_page import allure as program
from harness.specs import Unusable

DECISION = "tests.gates.test_forgetting#test_decision"

COUNTED = """<head></head><body><div id="app"></div>
    <script async src="https://www.googletagmanager.com/gtag/js?id=G-1"></script>
    <script>
        gtag('config', 'G-1', {});
    </script>
    <script>window.allureReportData = {}</script></body>"""


def test_the_visitor_counter_is_cut_out_and_nothing_else():
    kept = without_counter(COUNTED)
    assert "gtag" not in kept
    assert "window.allureReportData = {}" in kept


@pytest.mark.parametrize("loaded", ['<img src="https://elsewhere/x.png">', "<script src=//elsewhere/x.js></script>"])
def test_a_page_that_would_load_something_else_is_not_written(loaded):
    with pytest.raises(Unusable, match=r"would load '.*elsewhere.*' from the network; it was thrown away"):
        without_counter(COUNTED + loaded)


def test_the_page_opens_on_the_decision():
    page = opening("<head><title></title></head><body></body>", "abc123")
    assert 'location.hash = "abc123"' in page
    assert page.index("abc123") < page.index("</head>")


def test_a_page_made_twice_is_one_run_of_the_history(tmp_path):
    history = tmp_path / HISTORY
    runs = [{"testResults": {"h": {"id": str(n), "fullName": DECISION, "start": n}}} for n in (5, 6)]
    history.write_text("".join(json.dumps(run) + "\n" for run in runs))
    forget(history, {"fullName": DECISION, "start": 6})
    assert [json.loads(line) for line in history.read_text().splitlines()] == runs[:1]


def test_without_node_one_sentence_says_what_to_install(tmp_path, monkeypatch):
    monkeypatch.setenv("LETHE_CACHE", str(tmp_path))
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(Unusable, match=r"needs Node\.js, which is not there; install Node\.js 20 or newer with npm"):
        program()
    (tmp_path / "node").write_text("#!/bin/sh\necho v18.2.0\n")
    (tmp_path / "npm").write_text("")
    for name in ("node", "npm"):
        (tmp_path / name).chmod(0o755)
    with pytest.raises(Unusable, match=r"needs a newer Node\.js than v18\.2\.0; install"):
        program()


def test_a_page_that_cannot_be_made_never_ends_as_a_regression(tmp_path, monkeypatch, capsys):
    (tmp_path / "1-result.json").write_text('{"name": "SHIP", "start": 1}')
    monkeypatch.setenv("LETHE_CACHE", str(tmp_path))
    monkeypatch.setenv("PATH", str(tmp_path))
    assert main(["--results", str(tmp_path)]) == 4
    assert capsys.readouterr().err.startswith("ERROR: the Allure page needs Node.js, which is not there; install")


def test_without_results_one_sentence_says_to_run_an_audit(tmp_path):
    with pytest.raises(Unusable, match="holds no Allure results; run an audit first"):
        build(tmp_path / "allure-results", tmp_path / "allure.html")
