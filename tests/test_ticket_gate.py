"""`pytest -m tickets` as its users run it: options, statuses and what it leaves."""

from __future__ import annotations

import contextlib
import json
import re
import subprocess
from pathlib import Path
from types import SimpleNamespace

import pytest

from fixtures import ticket_release
from fixtures.ticket_data import HIDDEN, TAXONOMY
from fixtures.ticket_gate import REPORTS
from fixtures.ticket_prepared import audit_of, challenge_of, metering_of
from harness.checkpoints import check
from harness.report.document import SCHEMA
from harness.report.files import remove_verdict
from harness.specs import Unusable, parse_model
from harness.submission.tickets import read_hidden, read_taxonomy
from tests import forked, hostile
from tests.conftest import save_tiny
from tests.tiny_audit import environment
from tests.upstream import upstream


def run(folder: Path, submission: Path | None, *more: str, **variables: str) -> subprocess.CompletedProcess:
    given = ["-m", "pytest", "-m", "tickets", "-p", "no:cacheprovider", f"--out={folder / 'out'}"]
    given += [f"--submission={submission}"] if submission else []
    env = {key: value for key, value in environment().items() if not key.startswith("OPENAI_")} | variables
    return forked.run([*given, *more], env)


@pytest.fixture(scope="module")
def judged():
    """Variables that name a judge who finds every reply like the ideal one."""
    with upstream() as server:
        server.answer = lambda asked: '{"score": 10}'
        yield {"OPENAI_BASE_URL": server.url, "OPENAI_API_KEY": "k"}


@pytest.fixture(scope="module")
def weights(tmp_path_factory) -> Path:
    return save_tiny(tmp_path_factory.mktemp("weights") / "tiny", positions=4096)


@pytest.fixture(scope="module")
def shipped(tmp_path_factory, judged, weights):
    """A submission that knows the answers, graded."""
    folder = tmp_path_factory.mktemp("shipped")
    rows = {row.id: (row.intent, row.ideal_reply) for row in read_hidden(HIDDEN, read_taxonomy(TAXONOMY))}
    program = hostile.SOUND + (
        f"answers = {rows!r}\n"
        "write([dict(r, predicted_intent=answers[r['id']][0], prediction=answers[r['id']][1]) for r in predictions])\n"
    )
    done = run(folder, hostile.folder(folder / "mine", program), f"--weights={weights}", **judged)
    return folder / "out", done


def test_a_submission_that_answers_everything_ships(shipped):
    out, done = shipped
    assert done.returncode == 0, done.stdout
    assert "6 passed" in done.stdout
    assert "SHIP (exit 0): a total of 100.0, shown to be more than" in done.stdout
    document = json.loads((out / "verdict.json").read_text())
    assert (document["decision"], document["accuracy"], document["judge"]["name"]) == (
        "SHIP", 100.0, "model: paid at 127.0.0.1",
    )  # fmt: skip
    assert document["base_accuracy"] < 50  # a tiny model that knows nothing


def test_what_it_leaves_is_a_card_a_summary_and_a_case_for_each_dimension(shipped):
    out, _ = shipped
    assert {"verdict.json", "card.pdf", "summary.md", "allure-results"} <= {path.name for path in out.iterdir()}
    cases = [json.loads(path.read_text()) for path in (out / "allure-results").glob("*-result.json")]
    names = sorted(case["name"] for case in cases)
    assert names[0].startswith("SHIP: mine")
    assert len(names) == 6
    total = next(case for case in cases if case["name"].startswith("SHIP"))
    assert {attached["name"] for attached in total["attachments"]} == {"verdict.json", "Score card"}


def test_one_that_is_not_reproducible_is_blocked_and_says_so(tmp_path, judged, weights):
    folder = hostile.folder(tmp_path / "mine", hostile.RANDOM)
    done = run(tmp_path, folder, f"--weights={weights}", "--no-base", **judged)
    assert done.returncode == 1, done.stdout
    assert "BLOCKED (exit 1): two runs with one seed answered 50 rows otherwise" in done.stdout
    assert "MISSED: reproducibility: nothing was earned" in done.stdout


def test_a_total_that_was_not_judged_is_no_pass(tmp_path, judged, weights):
    folder = hostile.folder(tmp_path / "mine", hostile.SOUND + "write()")
    done = run(tmp_path, folder, f"--weights={weights}", "--no-base", "-k", "training", **judged)
    assert done.returncode == 10, done.stdout
    assert "NO DECISION (exit 10): 1 of 6 scores judged" in done.stdout
    assert not (tmp_path / "out" / "verdict.json").exists()


def test_nothing_to_grade_ends_before_anything_runs(tmp_path):
    done = run(tmp_path, None)
    assert done.returncode == 4, done.stdout + done.stderr
    assert "no submission to grade; name one with --submission ZIP|DIR" in done.stderr


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"submission": Path("nothing.zip")}, "submission 'nothing.zip' does not exist"),
        ({"weights": "/nowhere"}, "--weights '/nowhere' holds no config.json"),
        ({"threshold": "200"}, "--threshold 200 is no total"),
        ({"threshold": "0.5"}, "--threshold 0.5 is no total"),
        ({"threshold": "half"}, "--threshold half is no total"),
    ],
)
def test_options_that_cannot_be_used_are_told(tmp_path, options, said):
    (tmp_path / "config.json").write_text("{}")
    usual = {"submission": tmp_path, "weights": str(tmp_path), "threshold": "50"}
    with pytest.raises(Unusable, match=re.escape(said)):
        challenge_of(SimpleNamespace(**(usual | options)))


def test_a_server_that_may_be_called_needs_prices():
    assert metering_of(SimpleNamespace(upstream=None)) is None
    with pytest.raises(Unusable, match="--upstream needs --prices FILE"):
        metering_of(SimpleNamespace(upstream="http://h/v1", prices=None))


@pytest.mark.parametrize("option", ["--candidate=mine", "-n2"])
def test_what_does_nothing_here_is_refused(tmp_path, option):
    done = run(tmp_path, tmp_path, option)
    assert done.returncode == 4, done.stdout
    assert "leave it out" in done.stderr or "leave -n out" in done.stderr


def write_audit(folder: Path, base: str, candidates: int) -> Path:
    candidate = {"spec": "mine", "digest": "1" * 64}
    told = {"schema": SCHEMA, "settings": {}, "scores": "", "base": {"digest": base}}
    (folder / "verdict.json").write_text(json.dumps(told | {"candidates": [candidate] * candidates}))
    return folder


def test_an_audit_for_the_card_is_one_on_the_same_base(tmp_path, weights):
    base = check(parse_model(str(weights))).digest
    assert audit_of(None, weights) is None
    assert audit_of(write_audit(tmp_path, base, 1), weights)["candidates"][0]["spec"] == "mine"
    with pytest.raises(Unusable, match="has another base than --weights"):
        audit_of(write_audit(tmp_path, "0" * 64, 1), weights)
    with pytest.raises(Unusable, match="judged 2 candidates"):
        audit_of(write_audit(tmp_path, base, 2), weights)
    with pytest.raises(Unusable, match="does not exist"):
        audit_of(tmp_path / "nowhere", weights)
    (tmp_path / "verdict.json").write_text(json.dumps({"schema": SCHEMA, "gate": "dpo"}))
    with pytest.raises(Unusable, match="is of another gate"):
        audit_of(tmp_path, weights)


def test_what_was_paid_for_is_on_record_also_where_grading_breaks(tmp_path, monkeypatch):
    def breaks(*given, **named):
        raise RuntimeError("the judge went away")

    monkeypatch.setattr(ticket_release, "assess", breaks)
    metering = None, SimpleNamespace(rows=lambda: [{"cost": 1.5}], summary=dict)
    monkeypatch.setattr(ticket_release.Release, "_proxy", lambda self: contextlib.nullcontext())
    release = ticket_release.Release(tmp_path, None, "", tmp_path / "out", None, metering, None, None)
    with pytest.raises(RuntimeError):
        release.grade()
    remove_verdict(tmp_path / "out", REPORTS.kept)
    assert json.loads((tmp_path / "out" / "calls.jsonl").read_text()) == {"cost": 1.5}


def test_an_audit_is_not_removed_by_the_run_that_shows_it(tmp_path):
    (tmp_path / "out").mkdir()
    kept = write_audit(tmp_path / "out", "0" * 64, 1)
    done = run(tmp_path, tmp_path, f"--audit={kept}")
    assert done.returncode == 4, done.stdout
    assert "holds the audit that --audit names" in done.stderr
    assert (kept / "verdict.json").is_file()
