"""Digests: by content alone, and each file read once."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from harness import fingerprint


@pytest.fixture(autouse=True)
def _cache(tmp_path, monkeypatch):
    monkeypatch.setenv("LETHE_CACHE", str(tmp_path / "cache"))


@pytest.fixture
def hashed(monkeypatch) -> list[Path]:
    """The files that were really read, in order."""
    read, real = [], fingerprint._hash

    def hash_file(path: Path) -> str:
        read.append(path)
        return real(path)

    monkeypatch.setattr(fingerprint, "_hash", hash_file)
    return read


@pytest.fixture
def file(tmp_path) -> Path:
    (tmp_path / "file").write_text("first")
    return tmp_path / "file"


def test_an_unchanged_file_is_read_once(file, hashed):
    assert fingerprint.file_digest(file) == fingerprint.file_digest(file)
    assert len(hashed) == 1


def test_a_touched_or_renamed_file_keeps_its_digest(file, hashed):
    first = fingerprint.file_digest(file)
    os.utime(file, (1, 1))
    assert fingerprint.file_digest(file) == first
    assert fingerprint.file_digest(file.rename(file.with_name("renamed"))) == first


def test_a_file_replaced_by_one_of_its_size_and_date_is_read_again(file, hashed):
    """As archives and copies that keep dates do it."""
    first, stat = fingerprint.file_digest(file), file.stat()
    other = file.with_name("other")
    other.write_text("SECND")
    os.utime(other, ns=(stat.st_atime_ns, stat.st_mtime_ns))
    other.replace(file)
    assert (file.stat().st_size, file.stat().st_mtime_ns) == (stat.st_size, stat.st_mtime_ns)
    assert fingerprint.file_digest(file) != first
    assert len(hashed) == 2


@pytest.mark.parametrize("spoil", [Path.mkdir, lambda path: path.write_bytes(b"no database " * 99)])
def test_a_memory_that_cannot_be_used_costs_time_alone(file, hashed, tmp_path, spoil):
    first = fingerprint.file_digest(file)
    (tmp_path / "cache" / "fingerprints.sqlite").unlink()
    spoil(tmp_path / "cache" / "fingerprints.sqlite")
    assert fingerprint.file_digest(file) == fingerprint.file_digest(file) == first
    assert len(hashed) == 3


def test_a_digest_does_not_depend_on_the_order_of_keys_or_files(tmp_path):
    assert fingerprint.digest_of({"a": 1, "b": [2]}) == fingerprint.digest_of({"b": [2], "a": 1})
    assert fingerprint.digest_of({"a": [1, 2]}) != fingerprint.digest_of({"a": [2, 1]})
    files = [tmp_path / name for name in ("one", "two")]
    for path in files:
        path.write_text(path.name)
    assert fingerprint.files_digest(files) == fingerprint.files_digest(files[::-1])
