"""The data of a fine-tune: JSONL of {"prompt", "response"}."""

from __future__ import annotations

import json
from pathlib import Path

from harness.specs import Unusable


def read_pairs(path: str | Path) -> list[dict[str, str]]:
    """JSONL -> rows of {"prompt", "response"}; `Unusable` names the first line that is not one."""
    path = Path(path)
    if not path.is_file():
        raise Unusable(f'data \'{path}\' does not exist; name a JSONL file of {{"prompt", "response"}} rows.')
    try:
        lines = path.read_text(encoding="utf-8-sig").split("\n")  # splitlines would split at U+2028 in a text, too
    except (OSError, UnicodeDecodeError) as error:
        raise Unusable(f"data '{path}' cannot be read ({error}); save it as UTF-8 text.") from None
    rows = []
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
            pair = {key: row[key] for key in ("prompt", "response")}
            "".join(pair.values()).encode()  # both are text, without halves of surrogate pairs
        except (ValueError, KeyError, TypeError):
            pair = {}
        if not pair or not all(value.strip() for value in pair.values()):
            raise Unusable(
                f'{path.name} line {number} is no {{"prompt", "response"}} with text in both; correct or remove it.'
            )
        rows.append(pair)
    if not rows:
        raise Unusable(f"data '{path}' holds no row; write one JSON object a line.")
    return rows
