"""A Typst template and what it prints -> a PDF of so many pages; the same input gives the same bytes."""

from __future__ import annotations

import datetime
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import typst

from harness.report import fonts

SIZES = (11.0, 10.5, 10.0, 9.5, 9.0, 8.5, 8.0, 7.5, 7.0, 6.5)  # of the type, in points; the first at which all fits


def fitted(template: Path, inputs: Mapping[str, str], pages: int, made: int) -> bytes:
    """A template as PDF, in the largest type in which each of its parts fits its page. made: its date, as Unix time.

    Raises `RuntimeError` if none does: what is cut where keeps that from happening.
    """
    for size in SIZES:
        given = {**inputs, "size": str(size)}
        if _pages(template, given) == pages:
            return typst.compile(str(template), format="pdf", font_paths=fonts.book(), sys_inputs=given, timestamp=made)
    raise RuntimeError(f"the text does not fit on {pages} pages in type of {SIZES[-1]:g} points")


def _pages(template: Path, inputs: Mapping[str, str]) -> int:
    found = typst.query(str(template), "<pages>", field="value", one=True, font_paths=fonts.book(), sys_inputs=inputs)
    return json.loads(found)


def made_at(document: Mapping[str, Any]) -> int:
    """Seconds since 1970 of the audit's end, as the PDF's date; 0 where the verdict does not hold a date."""
    try:
        return int(datetime.datetime.fromisoformat(document["created"]).timestamp())
    except ValueError:
        return 0
