"""JSONL files of the user's: where they cannot be read, or hold nothing, one sentence says so."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from harness.specs import Unusable


def records(path: str | Path, form: str) -> Iterator[tuple[int, Any]]:
    """Yields (line number from 1, the value of that line), None for what is no JSON; empty lines are left out.

    form: what a line should be, for the message. Raises `Unusable` for a file that is missing or is no UTF-8 text, and
    at its end for one without any line.
    """
    path = Path(path)
    if not path.is_file():
        raise Unusable(f"data '{path}' does not exist; name a JSONL file of {form} rows.")
    try:
        lines = path.read_text(encoding="utf-8-sig").split("\n")  # splitlines would split at U+2028 in a text, too
    except (OSError, UnicodeDecodeError) as error:
        raise Unusable(f"data '{path}' cannot be read ({error}); save it as UTF-8 text.") from None
    found = False
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        found = True
        try:
            yield number, json.loads(line)
        except ValueError:
            yield number, None
    if not found:
        raise Unusable(f"data '{path}' holds no row; write one JSON object a line.")


def is_text(value: Any) -> bool:
    """True for a text that is not blank and holds no half of a surrogate pair, which no tokenizer takes."""
    if not isinstance(value, str) or not value.strip():
        return False
    try:
        value.encode()
    except UnicodeEncodeError:
        return False
    return True
