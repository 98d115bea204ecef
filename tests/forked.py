"""Our commands in forks of one process that has imported what an audit imports: a fresh one takes ten seconds for that.

A fork is a process of its own, with its own exit status or end by a signal, and nothing that it changes is left to the
next one. As a command: reads one run a line, and answers with its exit status.
"""

from __future__ import annotations

import atexit
import functools
import gc
import importlib
import json
import os
import runpy
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
LONGEST = 600  # seconds, after which SIGALRM ends a run
# No plugin of pytest's: it must import them itself, to rewrite their assertions.
IMPORTED = (
    "mitigations.experiment",
    "harness.report.document",
    "peft",
    "transformers.models.llama",
    "lm_eval.tasks",
    "nltk",
)


def run(command: list[str], env: dict[str, str], cwd: Path = ROOT) -> subprocess.CompletedProcess:
    """What `python COMMAND` gives, its output as text; the command is `-m MODULE …` or `FILE …`."""
    with tempfile.TemporaryDirectory() as folder:
        out, err = (Path(folder, name) for name in ("out", "err"))
        given = {"command": command, "env": env, "cwd": str(cwd), "out": str(out), "err": str(err)}
        server = _server()
        server.stdin.write(json.dumps(given) + "\n")
        server.stdin.flush()
        if not (status := server.stdout.readline()):
            raise RuntimeError(f"the process to fork has ended with {server.wait()}; its stderr says why.")
        return subprocess.CompletedProcess(command, int(status), out.read_bytes().decode(), err.read_bytes().decode())


@functools.cache
def _server() -> subprocess.Popen:
    """One for each process that runs tests; it ends when its input does."""
    compiled = tempfile.TemporaryDirectory()
    atexit.register(compiled.cleanup)
    given = [sys.executable, "-m", "tests.forked", compiled.name]
    env = {**os.environ, "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"}
    server = subprocess.Popen(given, cwd=ROOT, env=env, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    atexit.register(server.stdin.close)
    return server


def main(compiled: str) -> None:
    """compiled: a folder for what the forks compile, where PYTHONDONTWRITEBYTECODE would have each do it again."""
    for name in IMPORTED:
        importlib.import_module(name)
    gc.freeze()  # a fork that collects garbage, as each does at its end, would copy all of the memory that it shares
    sys.dont_write_bytecode, sys.pycache_prefix = False, compiled
    while line := sys.stdin.readline():
        if not (child := os.fork()):
            _become(**json.loads(line))
            return
        print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)


def _become(command: list[str], env: dict[str, str], cwd: str, out: str, err: str) -> None:
    """Runs the command in this process; the SystemExit that it ends with ends the interpreter as it would a fresh one.

    Python's own variables, such as PYTHONPATH, come too late for it.
    """
    os.environ.clear()
    os.environ.update(env)
    for number, path in enumerate((os.devnull, out, err)):
        opened = os.open(path, os.O_RDWR | os.O_CREAT)
        os.dup2(opened, number)
        os.close(opened)
    os.chdir(cwd)
    signal.alarm(LONGEST)
    if command[0] == "-m":
        sys.argv = command[1:]
        runpy.run_module(command[1], run_name="__main__", alter_sys=True)
    else:
        sys.argv, sys.path[0] = command, os.path.dirname(command[0])
        runpy.run_path(command[0], run_name="__main__")


if __name__ == "__main__":
    main(sys.argv[1])
