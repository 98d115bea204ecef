"""Names, lists, dates and changes of a verdict's rows in words; what a user or model named is made safe to print."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import SimpleNamespace
from typing import Any

from harness.report.foreign import shown
from harness.report.numbers import count, interval, limit, share_range, signed

NAME = 28  # columns of a benchmark's name
MONTHS = (
    "January", "February", "March", "April", "May", "June", "July", "August", "September", "October", "November",
    "December",
)  # fmt: skip

Row = Mapping[str, Any]


def name(row: Row) -> str:
    return shown(row["name"], NAME, middle=True)


def listed(rows: Sequence[Row], most: int = 4) -> str:
    """'a', 'a and b', 'a, b and 3 more'; each benchmark once."""
    names = list(dict.fromkeys(map(name, rows)))
    if len(names) > most:
        names = [*names[: most - 1], f"{count(len(names) - most + 1)} more"]
    return " and ".join(filter(None, [", ".join(names[:-1]), names[-1]]))


def change(row: Row) -> str:
    """'−14.2 [−20.2, −8.4]', in points."""
    return interval(SimpleNamespace(estimate=row["change"] / 100, low=row["low"] / 100, high=row["high"] / 100))


def ranged(row: Row) -> str:
    """'[−20.2, −8.4]': the bounds alone, in points."""
    return f"[{signed(row['low'] / 100)}, {signed(row['high'] / 100)}]"


def share(row: Row, key: str) -> str:
    """'83% [50%, 104%]': what a mitigation gave back of the loss (closure) or kept of the domain gain (retention)."""
    if row[key] is None:
        return "no gain to keep" if key == "retention" else "no loss on these items"
    return share_range(row[key], row[f"{key}_low"], row[f"{key}_high"])


def judged_on(row: Row) -> str:
    """Which items have judged a mitigation, in words."""
    if not row["picked_on"]:
        return "all items of the experiment: there was one setting, so none was picked"
    halves = listed([{"name": each} for each in row["picked_on"]])
    return f"items that did not pick the setting: of {halves} the other half, of the rest all"


def judged(document: Mapping[str, Any], verdict: str) -> list[Row]:
    """The rows of one verdict."""
    return [row for row in document["benchmarks"] if row["verdict"] == verdict]


def largest(document: Mapping[str, Any]) -> Row:
    """The row of the largest regression."""
    about = (document["largest_regression"], document["largest_regression_of"])
    return next(row for row in document["benchmarks"] if (row["name"], row["model"]) == about)


def candidates(document: Mapping[str, Any], width: int) -> str:
    """The candidates, cut to so many columns; several are counted."""
    specs = [c["spec"] for c in document["candidates"]]
    if len(specs) == 1:
        return shown(specs[0], width, middle=True)
    return f"{count(len(specs))} {'training runs of one recipe' if document['training_runs'] else 'candidates'}"


def changed_margins(document: Mapping[str, Any]) -> str | None:
    """That and how margins were changed after the audit had run; None where they were not."""
    before = document.get("rejudged", {}).get("margins", {})
    now = {row["name"]: row["margin"] for row in document["benchmarks"]}
    told = [
        f"{limit(now[key])} on {name({'name': key})} (it ran with {limit(before[key])})" for key in before if key in now
    ]
    if not told:
        return None
    more = f" and {count(len(told) - 4)} more" if len(told) > 4 else ""
    return f"Margins were changed after the answers were known: {', '.join(told[:4])}{more}."


def date(created: str) -> str:
    """'2026-11-21T14:45:33+00:00' -> '21 November 2026'; a text that is no date stays itself."""
    parts = created.partition("T")[0].split("-")
    if len(parts) != 3 or not all(part.isdecimal() for part in parts) or not 1 <= int(parts[1]) <= 12:
        return shown(created, 30)
    return f"{int(parts[2])} {MONTHS[int(parts[1]) - 1]} {parts[0]}"
