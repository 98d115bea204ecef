"""Workers of one audit share its work: what another one is at comes last, and nothing is done twice."""

from __future__ import annotations

import threading
from types import SimpleNamespace

import pytest

from fixtures.mitigations import sharing
from harness.audit import Audit, Options, prepare
from harness.baskets import load_basket
from harness.store import Store
from tests.tiny_audit import write_basket

WAIT = 60  # seconds; nothing takes as long unless it is broken


@pytest.fixture
def audit(tiny_base, tiny_adapter, tmp_path) -> Audit:
    options = Options(str(tiny_base), (str(tiny_adapter),), tmp_path / "out", tmp_path / "store", device="cpu")
    return prepare(load_basket(write_basket(tmp_path)), options)


def test_cells_that_another_worker_fills_are_left_to_it_until_the_others_are_full(audit, monkeypatch):
    first, second = (name for name in audit.benchmarks)
    cells = {name: audit.cell(audit.base, name, audit.seeds(name)[0]) for name in (first, second)}
    held, written, in_time = threading.Event(), threading.Event(), []
    put = Store.put

    def watched(store, scores):
        put(store, scores)
        if store.items(cells[second]):
            written.set()

    def another_worker():
        with Store(audit.store.directory).lock(cells[first]):
            held.set()
            in_time.append(written.wait(WAIT))

    monkeypatch.setattr(Store, "put", watched)
    other = threading.Thread(target=another_worker)
    other.start()
    assert held.wait(WAIT)
    wanted = [(audit.base, name, audit.seeds(name), audit.items(name)) for name in (first, second)]
    audit.make_ready(wanted)
    other.join()
    assert in_time == [True]
    assert all(audit.store.items(cell) == {i.id for i in audit.items(name)} for name, cell in cells.items())


@pytest.fixture
def two(tmp_path):
    """An audit of two mitigations as two workers have it."""
    sides = {"base": SimpleNamespace(digest="b"), "candidate": SimpleNamespace(digest="c")}
    options = SimpleNamespace(mitigate=("merge", "replay"))
    return [SimpleNamespace(store=Store(tmp_path), sides=sides, options=options) for _ in range(2)]


def test_a_mitigation_that_another_worker_tries_comes_after_one_that_nobody_tries(two):
    order = []
    ours = sharing(two[0], lambda audit, name: order.append(("ours", name)) or name)

    def theirs(audit, name):
        order.append(("theirs", name))
        assert ours(name) == name  # while they are at it
        return name

    assert sharing(two[1], theirs)("merge") == "merge"
    assert order == [("theirs", "merge"), ("ours", "replay"), ("ours", "merge")]


def test_each_is_tried_once_by_a_worker(two):
    order = []
    ask = sharing(two[0], lambda audit, name: order.append(name) or name)
    assert [ask(name) for name in ("replay", "merge", "replay")] == ["replay", "merge", "replay"]
    assert order == ["replay", "merge"]
