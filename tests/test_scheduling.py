"""What pytest-xdist keeps on one worker of a gate: what it would otherwise wait for, or load twice."""

from __future__ import annotations

import pytest

from fixtures.scheduling import scheduler

BASE, SEED, TUNED, OTHER, SECOND = (
    f"tests/gates/test_forgetting.py::test_evaluation[{cell}]"
    for cell in (
        "base-if-eval-seed0",
        "base-if-eval-seed1",
        "candidate-2-if-eval-seed0",
        "base-mmlu-seed0",
        "base-mmlu-seed1",
    )
)
DECISION = "tests/gates/test_forgetting.py::test_decision"


@pytest.mark.parametrize(
    ("dist", "early", "together"),
    [
        ("load", False, [{BASE, SEED}, {TUNED}, {OTHER}, {SECOND}]),
        ("load", True, [{BASE, SEED, TUNED}, {OTHER, SECOND}]),
        ("loadgroup", False, [{BASE, SEED, OTHER, SECOND}, {TUNED}]),
    ],
)
def test_what_stays_on_one_worker(pytestconfig, monkeypatch, dist, early, together):
    monkeypatch.setattr(type(pytestconfig), "getvalue", lambda self, name: {"dist": dist, "tx": ["popen"]}[name])
    split = scheduler(pytestconfig, None, early, {"if-eval"})._split_scope
    groups: dict[str, set] = {}
    for test in (BASE, SEED, TUNED, OTHER, SECOND):
        groups.setdefault(split(test), set()).add(test)
    assert list(groups.values()) == together
    assert split(DECISION) not in groups


def test_other_distributions_are_left_to_xdist(pytestconfig, monkeypatch):
    monkeypatch.setattr(type(pytestconfig), "getvalue", lambda self, name: "worksteal")
    assert scheduler(pytestconfig, None, False, ()) is None
