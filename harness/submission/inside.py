"""The first process inside the sandbox: starts the submission under limits, watches it, hands out what it left.

    python -I inside.py JSON      (sandbox.py writes the JSON and reads the answer)

It is trusted, stands alone and needs nothing but the standard library. The kernel holds per process: memory that it
writes to (RLIMIT_DATA), size of a file, and per user the number of processes and threads. Held from here, by looking
ten times a second: the time, and the memory of all processes together. When this process ends, the kernel ends all
others.

The answer, written to a file descriptor: one line of JSON, then the bytes of the results.
"""

from __future__ import annotations

import contextlib
import ctypes
import json
import os
import resource
import signal
import socket
import stat
import sys
import threading
import time

WRITTEN = "RssAnon", "RssShmem"  # in /proc/PID/status: of its own, and what processes may share
LOOK = 0.1  # seconds
UNDUMPABLE = 4  # PR_SET_DUMPABLE
LAST = 4000  # bytes of what the submission printed


def main() -> None:
    told = json.loads(sys.argv[1])
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the first process ends by nothing that the submission sends it
    ctypes.CDLL(None).prctl(UNDUMPABLE, 0)  # so that /proc shows the submission nothing of this process
    if told["relay"]:
        _listen(told["relay"], told["port"])
    log = os.open(told["log"], os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600)
    begun = time.monotonic()
    child = os.fork()
    if child == 0:
        _become_submission(told, log)
    said = _watch(child, told, begun)
    said["seconds"] = time.monotonic() - begun
    said["printed"] = _tail(log)
    said["results"], results = _collect(told["results"], told["largest"])
    with os.fdopen(told["answer"], "wb") as file:
        file.write(json.dumps(said).encode() + b"\n" + results)


def _become_submission(told: dict, log: int) -> None:
    """In the child: limits, another user where this one is root, no descriptor but its own, then the program."""
    try:
        signal.signal(signal.SIGINT, signal.SIG_DFL)
        os.setsid()
        os.dup2(os.open("/dev/null", os.O_RDONLY), 0)
        os.dup2(log, 1)
        os.dup2(log, 2)
        os.closerange(3, 65536)
        for name, value in told["limits"].items():
            resource.setrlimit(getattr(resource, name), (value, value))
        if told["user"] is not None:
            os.setgroups([])
            os.setresgid(told["user"], told["user"], told["user"])
            os.setresuid(told["user"], told["user"], told["user"])
        os.chdir(told["folder"])
        os.execve(told["command"][0], told["command"], told["environment"])
    except BaseException as error:  # whatever it is, this copy of the first process must not go on
        os.write(2, f"the submission could not be started: {error}\n".encode())
    finally:
        os._exit(127)


def _watch(child: int, told: dict, begun: float) -> dict:
    """Until the child ends, or time or memory run out. Reaps what lost its parent, as the first process must."""
    peak = 0
    while True:
        peak = max(peak, written_memory())
        if peak > told["memory"]:
            return {"ended": "memory", "status": None, "peak": peak}
        if time.monotonic() - begun > told["seconds"]:
            return {"ended": "time", "status": None, "peak": peak}
        while True:
            try:
                done, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return {"ended": "lost", "status": None, "peak": peak}
            if done == child:
                return {"ended": "itself", "status": os.waitstatus_to_exitcode(status), "peak": peak}
            if done == 0:
                break
        time.sleep(LOOK)


def written_memory() -> int:
    """Bytes of memory that all processes have written; a page that a fork shares counts for each of them."""
    total = 0
    for name in os.listdir("/proc"):
        if name.isdecimal() and name != "1":
            try:
                with open(f"/proc/{name}/status") as file:
                    fields = dict(line.split(":", 1) for line in file if line.startswith("Rss"))
            except OSError:  # it has ended
                continue
            kib = sum(int(fields[kind].split()[0]) for kind in WRITTEN if kind in fields)  # none of what is ending
            total += kib * 1024
    return total


def _tail(log: int) -> str:
    size = os.lseek(log, 0, os.SEEK_END)
    return os.pread(log, LAST, max(0, size - LAST)).decode("utf-8", "replace")


def _collect(path: str, largest: int) -> tuple[str, bytes]:
    """What stands at the place of the results: `file` with its bytes, or else what is wrong with it."""
    try:
        opened = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    except FileNotFoundError:
        return "missing", b""
    except OSError:
        return "no plain file", b""
    with os.fdopen(opened, "rb") as file:
        if not stat.S_ISREG(os.fstat(opened).st_mode):
            return "no plain file", b""
        found = file.read(largest + 1)
    return ("file", found) if len(found) <= largest else ("too large", b"")


# ---- the one way out: to the metering proxy --------------------------------------------------------------------------


def _listen(path: str, port: int) -> None:
    """Hands every connection to this port of the sandbox's own loopback on to the host's socket at `path`."""
    server = socket.create_server(("127.0.0.1", port))

    def accept() -> None:
        while True:
            near, _ = server.accept()
            far = socket.socket(socket.AF_UNIX)
            try:
                far.connect(path)
            except OSError:
                near.close()
                continue
            for pair in ((near, far), (far, near)):
                threading.Thread(target=_pump, args=pair, daemon=True).start()

    threading.Thread(target=accept, daemon=True).start()


def _pump(source: socket.socket, target: socket.socket) -> None:
    with contextlib.suppress(OSError):
        while chunk := source.recv(65536):
            target.sendall(chunk)
    with contextlib.suppress(OSError):
        target.shutdown(socket.SHUT_WR)


if __name__ == "__main__":
    main()
