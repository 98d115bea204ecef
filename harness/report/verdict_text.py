"""verdict.json as it is written, and the digest by which reports name it: `sha256sum verdict.json` gives it too."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from harness.report.files import replace_file


def text_of(document: Mapping[str, Any]) -> str:
    """The file's content. ValueError for what is no JSON, an infinite number: strict readers would refuse the file."""
    return json.dumps(document, indent=2, ensure_ascii=False, allow_nan=False) + "\n"


def write_verdict(document: Mapping[str, Any], out: Path) -> None:
    """Writes verdict.json into `out`."""
    replace_file(out / "verdict.json", _bytes_of(document))


def digest_of_verdict(document: Mapping[str, Any]) -> str:
    """SHA-256 (hex) of the file."""
    return hashlib.sha256(_bytes_of(document)).hexdigest()


def _bytes_of(document: Mapping[str, Any]) -> bytes:
    return text_of(document).encode("utf-8", "backslashreplace")  # half a character becomes JSON's own escape for it
