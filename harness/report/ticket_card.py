"""The score card of a graded submission, from `verdict.json` alone: one page as HTML for Allure and as PDF.

write(document, Path("out"))      verdict.json and card.pdf
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from operator import itemgetter
from pathlib import Path
from typing import Any

import typst

from harness.report import escape, fonts, markup, words
from harness.report.files import replace_file
from harness.report.foreign import shown
from harness.report.markup import NUMBER
from harness.report.numbers import as_set, confidence, count, dollars, limit, mebibytes, points, seconds
from harness.report.pdf import made_at
from harness.report.ticket_document import decision_line
from harness.report.verdict_text import write_verdict
from harness.verdict import INCONCLUSIVE, PASS, REGRESSED

TEMPLATE = Path(__file__).with_suffix(".typ")
FILE = "card.pdf"
DIMENSION_EPIC = "1 - Dimensions"
WORST, CONFUSED, BENCHMARKS = 6, 6, 6  # rows of a table
GRAVITY = (REGRESSED, INCONCLUSIVE, PASS)
ELSEWHERE = "What it lost elsewhere, which decides nothing"
NUMBERS = ("Weight", "Score", "Bounds", "Base", "Times", "Quality", "Change", "Margin")  # columns of figures
TEXT, NAME = 110, 60  # columns of a ticket or a reply, and of a name

Document = Mapping[str, Any]
Table = tuple[Sequence[str], Sequence[Sequence[str]]]


def write(document: Document, out: Path) -> None:
    """Writes verdict.json and card.pdf into `out`, each by an atomic rename."""
    write_verdict(document, out)
    replace_file(out / FILE, pdf_of(document))


def pdf_of(document: Document) -> bytes:
    """The card on one page; the same document gives the same bytes."""
    inputs = {"data": json.dumps({**content(document), "fonts": fonts.families()})}
    return typst.compile(
        str(TEMPLATE), format="pdf", font_paths=fonts.book(), sys_inputs=inputs, timestamp=made_at(document)
    )


def card_html(document: Document) -> str:
    """The card as Allure shows it."""
    said = content(document)
    parts = [markup.banner(document["decision"], said["reason"])]
    for title, (head, rows) in said["tables"].items():
        right = {name: NUMBER for name in head if name in said["numbers"]}
        parts += [markup.heading(title), markup.table(head, rows, right)] if rows else []
    return markup.block(*parts, markup.paragraph(said["foot"], markup.GREY))


def case_title(document: Document, row: Mapping[str, Any] | None) -> str:
    """Of a dimension's case, or of the total's if `row` is None."""
    if row is None:
        return f"{document['decision']}: {escape.ends(document['submission']['name'], NAME)}"
    return f"{row['name']}: {points(row['score'] / 100)} [{_bounds(row)}]"


def markdown_of(document: Document) -> str:
    """summary.md: the decision, the dimensions and the cost."""
    parts = [f"## Lethe: {document['decision']}", f"**{escape.markdown(decision_line(document))}**"]
    for head, rows in filter(itemgetter(1), (dimensions(document), elsewhere(document), cost(document))):
        lines = [[escape.markdown(cell) for cell in row] for row in (head, *rows)]
        lines.insert(1, ["---"] * len(head))
        parts.append("\n".join(f"| {' | '.join(line)} |" for line in lines))
    return "\n\n".join([*parts, escape.markdown(foot(document))]) + "\n"


def content(document: Document) -> dict[str, Any]:
    """What the card says, as text that is safe to print."""
    return {
        "title": shown(document["submission"]["name"], NAME, middle=True),
        "decision": document["decision"],
        "reason": shown(decision_line(document), 300),
        "tables": {
            "Dimensions": dimensions(document),
            "Intents that were confused": confused(document),
            "Worst rows": worst(document),
            ELSEWHERE: elsewhere(document),
            "Cost": cost(document),
        },
        "numbers": NUMBERS,
        "foot": foot(document),
    }


def dimensions(document: Document) -> Table:
    """Each dimension with its bounds, beside the untuned base, and the total."""
    rows = []
    for row in document["dimensions"]:
        base = "" if row["base"] is None else points(row["base"] / 100)
        rows.append((row["name"], f"{as_set(row['weight'])}%", points(row["score"] / 100), _bounds(row), base))
    rows.append(("total", "", points(document["total"] / 100), _bounds(document), ""))
    every = "" if document["base_accuracy"] is None else points(document["base_accuracy"] / 100)
    rows.append(("intents of all rows", "", points(document["accuracy"] / 100), "", every))
    return ("Dimension", "Weight", "Score", "Bounds", "Base"), rows


def confused(document: Document) -> Table:
    """The pairs of intents that were confused most often."""
    rows = [(r["intent"], shown(r["predicted"], NAME), str(r["times"])) for r in document["confusion"][:CONFUSED]]
    return ("Right intent", "Predicted", "Times"), rows


def worst(document: Document) -> Table:
    """The rows that earned least, a wrong intent before a poor reply."""
    order = sorted(document["rows"], key=lambda r: (r["predicted"] == r["intent"], r["quality"], r["id"]))
    rows = [
        (r["id"], shown(r["ticket"], TEXT), shown("; ".join(r["reasons"]), TEXT), points(r["quality"]))
        for r in order[:WORST]
        if r["reasons"] or r["quality"] < 1
    ]
    return ("Row", "Ticket", "Why", "Quality"), rows


def elsewhere(document: Document) -> Table:
    """What an audit of the same adapter says of general skills, the worst first; no rows where none was given."""
    rows: list[Sequence[str]] = []
    if found := document["elsewhere"]:
        told = sorted(found["benchmarks"], key=lambda r: GRAVITY.index(r["verdict"]))
        rows = [(words.name(r), words.change(r), limit(r["margin"]), r["verdict"]) for r in told[:BENCHMARKS]]
        if len(told) > BENCHMARKS:
            rows.append((f"{count(len(told) - BENCHMARKS)} more in the audit's own report", "", "", ""))
        rows.append(
            (shown(f"all of basket {found['basket']}: {found['candidate']['spec']}", NAME), "", "", found["decision"])
        )
        rows += [(found["margins"], "", "", "")] if found["margins"] else []
    return ("Benchmark", "Change", "Margin", "Verdict"), rows


def cost(document: Document) -> Table:
    """What the host measured, and below it what the submission says of itself."""
    found, said = document["cost"], document["cost"]["said"]
    rows = [
        ("seconds of each call", ", ".join(map(seconds, found["seconds"])) or "none"),
        ("most memory", mebibytes(found["peak_memory"])),
    ]
    if calls := found["calls"]:
        spent = f"{dollars(calls['cost'])} of {dollars(calls['budget'])}"
        rows.append(("calls to a model", f"{sum(calls['calls'].values())}, {spent}"))
    rows.append(("tokens, as the submission says", count(said["tokens"])))
    if said["wall_clock_s"] is not None:
        rows.append(("seconds of training, as it says", seconds(said["wall_clock_s"])))
    return ("", ""), rows


def foot(document: Document) -> str:
    """How it was judged."""
    level = confidence(1 - document["level"])
    judge = document["judge"]
    made = f"Scores in points; each bound holds with {level} confidence over the rows. Judge: {judge['name']}."
    if noise := judge["noise"]:
        again = f"{points(noise['repeat'])} points when asked {noise['repeats']} times"
        turned = f"{points(noise['order'])} when the replies change places"
        made += f" Its noise on {noise['rows']} replies: {again}, {turned}."
    return f"{made} Chance on intents: {points(document['chance'] / 100)}."


def _bounds(row: Mapping[str, Any]) -> str:
    return f"{points(row['low'] / 100)} to {points(row['high'] / 100)}"
