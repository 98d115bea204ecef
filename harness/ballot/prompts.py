"""What a head-to-head asks: prompts and pairs of answers from JSONL files, every row checked."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

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
    path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")


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
    try:
        lines = path.read_text(encoding="utf-8-sig").split("\n")  # splitlines would split at U+2028 in a text, too
    except FileNotFoundError:
        raise Unusable(f"'{path}' does not exist; name a JSONL file of {form} rows.") from None
    except (OSError, UnicodeDecodeError) as error:
        raise Unusable(f"'{path}' cannot be read ({error}); save it as UTF-8 text.") from None
    rows, seen = [], {}
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        row = _row(line, keys)
        if row is None or not all(row[key].strip() for key in keys if key not in empty):
            raise Unusable(f"{path.name} line {number} is no {form} with text; correct or remove it.")
        if (before := seen.setdefault(row["prompt"], number)) != number:
            raise Unusable(f"{path.name} line {number} repeats the prompt of line {before}; remove one of them.")
        rows.append(row)
    if not rows:
        raise Unusable(f"'{path}' holds no row; write one {form} a line.")
    return rows


def _row(line: str, keys: Sequence[str]) -> dict[str, str] | None:
    try:
        found: Mapping = json.loads(line)
        row = {key: found[key] for key in keys}
        "".join(row.values()).encode()  # all are text, without halves of surrogate pairs
    except (ValueError, KeyError, TypeError):
        return None
    return row
