"""Submissions that break, hang or attack: each ends as the contract says, and the host goes on unharmed."""

from __future__ import annotations

import json
import os
import socket
import threading
from decimal import Decimal
from pathlib import Path

import pytest

from fixtures.ticket_data import HIDDEN, TRAIN, VALIDATION
from harness.metering.ledger import Ledger, Price
from harness.metering.proxy import Serving, Upstream
from harness.specs import Unusable
from harness.submission import sandbox, walls
from harness.submission.contract import GIB, Inputs, Limits, environment
from harness.submission.results import read_results
from tests import hostile
from tests.upstream import PIECES, upstream

SHORT = Limits(seconds=20, memory=GIB, processes=32, file=50 << 20, scratch=100 << 20, threads=1)
IDS = [json.loads(line)["id"] for line in VALIDATION.read_text().splitlines()]


@pytest.fixture
def run(tmp_path):
    """(program, limits) -> what the sandbox made of it."""
    weights = tmp_path / "weights"
    weights.mkdir()
    (weights / "config.json").write_text("{}")

    def run(program: str, limits: Limits = SHORT, **options):
        folder = hostile.folder(tmp_path / "submission", program)
        return sandbox.run(folder, Inputs(TRAIN, VALIDATION, weights), limits, **options)

    return run


def others() -> set[str]:
    """Processes of this machine that run a submission."""
    found = set()
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            if b"run.py\0--train" in path.read_bytes():
                found.add(path.parent.name)
        except OSError:
            continue
    return found


def test_a_sound_submission_is_run_and_its_results_come_out(run):
    outcome = run(hostile.SOUND + "write()")
    assert outcome.failure is None
    results = read_results(outcome.results, IDS)
    assert list(results.predictions) == IDS
    assert 0 < outcome.seconds < 20
    assert outcome.peak > 0


def test_it_is_given_the_environment_of_the_contract_and_nothing_else(run, monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", "sk-of-the-host")
    seen = json.loads(run("import json, os; print(json.dumps(dict(os.environ)))", seed=7).printed)
    assert seen.pop("LC_CTYPE", None) in (None, "C.UTF-8")  # which Python sets for itself
    assert seen == dict(environment(SHORT, 7, metered=False))
    assert "OPENAI_API_KEY" not in seen


def test_weights_may_be_links_and_files_that_their_owner_alone_may_read(run, tmp_path):
    blob = tmp_path / "blob"
    blob.write_text("weights")
    blob.chmod(0o600)
    (tmp_path / "weights" / "model.safetensors").symlink_to(blob)
    outcome = run("print(open('/weights/model.safetensors').read(), open('/weights/config.json').read())")
    assert outcome.printed == "weights {}\n"


def test_an_endless_loop_is_ended_in_time(run):
    outcome = run(hostile.ENDLESS, Limits(seconds=0.5, memory=GIB))
    assert outcome.failure == "it ran longer than 0.5 seconds and was ended."
    assert outcome.results is None
    assert outcome.seconds < 10


def test_a_fork_storm_is_held_and_nothing_of_it_is_left(run):
    before = others()
    outcome = run(hostile.STORM, Limits(seconds=1.5, memory=4 * GIB, processes=32))
    assert outcome.failure == "it ran longer than 1.5 seconds and was ended."
    started = int(outcome.printed.split("refused after ")[1].split()[0])
    assert 10 < started < 32
    assert others() <= before


def test_no_output_is_told(run):
    assert run(hostile.NO_OUTPUT).failure == "it ended well and left no results file."


def test_a_crash_is_told_with_its_last_words(run):
    assert run("raise ValueError('no such label')").failure == "it ended with status 1: ValueError: no such label"


def test_malformed_results_fault_every_row(run):
    results = read_results(run(hostile.MALFORMED).results, IDS)
    assert results.predictions == {}
    assert set(results.faults) == set(IDS)
    assert all("are no JSON" in why for why in results.faults.values())


def test_missing_doubled_and_unknown_ids_are_told_by_row(run):
    results = read_results(run(hostile.MISSING).results, IDS)
    assert results.faults == {IDS[0]: "no prediction has its id", IDS[1]: "2 predictions have its id"}
    assert list(results.predictions) == IDS[2:]
    assert list(results.notes) == ["1 ids were not asked for, 'invented' among them"]


def test_nothing_outside_its_folders_can_be_read_written_or_reached(run, monkeypatch, tmp_path):
    monkeypatch.setenv("LETHE_SECRET", "of the host")
    (tmp_path / "of-the-host").write_text("secret")
    paths = [HIDDEN, HIDDEN.parent, __file__, tmp_path, tmp_path / "of-the-host", "/etc/passwd", "/etc/shadow", "/var"]
    with socket.create_server(("127.0.0.1", 0)) as listening:
        port = str(listening.getsockname()[1])
        named = repr([str(path) for path in [*paths, "/proc/1/environ"]])
        outcome = run(hostile.READER.replace("{paths!r}", named).replace("{port}", port), unseen=[HIDDEN])
    assert outcome.failure is None
    found = read_results(outcome.results, IDS).predictions[IDS[0]].reply
    assert found == "FOUND []", outcome.printed


def test_hidden_rows_that_every_submission_could_read_stop_the_run(run):
    with pytest.raises(Unusable, match="which a submission can read; move it elsewhere"):
        run(hostile.SOUND, unseen=[Path(os.__file__)])


@pytest.mark.parametrize(
    ("program", "said"),
    [
        (hostile.GREEDY, "MemoryError"),
        (hostile.WRITER, "it ended with"),
        (hostile.LINKED, "its results file is a link or no plain file."),
    ],
)
def test_memory_files_and_links_have_bounds(run, program, said):
    assert said in run(program).failure


def test_the_memory_of_all_processes_together_has_a_bound(run):
    outcome = run(hostile.GREEDY_TOGETHER)
    assert outcome.failure == "its processes held more than 1.0 GiB of memory together and were ended."


def test_memory_that_processes_could_share_counts_too(run):
    outcome = run(hostile.GREEDY_SHARED)
    assert outcome.failure == "its processes held more than 1.0 GiB of memory together and were ended."


@pytest.mark.parametrize("program", [hostile.KILLER, hostile.INTERRUPTER], ids=["killed", "interrupted"])
def test_the_first_process_inside_cannot_be_ended(run, program):
    outcome = run(program)
    assert outcome.failure is None or "PermissionError" in outcome.failure


def test_results_of_too_many_bytes_are_refused(run):
    outcome = run(hostile.SOUND + "write()", Limits(seconds=20, memory=GIB, results=100))
    assert outcome.failure == "its results file has more than 100 bytes."


def test_the_metering_proxy_is_the_only_way_out_and_the_key_stays_outside(run, tmp_path):
    program = hostile.SOUND + (
        "import os, urllib.request\n"
        "body = json.dumps({'model': 'paid', 'max_tokens': 5, 'messages': [{'role': 'user', 'content': 'hi'}]})\n"
        "asked = urllib.request.Request(os.environ['OPENAI_BASE_URL'] + '/chat/completions', body.encode())\n"
        "answer = urllib.request.urlopen(asked).read().decode()\n"
        "predictions[0]['prediction'] = answer + str(dict(os.environ))\n"
        "write()\n"
    )
    ledger, path = Ledger({"paid": Price(Decimal(1), Decimal(1))}), tmp_path / "socket"
    with upstream() as paid, Serving(Upstream(paid.url, "sk-secret"), ledger, socket=str(path)):
        path.chmod(0o666)
        outcome = run(program, proxy=path)
    assert outcome.failure is None
    said = read_results(outcome.results, IDS).predictions[IDS[0]].reply
    assert "".join(PIECES) in said
    assert "sk-secret" not in said
    assert ledger.summary()["calls"] == {"200": 1}


def test_two_at_once_do_not_count_each_others_processes(tmp_path):
    made = []

    def one(n):
        folder = hostile.folder(tmp_path / f"submission-{n}", hostile.STORM)
        inputs = Inputs(TRAIN, VALIDATION, folder)
        made.append(sandbox.run(folder, inputs, Limits(seconds=1.5, memory=4 * GIB, processes=24)).printed)

    threads = [threading.Thread(target=one, args=(n,)) for n in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert all(int(said.split("refused after ")[1].split()[0]) > 15 for said in made)


def test_the_check_names_the_version():
    assert walls.check().startswith("bubblewrap ")
