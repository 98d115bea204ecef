"""verdict.json as it is written, and the digest by which reports name it: `sha256sum verdict.json` gives it too."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import Any


def text_of(document: Mapping[str, Any]) -> str:
    """The file's content."""
    return json.dumps(document, indent=2, ensure_ascii=False) + "\n"


def digest_of_verdict(document: Mapping[str, Any]) -> str:
    """SHA-256 (hex) of the file."""
    return hashlib.sha256(text_of(document).encode("utf-8", "backslashreplace")).hexdigest()
