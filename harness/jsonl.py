"""JSONL files of the user's: where they cannot be read, or hold nothing, one sentence says so."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from harness.specs import Unusable


def write(path: Path, rows: Iterable[Any]) -> None:
    """One JSON object a line, as `records` reads them."""
    path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")


def records(path: str | Path, form: str, what: str = "data ") -> Iterator[tuple[int, Any]]:
    """Yields (line number from 1, the value of that line), None for what is no JSON; empty lines are left out.

    form: what a line should be, what: the word before the file's name, both for the message. Raises `Unusable` for a
    file that is missing or is no UTF-8 text, and at its end for one without any line.
    """
    path = Path(path)
    if not path.exists():
        raise Unusable(f"{what}'{path}' does not exist; name a JSONL file of {form} rows.")
    try:
        lines = path.read_text(encoding="utf-8-sig").split("\n")  # splitlines would split at U+2028 in a text, too
    except (OSError, UnicodeDecodeError) as error:
        raise Unusable(f"{what}'{path}' cannot be read ({error}); save it as UTF-8 text.") from None
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
        raise Unusable(f"{what}'{path}' holds no row; write one JSON object a line.")


def is_text(value: Any, blank: bool = False) -> bool:
    """True for a text without halves of surrogate pairs, which no tokenizer takes; a blank one is none, but `blank`."""
    if not isinstance(value, str) or not (blank or value.strip()):
        return False
    try:
        value.encode()
    except UnicodeEncodeError:
        return False
    return True
