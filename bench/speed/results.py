"""What was measured, one JSON file for each part in bench/speed/measured."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

FOLDER = Path(__file__).resolve().parent / "measured"


def read(name: str) -> dict[str, Any]:
    """What a part has measured so far; empty before its first run."""
    path = FOLDER / f"{name}.json"
    return json.loads(path.read_text()) if path.is_file() else {}


def write(name: str, found: dict[str, Any]) -> None:
    FOLDER.mkdir(exist_ok=True)
    (FOLDER / f"{name}.json").write_text(json.dumps(found, indent=1) + "\n")


def runs(count: int) -> str:
    return f"medians of {count} runs" if count > 1 else "one run"
