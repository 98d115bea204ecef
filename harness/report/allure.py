"""What the cases of the Allure report say: titles as text, descriptions as HTML, out of plain values.

`fixtures/allure_cases.py` hands them to allure-pytest while the gate runs; `allure_results.py` finishes the folder.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from harness.report import escape, markup
from harness.report.numbers import confidence, limit, percent, points, signed
from harness.report.terminal import decision_line
from harness.report.tradeoff import setting
from harness.report.words import change, judged_on, share

SUMMARY, BENCHMARKS, MITIGATIONS = "0 - Executive summary", "1 - Benchmarks", "2 - Mitigations"
INSTRUMENT, EVALUATION = "3 - Instrument", "4 - Evaluation"
DECISION_FEATURE, TRIED = "Decision", "Judged on items that did not choose them"
NAME = 80  # characters of a model's or benchmark's name in a title or a table

CANARIES = {
    "effect": "The adapter changes the logits of its base",
    "repeat": "The base asked again gives the same scores",
    "damaged": "A damaged base is found to have regressed",
}

Row = Mapping[str, Any]
Document = Mapping[str, Any]


def name(text: str) -> str:
    """A model's or benchmark's name, short enough for a title."""
    return escape.ends(text, NAME)


# ---- the decision ----------------------------------------------------------------------------------------------------


def decision_title(document: Document) -> str:
    """'BLOCKED: embedded:chemistry', for the first line of the report."""
    return f"{document['decision']}: {' and '.join(name(c['spec']) for c in document['candidates'])}"


def decision_html(document: Document, forest: str) -> str:
    """The executive summary: the decision, the table, the forest plot (SVG), the mitigations and what to do next."""
    parts = [markup.banner(document["decision"], decision_line(document).partition(": ")[2])]
    parts.append(markup.paragraph(document["recommendation"]))
    parts.append(_verdicts(document))
    parts.append(markup.image(forest, "The change on each benchmark with its bounds, beside the margin"))
    if open_reasons := [f"{name(r['name'])}: {r['reason']}" for r in document["benchmarks"] if r["verdict"] != "PASS"]:
        parts += [markup.heading("Why"), markup.bullets(open_reasons)]
    if document["mitigations"]:
        parts += [markup.heading("Mitigations tried"), mitigation_table(document)]
    if document["next_cycle"]:
        parts += [markup.heading("For the next fine-tune"), markup.bullets(document["next_cycle"])]
    return markup.block(*parts)


def verdict_page(document: Document) -> str:
    """The table alone, as a page: every benchmark with its interval and verdict, and the domain gain below."""
    return markup.page(decision_title(document), _verdicts(document))


def _verdicts(document: Document) -> str:
    several = len(document["candidates"]) > 1
    head = ["Benchmark", "Verdict", "Change [bounds]", "Margin", "Base", "Fine-tuned", "Items"]
    rows = []
    for row in [*document["benchmarks"], *document["domain"]]:
        margin = limit(row["margin"]) if "margin" in row else ""
        judged = [row.get("verdict", "domain gain"), change(row), margin]
        rows.append([name(row["name"]), *judged, *_scores(row), str(row["items"])])
        if several:
            rows[-1].insert(1, name(row["model"]))
    if several:
        head.insert(1, "Model")
    numbers = _right(head[-5:])
    level = confidence(document["policy"]["alpha"])
    said = f"In points. Each bound holds with {level} confidence; the margin is the largest loss allowed."
    return markup.table(head, rows, numbers, shaded="Verdict") + markup.paragraph(said, markup.GREY)


def mitigation_table(document: Document) -> str:
    """What each mitigation gave back and kept, and whether it closes the gap."""
    head = ("Mitigation", "Loss given back", "Domain gain kept", "Closes the gap", "In full")
    rows = []
    for row in document["mitigations"]:
        if "error" in row:
            rows.append((row["name"], "", "", f"could not be tried: {escape.one_line(row['error'])}", ""))
            continue
        full = (row.get("full") or {}).get("decision", "")
        rows.append((row["name"], share(row, "closure"), share(row, "retention"), row["answer"], full))
    return markup.table(head, rows, shaded="Closes the gap")


# ---- one benchmark, one mitigation -----------------------------------------------------------------------------------


def benchmark_title(row: Row) -> str:
    return f"{name(row['name'])}: {row['verdict']}, change {change(row)}, margin {limit(row['margin'])}"


def benchmark_html(row: Row, plots: Mapping[str, str]) -> str:
    """One verdict with its numbers and what stands beside it. plots: what each shows -> SVG."""
    parts = [markup.banner(row["verdict"], row["reason"]), _numbers(row)]
    parts += [markup.image(svg, words) for words, svg in plots.items()]
    if row.get("watch"):
        beside = row["companion"]
        parts.append(markup.paragraph(f"WATCH: {beside['metric']} fell, {change(beside)}.", markup.AMBER))
    if lost := row.get("format", {}).get("lost"):
        said = f"Of the items lost, {lost['capability']} lost the skill and {lost['format']} the format alone."
        parts.append(markup.paragraph(said))
    for part, groups in row.get("groups", {}).items():
        parts += _groups(part, groups)
    if others := row.get("others"):
        rows = [(metric, *_scores(other), change(other)) for metric, other in others.items()]
        head = ("Metric", "Base", "Fine-tuned", "Change [bounds]")
        parts += [markup.heading("Other metrics, which decide nothing"), markup.table(head, rows, _right(head[1:]))]
    return markup.block(*parts)


def _scores(row: Row) -> tuple[str, str]:
    return points(row["base"] / 100), points(row["candidate"] / 100)


def _right(head: Sequence[str]) -> dict[str, str]:
    return dict.fromkeys(head, markup.NUMBER)


def _numbers(row: Row) -> str:
    seeds = ", ".join(map(str, row["seeds"])) + (" (others change nothing)" if row["seeds_without_effect"] else "")
    rows = [
        ("Base → fine-tuned", f"{points(row['base'] / 100)} → {points(row['candidate'] / 100)}"),
        ("Change [bounds]", change(row)),
        ("Margin", limit(row["margin"])),
        ("Items", f"{row['items']} of {row['planned']}"),
        ("Items lost, won", f"{row['lost']}, {row['gained']}"),
        ("Margin that so many items resolve", points(row["detectable"] / 100)),
        ("Score of guessing", points(row["floor"] / 100)),
        ("Decided by", row["metric"]),
        ("Task", row["task"]),
        ("Seeds", seeds),
        ("Digest of the benchmark", row["digest"][:12]),
    ]
    return markup.table(("", "points, where not said otherwise"), rows)


def _groups(part: str, groups: Sequence[Row]) -> list[str]:
    """Those that fell, or that nothing is shown of any."""
    fell = [g for g in groups if g["fell"]]
    title = markup.heading(f"{part.capitalize()} shown to have fallen: {len(fell)} of {len(groups)}")
    head = ("Name", "Items", "Base", "Fine-tuned", "Change")
    rows = [(name(g["name"]), str(g["items"]), *_scores(g), signed(g["change"] / 100)) for g in fell]
    return [title, markup.table(head, rows, _right(head[1:]))] if rows else [title]


def mitigation_title(mitigation: str, row: Row | None) -> str:
    """row: as in verdict.json's mitigations; None for one that could not be tried."""
    if row is None:
        return f"{mitigation}: could not be tried"
    kept = "" if row["retention"] is None else f", {percent(row['retention'])} of the gain kept"
    back = "no loss on these items" if row["closure"] is None else f"{percent(row['closure'])} of the loss given back"
    return f"{mitigation}: closes the gap: {row['answer']}; {back}{kept}"


def untried_title(mitigation: str) -> str:
    """Of a mitigation in an audit that shows no regression, which is not to say that nothing was lost."""
    return f"{mitigation}: not tried, as nothing is shown to have regressed"


def mitigation_html(row: Row, reason: str | None) -> str:
    """One mitigation. row: as in verdict.json's mitigations; reason: why it is not shown to close the gap."""
    said = f"Closes the gap: {row['answer']}." if reason is None else f"{reason[0].upper()}{reason[1:]}."
    numbers = [
        ("Setting", setting(row["setting"])),
        ("Loss given back", share(row, "closure")),
        ("Domain gain kept", share(row, "retention")),
        ("Judged on", judged_on(row)),
    ]
    head = ("Benchmark", "Items", "Base", "Mitigated", "Change [bounds]", "Margin", "Verdict")
    rows = [
        (name(r["name"]), str(r["items"]), *_scores(r), change(r), limit(r["margin"]), r["verdict"])
        for r in row["benchmarks"]
    ]
    judged = markup.table(head, rows, _right(head[1:-1]), shaded="Verdict")
    return markup.block(
        markup.banner(row["answer"], said), markup.table(("What was tried", "and what came of it"), numbers), judged
    )
