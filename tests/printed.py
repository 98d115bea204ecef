"""Memos of made-up verdicts, as text: by page, and as the sentences that went in."""

from __future__ import annotations

import io
import re
from collections.abc import Iterator

from pypdf import PdfReader

from tests import verdicts

MADE = {name: getattr(verdicts, name) for name in ("ship", "inconclusive", "blocked", "worst_case")}


def pages(pdf: bytes) -> list[str]:
    return [page.extract_text() for page in PdfReader(io.BytesIO(pdf)).pages]


def letters(text: str) -> str:
    """Without what lines are broken and filled with."""
    return re.sub(r"[\s\u200b]", "", text)


def strings(value) -> Iterator[str]:
    if isinstance(value, dict):
        for key, part in value.items():
            yield from () if key in ("grounds", "short") else strings(part)
    elif isinstance(value, list):
        for part in value:
            yield from strings(part)
    elif isinstance(value, str):
        yield value
