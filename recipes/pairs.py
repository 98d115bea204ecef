"""The data of a fine-tune: JSONL of {"prompt", "response"}."""

from __future__ import annotations

from pathlib import Path

from harness.jsonl import is_text, records
from harness.specs import Unusable

KEYS = ("prompt", "response")


def read_pairs(path: str | Path) -> list[dict[str, str]]:
    """JSONL -> rows of {"prompt", "response"}; `Unusable` names the first line that is not one."""
    rows = []
    for number, row in records(path, '{"prompt", "response"}'):
        if not isinstance(row, dict) or not all(is_text(row.get(key)) for key in KEYS):
            raise Unusable(
                f'{Path(path).name} line {number} is no {{"prompt", "response"}} with text in both; correct or remove'
                " it."
            )
        rows.append({key: row[key] for key in KEYS})
    return rows
