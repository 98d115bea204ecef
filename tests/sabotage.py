"""A pytest plugin (-p tests.sabotage) that breaks a gate run on purpose, as LETHE_SABOTAGE says.

kill:N       SIGKILL as soon as the store holds N scores, which are then written one by one
memory       every forward pass of the candidate runs out of memory
skip         the decision is skipped
"""

from __future__ import annotations

import os
import signal

import pytest

KIND, _, NUMBER = os.environ.get("LETHE_SABOTAGE", "").partition(":")


def pytest_configure(config):
    if KIND == "kill":
        _kill_at(int(NUMBER))
    if KIND == "memory":
        _run_out_of_memory()


def pytest_collection_modifyitems(items):
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


def _run_out_of_memory() -> None:
    import torch

    from harness.engine import Engine
    from peft import PeftModel

    read = Engine._read_tree

    def fail(self, *args, **kwargs):
        if isinstance(self.model, PeftModel):
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 7 GiB")
        return read(self, *args, **kwargs)

    Engine._read_tree = fail
