"""verdict.json -> memo.pdf of exactly three pages, memo.md with the same content, and their plots.

    write_memo(json.loads(Path("out/verdict.json").read_text()), Path("out"))

Made from the verdict alone; the same verdict gives the same bytes.
"""

from __future__ import annotations

import datetime
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import typst

from harness.report import fonts, plots
from harness.report.foreign import shown
from harness.report.memo_decision import decision
from harness.report.memo_losses import lost, worth
from harness.report.memo_markdown import markdown_of
from harness.report.memo_repair import again, limits, repair

TEMPLATE = Path(__file__).with_suffix(".typ")
PAGES = 3
SIZES = (11.0, 10.5, 10.0, 9.5, 9.0, 8.5, 8.0, 7.5, 7.0, 6.5)  # of the type, in points; the first at which all fits
ADVICE = 300  # columns of one sentence
FOREST = 5.2  # inches of the plot of page 1, whose names the page sets itself


def write_memo(document: Mapping[str, Any], out: Path) -> None:
    """Writes memo.pdf, memo.md and plots/, each by an atomic rename; a plot that cannot be drawn is not left behind."""
    said = content(document)
    (out / "plots").mkdir(parents=True, exist_ok=True)
    level = said["results"]["level"]
    drawn = {"forest": plots.forest(document["benchmarks"], level), "pareto": plots.pareto(document)}
    for name, svg in drawn.items():
        if svg is None:
            (out / "plots" / f"{name}.svg").unlink(missing_ok=True)
        else:
            replace_file(out / "plots" / f"{name}.svg", svg)
    replace_file(out / "memo.md", markdown_of(said).encode())
    replace_file(out / "memo.pdf", pdf_of(document, said))


def content(document: Mapping[str, Any]) -> dict[str, Any]:
    """What the memo says, as text that is safe to print."""
    return {
        **decision(document),
        "worth": worth(document),
        "lost": lost(document),
        "repair": repair(document),
        "advice": [shown(sentence, ADVICE) for sentence in document["next_cycle"]],
        "limits": limits(document),
        "again": again(document),
    }


def pdf_of(document: Mapping[str, Any], said: Mapping[str, Any] | None = None) -> bytes:
    """The memo as PDF; see `fitted`."""
    said = said or content(document)
    rows = [document["benchmarks"][at] for at in said["results"]["kept"]]
    inputs = {
        "data": json.dumps({**said, "fonts": fonts.families(), "row": plots.row_height(len(rows)), "plot": FOREST}),
        "forest": plots.forest(rows, said["results"]["level"], named=False, width=FOREST).decode(),
        "pareto": (plots.pareto(document) or b"").decode(),
    }
    return fitted(TEMPLATE, inputs, PAGES, made_at(document))


def fitted(template: Path, inputs: Mapping[str, str], pages: int, made: int) -> bytes:
    """A template as PDF, in the largest type in which each of its parts fits its page. made: its date, as Unix time.

    Raises `RuntimeError` if none does: what is cut where keeps that from happening.
    """
    for size in SIZES:
        given = {**inputs, "size": str(size)}
        if _pages(template, given) == pages:
            return typst.compile(str(template), format="pdf", font_paths=fonts.book(), sys_inputs=given, timestamp=made)
    raise RuntimeError(f"the memo does not fit on {pages} pages in type of {SIZES[-1]:g} points")


def _pages(template: Path, inputs: Mapping[str, str]) -> int:
    found = typst.query(str(template), "<pages>", field="value", one=True, font_paths=fonts.book(), sys_inputs=inputs)
    return json.loads(found)


def made_at(document: Mapping[str, Any]) -> int:
    """Seconds since 1970 of the audit's end, as the PDF's date; 0 where the verdict does not hold a date."""
    try:
        return int(datetime.datetime.fromisoformat(document["created"]).timestamp())
    except ValueError:
        return 0


def replace_file(path: Path, content: bytes) -> None:
    """Writes a file by an atomic rename."""
    scratch = path.with_name(f".{path.name}.{os.getpid()}")
    scratch.write_bytes(content)
    scratch.replace(path)
