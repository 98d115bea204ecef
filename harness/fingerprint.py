"""Content digests of files, and whether weights are finite; each file is read once and remembered.

A digest is a SHA-256 over content, never over names or dates. The memory is keyed by what changes with the content:
path, size, both times of change and the inode, as copies that keep their modification time are common. It is no more
than a memory: where it cannot be read or written, everything is computed again.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import sqlite3
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

from harness.assets import cache_dir


def digest_of(value: Any) -> str:
    """SHA-256 (hex) of a JSON-like value; equal values give equal digests whatever the order of their keys."""
    return hashlib.sha256(json.dumps(value, sort_keys=True, default=str).encode()).hexdigest()


def file_digest(path: Path) -> str:
    """SHA-256 (hex) of a file's content."""
    return _remember(path, "sha256", lambda: _hash(path))


def files_digest(paths: Iterable[Path]) -> str:
    """One digest of several files by name and content; their order does not matter."""
    return digest_of(sorted((path.name, file_digest(path)) for path in paths))


def first_nonfinite(path: Path) -> str | None:
    """Name of the first tensor of a safetensors file that holds NaN or Inf; None if all are finite."""
    return _remember(path, "nonfinite", lambda: _scan(path)) or None


def _hash(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _scan(path: Path) -> str:
    import torch
    from safetensors import safe_open

    with safe_open(path, framework="pt") as tensors:
        for name in tensors.keys():  # noqa: SIM118 (no mapping, keys() is its own method)
            tensor = tensors.get_tensor(name)
            if tensor.is_floating_point() and not torch.isfinite(tensor.float()).all():
                return name
    return ""


def _remember(path: Path, what: str, compute: Callable[[], str]) -> str:
    path = path.resolve()
    stat = path.stat()
    changed = f"{stat.st_mtime_ns}/{stat.st_ctime_ns}/{stat.st_ino}"
    key = (str(path), stat.st_size, changed, what)
    with contextlib.suppress(sqlite3.Error), _memory() as db:
        query = "SELECT value FROM files WHERE path = ? AND size = ? AND changed = ? AND what = ?"
        if row := db.execute(query, key).fetchone():
            return row[0]
    value = compute()
    with contextlib.suppress(sqlite3.Error), _memory() as db:
        db.execute("INSERT OR REPLACE INTO files VALUES (?, ?, ?, ?, ?)", (*key, value))
    return value


@contextlib.contextmanager
def _memory() -> Iterator[sqlite3.Connection]:
    with contextlib.closing(sqlite3.connect(cache_dir() / "fingerprints.sqlite", timeout=60)) as db, db:
        db.execute(
            "CREATE TABLE IF NOT EXISTS files (path, size, changed, what, value, PRIMARY KEY (path, size, changed,"
            " what))"
        )
        yield db
