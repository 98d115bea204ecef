"""What the cases of the DPO gate say in the Allure report: a title as text and a description as HTML, by case."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from harness.ballot import results
from harness.report import allure, markup
from harness.report.dpo_document import decision_line, label
from harness.report.dpo_lines import HEAD, SIMULATED_NOTE, beside, rows, training_row
from harness.report.numbers import percent, points, rate_interval

Case = tuple[str, str]


def case(name: str, given: Mapping[str, Any], release) -> Case:
    """Title and description of a case of tests/gates/test_dpo.py, out of its fixtures."""
    return CASES[name](given, release)


def _decision(given: Mapping[str, Any], release) -> Case:
    document = given["dpo_decision"]
    title = f"{label(document)}{document['decision']}: {allure.name(document['candidates'][0]['spec'])}"
    body = [markup.banner(document["decision"], decision_line(document))]
    body += [markup.paragraph(SIMULATED_NOTE, markup.AMBER)] if document["simulated"] else []
    body += [markup.table(HEAD, rows(document), shaded="verdict"), markup.bullets(beside(document))]
    body += [markup.heading("What to do next"), markup.bullets(document["next"])]
    return title, markup.block(*body)


def _training(given: Mapping[str, Any], release) -> Case:
    row = training_row(release, given["run"])
    told = [(key, "not recorded" if value is None else str(value)) for key, value in row.items()]
    return f"{row['run']}: trained", markup.block(markup.table(("what", "value"), told))


def _accuracy(given: Mapping[str, Any], release) -> Case:
    found = release.accuracy
    body = [markup.banner(found.plain.verdict, found.plain.reason)]
    if found.shortcuts:
        table = [(rule.name, points(rule.accuracy), points(rule.lead.estimate)) for rule in found.shortcuts]
        body += [
            markup.heading("Rules that understand nothing"),
            markup.table(("rule", "right, %", "model ahead by"), table),
        ]
    for title, kinds in (("By fault", found.by_fault), ("By category", found.by_category)):
        if kinds:
            table = [(kind, str(n), rate_interval(share)) for kind, (share, n) in kinds.items()]
            body += [markup.heading(title), markup.table((title[3:], "pairs", "right [bounds]"), table)]
    return f"Accuracy: {found.plain.verdict}, {points(found.plain.share)}%", markup.block(*body)


def _accuracy_of_run(given: Mapping[str, Any], release) -> Case:
    share = release.accuracy.by_run[release.runs.index(given["run"])]
    return f"{given['run']} alone: {points(share)}%", markup.block(markup.paragraph("Reported; it decides nothing."))


def _chosen(given: Mapping[str, Any], release) -> Case:
    bound = release.chosen
    word = "they fall" if bound.high < 0 else "no fall is shown"
    told = f"{bound.estimate:+.1f} [{bound.low:+.1f}, {bound.high:+.1f}] nats an answer"
    return f"Chosen answers against the base: {word}", markup.block(markup.paragraph(f"{told}. It decides nothing."))


def _head_to_head(given: Mapping[str, Any], release) -> Case:
    found = given["head_to_head"]
    said = results.label(found)
    body = [markup.banner(found.verdict, f"{said}{found.reason}")]
    body += [markup.paragraph(SIMULATED_NOTE, markup.AMBER), markup.bullets(found.simulated)] if said else []
    if found.rows:
        body.append(markup.table(results.HEAD, results.table_rows(found)))
        body.append(markup.bullets([said + sentence for sentence in results.beside(found)]))
    won = f", {percent(found.win.estimate)} wins" if found.win else ""
    return f"{said}Head-to-head: {found.verdict}{won}", markup.block(*body)


def _capability(given: Mapping[str, Any], release) -> Case:
    row = next(row for row in given["capability"]["benchmarks"] if row["name"] == given["benchmark"])
    return allure.benchmark_title(row), allure.benchmark_html(row, {})


CASES = {
    "test_training": _training,
    "test_accuracy": _accuracy,
    "test_accuracy_of_run": _accuracy_of_run,
    "test_chosen_likelihood": _chosen,
    "test_head_to_head": _head_to_head,
    "test_capability": _capability,
    "test_decision": _decision,
}
