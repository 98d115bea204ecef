"""Runs a submission where it can read and write its own folders alone, reaches no network and is ended in time.

    outcome = run(folder, Inputs(train, tickets, weights), Limits())

The walls are Linux namespaces, set up by bubblewrap (https://github.com/containers/bubblewrap): a file system of its
own that holds the submission, its inputs, Python and the system's libraries, all read-only, and scratch space of a
bounded size in memory; processes of its own; a network of its own, with nothing in it but, where there is one, the
metering proxy. Root hands the submission to a user that owns nothing.

What is not walled: the kernel itself, and time on the processor and memory bandwidth, which other programs share.
"""

from __future__ import annotations

import json
import os
import secrets
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from harness.specs import Unusable
from harness.submission.contract import (
    FIRST,
    FOLDER,
    GIB,
    LOGS,
    PORT,
    RESULTS,
    SOCKET,
    TICKETS,
    TRAIN,
    WEIGHTS,
    Inputs,
    Limits,
    environment,
)
from harness.submission.walls import given, graphics, shown, walls

FIRST_USER, USERS = 200_000, 100_000  # of no system; each run has its own, so that none counts another's processes
GRACE = 30  # seconds to start and to hand out the results


@dataclass(frozen=True)
class Outcome:
    """What a run came to.

    results: the bytes of its results file, None without one; failure: why the run counts as failed, None if it does
    not; seconds: of wall clock, measured by the host; peak: bytes of memory of all processes; printed: its last words.
    """

    results: bytes | None
    failure: str | None
    seconds: float
    peak: int
    printed: str


def run(
    folder: Path,
    inputs: Inputs,
    limits: Limits,
    *,
    seed: int = 0,
    proxy: Path | None = None,
    more: Sequence[str] = (),
    unseen: Iterable[Path] = (),
) -> Outcome:
    """Runs `folder`/run.py once.

    proxy: the Unix socket on which a metering proxy listens; more: arguments beside the contract's; unseen: files that
    must not lie in a part of the system which every submission can read, else `Unusable`. Raises `Unusable` where
    there are no namespaces to be had.
    """
    seen = shown()
    for path in unseen:
        if hit := [root for root in seen if path.resolve().is_relative_to(root)]:
            raise Unusable(f"'{path.name}' lies in '{hit[0]}', which a submission can read; move it elsewhere.")
    with tempfile.TemporaryFile() as answer, tempfile.TemporaryDirectory() as scratch:
        brought = given(folder, inputs, Path(scratch))
        command = [*walls(seen, brought, limits, proxy), *_first(limits, seed, proxy, more, answer.fileno())]
        done = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            pass_fds=[answer.fileno()],
            env={},
        )
        try:
            _, said = done.communicate(timeout=limits.seconds + GRACE)
        except subprocess.TimeoutExpired:
            said = b"the sandbox did not end in time"
        finally:
            done.kill()
            done.wait()
        answer.seek(0)
        return _outcome(answer.read(), said.decode("utf-8", "replace"), limits)


def _first(limits: Limits, seed: int, proxy: Path | None, more: Sequence[str], answer: int) -> list[str]:
    """The command line of the first process inside."""
    python = str(Path(sys.prefix).resolve() / Path(sys.executable).relative_to(sys.prefix))
    submission = [python, "run.py", "--train", TRAIN, "--val", TICKETS, "--weights", WEIGHTS]
    held = {"RLIMIT_FSIZE": limits.file, "RLIMIT_NPROC": limits.processes, "RLIMIT_CORE": 0, "RLIMIT_NOFILE": 4096}
    if not graphics():  # CUDA's driver maps far more than it uses
        held["RLIMIT_DATA"] = limits.memory
    told = {
        "command": [*submission, "--output", RESULTS, *more],
        "environment": environment(limits, seed, proxy is not None),
        "folder": FOLDER,
        "limits": held,
        "memory": limits.memory,
        "seconds": limits.seconds,
        "user": FIRST_USER + secrets.randbelow(USERS) if os.getuid() == 0 else None,
        "results": RESULTS,
        "largest": limits.results,
        "log": f"{LOGS}/printed",
        "relay": SOCKET if proxy is not None else None,
        "port": PORT,
        "answer": answer,
    }
    return ["--", python, "-I", FIRST, json.dumps(told)]


# ---- what it came to -------------------------------------------------------------------------------------------------


def _outcome(answer: bytes, said: str, limits: Limits) -> Outcome:
    head, _, results = answer.partition(b"\n")
    if not head:  # the wall itself did not stand: no fault of the submission
        raise Unusable(
            f"the sandbox did not start ({said.strip() or 'it said nothing'}); see harness/submission/walls.py."
        )
    told = json.loads(head)
    failure = _failure(told, limits)
    kept = results if told["results"] == "file" and failure is None else None
    return Outcome(kept, failure, told["seconds"], told["peak"], told["printed"])


def _failure(told: Mapping, limits: Limits) -> str | None:
    last = (told["printed"].strip().splitlines() or ["it printed nothing"])[-1]
    if told["ended"] == "time":
        return f"it ran longer than {limits.seconds:g} seconds and was ended."
    if told["ended"] == "memory":
        return f"its processes held more than {limits.memory / GIB:.1f} GiB of memory together and were ended."
    if told["status"] != 0:
        how = f"signal {-told['status']}" if (told["status"] or 0) < 0 else f"status {told['status']}"
        return f"it ended with {how}: {last}"
    return {
        "missing": "it ended well and left no results file.",
        "no plain file": "its results file is a link or no plain file.",
        "too large": f"its results file has more than {limits.results} bytes.",
    }.get(told["results"])
