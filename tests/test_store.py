"""The store: what was put is there, whole and once, whatever happens to the process that put it."""

from __future__ import annotations

import os
import signal
import sqlite3
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from filelock import FileLock, Timeout

from harness.specs import Unusable
from harness.store import Cell, Score, Store

ROOT = Path(__file__).resolve().parent.parent
CELL = Cell("model", "benchmark", 0)


def score(item: str = "i", cell: Cell = CELL, **values) -> Score:
    return Score(cell, item, **({"metrics": {"acc": 1.0}, "responses": ["text"]} | values))


def start(code: str, *arguments) -> subprocess.Popen:
    """A process that runs `code` with CELL, Score and Store at hand; talk to it by stdin and stdout."""
    head = "import sys\nfrom harness.store import Cell, Score, Store\nCELL = Cell('model', 'benchmark', 0)\n"
    command = [sys.executable, "-c", head + code, *map(str, arguments)]
    return subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)


def kill(process: subprocess.Popen) -> None:
    os.kill(process.pid, signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL
    process.stdin.close()
    process.stdout.close()


# ---- rows ------------------------------------------------------------------------------------------------------------

RICH = [
    score("plain"),
    score("likelihoods", responses=[[-1.5, True], [-1e-300, False]], metrics={"acc": 0.0, "choice_prob": 1 / 3}),
    score("text", responses=['naïve 東京 🙂 \n\t"\x00\ud800'], prompt="abc", tokens=12, seconds=0.25),
    score("empty", responses=[], metrics={}),
    score("MMLU: 'a'; DROP TABLE scores"),
]


def test_what_is_put_comes_back(tmp_path):
    Store(tmp_path).put(RICH)
    store = Store(tmp_path)
    assert store.get(CELL) == {s.item: s for s in RICH}
    assert store.items(CELL) == {s.item for s in RICH}
    assert store.count([CELL]) == len(RICH)


OTHERS = [replace(CELL, model="other"), replace(CELL, benchmark="other"), replace(CELL, seed=1)]


@pytest.mark.parametrize("other", OTHERS, ids=["model", "benchmark", "seed"])
def test_cells_that_differ_in_anything_share_no_row(tmp_path, other):
    store = Store(tmp_path)
    store.put([score(metrics={"acc": 1.0}), score(cell=other, metrics={"acc": 0.0}), score("more", other)])
    assert store.get(CELL) == {"i": score(metrics={"acc": 1.0})}
    assert store.get(other)["i"].metrics == {"acc": 0.0}
    assert (store.count([CELL]), store.count([other]), store.count([CELL, other])) == (1, 2, 3)
    assert CELL.key != other.key


def test_a_cell_without_scores_is_empty(tmp_path):
    store = Store(tmp_path)
    assert (store.get(CELL), store.items(CELL), store.count([CELL]), store.count([])) == ({}, set(), 0, 0)
    store.put([])
    assert store.count([CELL]) == 0


def test_the_same_key_again_is_overwritten(tmp_path):
    store = Store(tmp_path)
    store.put([score(tokens=1), score("kept")])
    store.put([score(tokens=2)])
    assert store.get(CELL) == {"i": score(tokens=2), "kept": score("kept")}


def test_a_put_that_fails_writes_none_of_its_rows(tmp_path):
    store = Store(tmp_path)
    with pytest.raises(TypeError, match="not JSON serializable"):
        store.put([score("a"), score("b", responses=[object()])])
    with pytest.raises(sqlite3.Error):
        store.put([score("a"), score("b", prompt=object())])
    assert store.count([CELL]) == 0


def test_notes_are_remembered(tmp_path):
    store = Store(tmp_path)
    assert store.note("effect") is None
    store.put_note("effect", 0.0)
    store.put_note("other", {"a": [1, None]})
    assert (Store(tmp_path).note("effect"), store.note("other")) == (0.0, {"a": [1, None]})


def test_a_home_directory_is_expanded(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    assert Store("~/mine").directory == tmp_path / "mine"


# ---- several processes -----------------------------------------------------------------------------------------------

OPEN_AND_WRITE = """
sys.stdin.readline()
for n in range(12):
    store = Store(f"{sys.argv[1]}/{n}")
    for batch in range(3):
        store.put([Score(CELL, f"{sys.argv[2]}-{batch}-{k}", {"acc": 1.0}, []) for k in range(4)])
"""
COUNT = """
sys.stdin.readline()
store = Store(sys.argv[1])
for _ in range(20):
    with store.lock(CELL):
        store.put_note("count", (store.note("count") or 0) + 1)
"""


def run_at_once(code: str, *arguments, workers: int = 6) -> None:
    """Several processes that run `code`, each with its number; they start together."""
    processes = [start(f"print(flush=True)\n{code}", *arguments, n) for n in range(workers)]
    for process in processes:
        process.stdout.readline()
    for process in processes:
        process.stdin.write("go\n")
        process.stdin.flush()
    for process in processes:
        process.communicate(timeout=60)
    assert [process.returncode for process in processes] == [0] * workers


def test_processes_that_open_and_write_at_once_lose_nothing(tmp_path):
    run_at_once(OPEN_AND_WRITE, tmp_path)
    written = {f"{worker}-{batch}-{k}" for worker in range(6) for batch in range(3) for k in range(4)}
    assert [Store(tmp_path / str(n)).items(CELL) for n in range(12)] == [written] * 12


def test_a_lock_lets_one_process_in_at_a_time(tmp_path):
    run_at_once(COUNT, tmp_path, workers=4)
    assert Store(tmp_path).note("count") == 80


WRITER = """
store = Store(sys.argv[1])
for batch in range(10**6):
    store.put([Score(CELL, f"{batch}-{k}", {"acc": 1.0}, ["x" * 500]) for k in range(7)])
    print(batch, flush=True)
"""
UNFINISHED = """
store = Store(sys.argv[1])
store.put([Score(CELL, "committed", {"acc": 1.0}, [])])
with store._open() as db:
    db.execute("DELETE FROM scores")
    db.execute("INSERT INTO notes VALUES ('half', '1')")
    print("inside", flush=True)
    sys.stdin.readline()
"""
HOLDER = """
with Store(sys.argv[1]).lock(CELL):
    print("held", flush=True)
    sys.stdin.readline()
"""


@pytest.mark.parametrize("batches", [1, 2, 9, 40])
def test_a_killed_writer_leaves_every_row_that_it_had_committed(tmp_path, batches):
    writer = start(WRITER, tmp_path)
    for batch in range(batches):
        assert writer.stdout.readline() == f"{batch}\n"
    kill(writer)
    store = Store(tmp_path)
    items = store.items(CELL)
    assert {f"{batch}-{k}" for batch in range(batches) for k in range(7)} <= items
    assert len(items) % 7 == 0, "half a transaction"
    assert all(s.responses == ["x" * 500] for s in store.get(CELL).values())
    store.put([score("next")])
    assert store.count([CELL]) == len(items) + 1


def test_a_writer_that_is_killed_inside_a_transaction_leaves_none_of_it(tmp_path):
    writer = start(UNFINISHED, tmp_path)
    assert writer.stdout.readline() == "inside\n"
    assert Store(tmp_path).items(CELL) == {"committed"}
    kill(writer)
    store = Store(tmp_path)
    store.put([score("next")])
    assert store.items(CELL) == {"committed", "next"}
    assert store.note("half") is None


def test_the_lock_of_a_cell_is_free_once_its_holder_is_killed(tmp_path):
    holder = start(HOLDER, tmp_path)
    assert holder.stdout.readline() == "held\n"
    lock = tmp_path / "locks" / f"{CELL.key}.lock"
    with pytest.raises(Timeout):
        FileLock(lock).acquire(timeout=0)
    with Store(tmp_path).lock(replace(CELL, seed=1)):
        kill(holder)
    with FileLock(lock).acquire(timeout=0):
        pass


# ---- what cannot be used ---------------------------------------------------------------------------------------------


def said(call, *arguments) -> str:
    """The error of a call, which must be one line."""
    with pytest.raises(Unusable) as caught:
        call(*arguments)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_a_directory_that_cannot_be_made_is_said():
    sentence = said(Store, "/dev/null/store")
    assert "store '/dev/null/store' cannot be opened ([Errno 20] Not a directory" in sentence
    assert sentence.endswith("; name another directory with --store.")


def test_a_database_that_cannot_be_written_is_said(tmp_path):
    (tmp_path / "scores.sqlite").mkdir()
    sentence = said(Store, tmp_path)
    assert (
        sentence
        == f"store '{tmp_path}' cannot be opened (unable to open database file); name another directory with --store."
    )


def test_a_file_that_is_no_database_is_said(tmp_path):
    (tmp_path / "scores.sqlite").write_bytes(b"no database at all " * 300)
    sentence = said(Store, tmp_path)
    assert f"store '{tmp_path}' is damaged (file is not a database); name another directory" in sentence


def test_a_damaged_database_is_said_when_its_rows_are_read(tmp_path):
    Store(tmp_path).put([score(str(n), responses=["x" * 900]) for n in range(50)])
    file = tmp_path / "scores.sqlite"
    with sqlite3.connect(file) as db:
        db.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    db.close()
    file.write_bytes(file.read_bytes()[:4096] + b"\xff" * (file.stat().st_size - 4096))
    store = Store(tmp_path)
    for call in (store.get, store.items):
        sentence = said(call, CELL)
        assert f"store '{tmp_path}' is damaged (database disk image is malformed)" in sentence
        assert "delete this one and evaluate again." in sentence
