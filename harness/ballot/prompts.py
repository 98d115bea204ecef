"""What a head-to-head asks: prompts and pairs of answers from JSONL files, every row checked."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from harness.jsonl import is_text, records, write
from harness.specs import Unusable

BASE, CANDIDATE = "base", "candidate"


@dataclass(frozen=True)
class Pair:
    """One prompt with the answer of each model."""

    prompt: str
    base: str
    candidate: str

    @property
    def id(self) -> str:
        return prompt_id(self.prompt)


def prompt_id(prompt: str) -> str:
    """A prompt's id by its content, whatever the order of the file."""
    return hashlib.sha256(prompt.encode()).hexdigest()[:16]


def read_prompts(path: str | Path) -> list[str]:
    """JSONL of {"prompt"} -> prompts, each once; `Unusable` names the first line that is none."""
    return [row["prompt"] for row in _read(Path(path), ("prompt",), empty=())]


def read_pairs(path: str | Path) -> list[Pair]:
    """JSONL of {"prompt", "base", "candidate"} -> pairs of answers; an answer may be empty, as models' are."""
    return [Pair(**row) for row in _read(Path(path), ("prompt", BASE, CANDIDATE), empty=(BASE, CANDIDATE))]


def write_pairs(path: Path, pairs: Sequence[Pair]) -> None:
    rows = ({"prompt": pair.prompt, BASE: pair.base, CANDIDATE: pair.candidate} for pair in pairs)
    write(path, rows)


def answered(prompts: Sequence[str], pairs: Sequence[Pair], path: str | Path) -> list[Pair]:
    """The pairs of these prompts, in their order; `Unusable` if a prompt has none."""
    known = {pair.prompt: pair for pair in pairs}
    if lacking := [prompt for prompt in prompts if prompt not in known]:
        raise Unusable(
            f"answers '{path}' lack {len(lacking)} of {len(prompts)} prompts, the first of them {lacking[0][:60]!r};"
            " add both models' answers to it, or leave it out of the prompts."
        )
    return [known[prompt] for prompt in prompts]


def draw(prompts: Sequence[str], wanted: int) -> list[str]:
    """So many prompts, drawn by a hash of their content, in the order of the file; all where there are fewer."""
    chosen = set(sorted(prompts, key=prompt_id)[:wanted])
    return [prompt for prompt in prompts if prompt in chosen]


def _read(path: Path, keys: Sequence[str], empty: Sequence[str]) -> list[dict[str, str]]:
    """Rows with text under each of `keys`, which may be blank under those of `empty` alone."""
    form = "{" + ", ".join(f'"{key}"' for key in keys) + "}"
    rows, seen = [], {}
    for number, found in records(path, form, what=""):
        row = _row(found, keys, empty)
        if row is None:
            raise Unusable(f"{path.name} line {number} is no {form} with text; correct or remove it.")
        if (before := seen.setdefault(row["prompt"], number)) != number:
            raise Unusable(f"{path.name} line {number} repeats the prompt of line {before}; remove one of them.")
        rows.append(row)
    return rows


def _row(found: Any, keys: Sequence[str], empty: Sequence[str]) -> dict[str, str] | None:
    row = {key: found.get(key) for key in keys} if isinstance(found, dict) else {}
    return row if row and all(is_text(value, blank=key in empty) for key, value in row.items()) else None
