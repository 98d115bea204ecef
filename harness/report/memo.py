"""verdict.json -> memo.pdf of exactly three pages, memo.md with the same content, and their plots.

    write_memo(json.loads(Path("out/verdict.json").read_text()), Path("out"))

Made from the verdict alone; the same verdict gives the same bytes.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from harness.report import fonts, plots
from harness.report.files import replace_file
from harness.report.foreign import shown
from harness.report.memo_decision import decision
from harness.report.memo_losses import lost, worth
from harness.report.memo_markdown import markdown_of
from harness.report.memo_repair import again, limits, repair
from harness.report.pdf import fitted, made_at

TEMPLATE = Path(__file__).with_suffix(".typ")
PAGES = 3
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
