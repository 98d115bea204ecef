"""The results file of a submission -> a prediction or a fault for each row that was asked; nothing in it is trusted.

{"training": {"steps", "train_loss", "val_loss", "wall_clock_s"},
 "predictions": [{"id", "prediction", "predicted_intent", "latency_ms", "tokens_used"}]}
"""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

LONGEST = 20_000  # characters of a reply: a judge is paid by what it reads
SHOWN = 60  # characters of a foreign id or label in a sentence
TRAINING = ("steps", "train_loss", "val_loss", "wall_clock_s")


@dataclass(frozen=True)
class Prediction:
    """One answered row. latency: milliseconds, and tokens: as the submission says, which proves nothing."""

    reply: str
    intent: str
    latency: float
    tokens: int


@dataclass(frozen=True)
class Results:
    """predictions, faults: by the id of a row; each row that was asked is in one of them. training: as it was said.

    notes: what is wrong with the file beside its rows.
    """

    predictions: Mapping[str, Prediction]
    faults: Mapping[str, str]
    training: Mapping[str, float | None]
    notes: Sequence[str]


def nothing(ids: Sequence[str], why: str) -> Results:
    """No row is answered, for one reason."""
    return Results({}, dict.fromkeys(ids, why), dict.fromkeys(TRAINING), [])


def read_results(content: bytes, ids: Sequence[str]) -> Results:
    """The content of a results file, for the rows with these ids. Never raises: what is wrong is a fault."""
    try:
        told = json.loads(content.decode("utf-8"), parse_constant=_no_number)
    except (ValueError, RecursionError) as error:
        return nothing(ids, f"the results are no JSON ({_short(error)})")
    rows = told.get("predictions") if isinstance(told, dict) else None
    if not isinstance(rows, list):
        return nothing(ids, 'the results hold no list of "predictions"')
    found, notes = {}, _strangers(rows, ids)
    named = Counter(row["id"] for row in rows if _named(row))
    for row in rows:
        if _named(row) and row["id"] in ids:
            found[row["id"]] = _prediction(row)
    faults = {}
    for key in ids:
        if named[key] != 1:
            faults[key] = "no prediction has its id" if named[key] == 0 else f"{named[key]} predictions have its id"
        elif isinstance(found[key], str):
            faults[key] = found[key]
    training, wrong = _training(told.get("training"))
    return Results({key: found[key] for key in ids if key not in faults}, faults, training, [*notes, *wrong])


def _named(row: Any) -> bool:
    return isinstance(row, dict) and isinstance(row.get("id"), str)


def _strangers(rows: Sequence[Any], ids: Sequence[str]) -> list[str]:
    """Sentences on predictions that belong to no row."""
    unnamed = sum(not _named(row) for row in rows)
    unknown = sorted({row["id"] for row in rows if _named(row) and row["id"] not in ids})
    notes = [f'{unnamed} predictions have no text as "id"'] if unnamed else []
    if unknown:
        notes.append(f"{len(unknown)} ids were not asked for, '{_short(unknown[0])}' among them")
    return notes


def _prediction(row: Mapping[str, Any]) -> Prediction | str:
    """The row's prediction, or what is wrong with it."""
    for key in ("prediction", "predicted_intent"):
        if not isinstance(row.get(key), str):
            return f'"{key}" is no text'
        try:
            row[key].encode()
        except UnicodeEncodeError:
            return f'"{key}" holds half a character'
    if len(row["prediction"]) > LONGEST:
        return f'"prediction" has {len(row["prediction"])} characters and may have {LONGEST}'
    if not _number(row.get("latency_ms")):
        return '"latency_ms" is no number from 0 on'
    if not _number(row.get("tokens_used")) or row["tokens_used"] != int(row["tokens_used"]):
        return '"tokens_used" is no whole number from 0 on'
    return Prediction(row["prediction"], row["predicted_intent"], float(row["latency_ms"]), int(row["tokens_used"]))


def _training(told: Any) -> tuple[dict[str, float | None], list[str]]:
    if not isinstance(told, dict):
        return dict.fromkeys(TRAINING), ['the results hold no "training"']
    kept = {key: float(told[key]) if _number(told.get(key)) else None for key in TRAINING}
    wrong = [key for key, value in kept.items() if value is None]
    return kept, [f'"training" has no number from 0 on as {", ".join(wrong)}'] if wrong else []


def _number(value: Any) -> bool:
    """A number from 0 on that a float holds; True and False are none."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return False
    try:
        return math.isfinite(float(value)) and value >= 0
    except OverflowError:
        return False


def _no_number(word: str):
    raise ValueError(f"{word} is no number in JSON")


def _short(text: object) -> str:
    said = " ".join(str(text).encode("utf-8", "replace").decode().split())
    return said if len(said) <= SHOWN else f"{said[:SHOWN]}…"
