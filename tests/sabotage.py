"""A pytest plugin (-p tests.sabotage) that breaks a gate run on purpose, as LETHE_SABOTAGE says.

kill:N       SIGKILL as soon as the store holds N scores, which are then written one by one
memory       every forward pass of the candidate runs out of memory
skip         the decision is skipped
fail         the first test of the gate fails
internal     pytest itself breaks once every test has run
summary      the summary cannot be written
flip         the base gives other numbers when it is asked again
immune       reversing the layers of a model does nothing
mitigations  closure has no bounds, one mitigation cannot be copied to --out, and the best cannot be judged in full
"""

from __future__ import annotations

import contextlib
import os
import signal

import pytest

KIND, _, NUMBER = os.environ.get("LETHE_SABOTAGE", "").partition(":")


def pytest_configure(config):
    if KIND == "kill":
        _kill_at(int(NUMBER))
    if KIND == "flip":
        _flip_when_repeated()
    if KIND == "immune":
        _ignore_damage()
    if KIND == "memory":
        _run_out_of_memory()
    if KIND == "summary":
        _write_no_summary()
    if KIND == "mitigations":
        _spoil_mitigations()


def pytest_runtestloop(session):
    if KIND == "internal":
        from _pytest.main import pytest_runtestloop

        pytest_runtestloop(session)
        raise RuntimeError("sabotage")


def pytest_collection_modifyitems(items):
    if KIND == "fail":
        items[0].runtest = lambda: pytest.fail("sabotage")
    for item in items:
        if KIND == "skip" and item.name == "test_decision":
            item.add_marker(pytest.mark.skip(reason="sabotage"))


def _kill_at(wanted: int) -> None:
    from harness import evaluate
    from harness.store import Store

    evaluate.WRITE_EVERY = 0.0
    put, seen = Store.put, []

    def put_then_die(self, scores):
        scores = list(scores)
        put(self, scores)
        seen.extend(scores)
        if len(seen) >= wanted:
            os.kill(os.getpid(), signal.SIGKILL)

    Store.put = put_then_die


def _flip_when_repeated() -> None:
    from harness import canary

    again = canary._again
    canary._again = lambda *given: ({k: 1 - v for k, v in found.items()} for found in again(*given))


def _write_no_summary() -> None:
    from harness.report import summary

    def fail(*_):
        raise KeyError("sabotage")

    summary.write = fail


def _ignore_damage() -> None:
    from harness import canary

    canary.reversed_layers = lambda model: contextlib.nullcontext()


def _spoil_mitigations() -> None:
    import math
    import shutil

    from harness import trial
    from harness.report import mitigations

    copytree, closure = shutil.copytree, trial.closure

    def copy(source, target, *given, **options):
        if "merge" in str(target):
            raise OSError(28, "No space left on device")
        return copytree(source, target, *given, **options)

    def in_full(*_):
        raise MemoryError("sabotage")

    shutil.copytree = copy
    mitigations.best, mitigations.in_full = lambda made: made[-1]["name"], in_full
    trial.closure = lambda *given: closure(*given)._replace(low=-math.inf, high=math.inf)


def _run_out_of_memory() -> None:
    import torch
    from peft import PeftModel

    from harness.engine import Engine

    read = Engine.read_tree

    def fail(self, *args, **kwargs):
        if isinstance(self.model, PeftModel):
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 7 GiB")
        return read(self, *args, **kwargs)

    Engine.read_tree = fail
