"""What the cases of the reward gate say in the Allure report: a title as text and a description as HTML, by case."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from harness.report import allure, markup, reward_plots
from harness.report.numbers import as_set, points, rate_interval
from harness.report.reward_document import decision_line
from harness.report.reward_lines import CHECKS, HEAD, beside, check_rows, rows
from harness.reward.checks import BLOCK, NOT_ASKED, OK, WARN
from harness.reward.policy import OVERALL
from harness.stats import Interval

Case = tuple[str, str]
SHADE = {OK: "PASS", WARN: "INCONCLUSIVE", NOT_ASKED: "INCONCLUSIVE", BLOCK: "BLOCKED"}  # words that have a colour
TOLD = ("digest", "adapter", "trained_on_these_pairs", "command", "data", "threads")  # of a training
LOG = ("step", "loss", "accuracy", "margin")


def case(name: str, given: Mapping[str, Any], release) -> Case:
    """Title and description of a case of tests/gates/test_reward.py, out of its fixtures."""
    return CASES[name](given, release)


def _decision(given: Mapping[str, Any], release) -> Case:
    document = given["reward_decision"]
    title = f"{document['decision']}: reward model on {allure.name(document['base']['spec'])}"
    drawn = reward_plots.accuracy(release.accuracy).decode()
    body = [
        markup.banner(document["decision"], decision_line(document)),
        markup.table(HEAD, rows(document), shaded="verdict"),
        markup.image(drawn, "The accuracy of each category and training run beside its target"),
        markup.bullets(beside(document)),
        markup.heading("What to do next"),
        markup.bullets(document["next"]),
        markup.heading("Diagnostics"),
        markup.table(CHECKS, check_rows(document)),
    ]
    return title, markup.block(*body)


def _training(given: Mapping[str, Any], release) -> Case:
    row = given["reward_run"]
    told = [(key, _known(row[key])) for key in TOLD]
    told += [(f"setting {key}", _known(value)) for key, value in (row["settings"] or {}).items()]
    body = [markup.table(("what", "value"), told)]
    if log := (row["training"] or {}).get("log"):
        lines = [tuple(as_set(entry[key]) for key in LOG) for entry in log]
        body += [markup.heading("How it went, on training pairs"), markup.table(LOG, lines)]
    return f"{allure.name(row['run'])}: trained", markup.block(*body)


def _target(given: Mapping[str, Any], release) -> Case:
    found, name = given["target"], given["target_name"]
    body = [markup.banner(found.verdict, found.reason)]
    runs = [(run.name, points(_share(run, name))) for run in release.accuracy.runs]
    body += [markup.heading("Each training run"), markup.table(("run", "right, %"), runs)]
    rules = [(rule.name, points(share)) for rule in release.accuracy.rules
             if (share := _of_rule(release, rule, name)) is not None]  # fmt: skip
    if rules:
        body += [markup.heading("Rules that understand nothing"), markup.table(("rule", "right, %"), rules)]
    bounds = rate_interval(Interval(found.share, found.low, found.high))
    return f"{allure.name(name)}: {found.verdict}, {bounds}, wanted > {points(found.target)}%", markup.block(*body)


def _of_rule(release, rule, name: str) -> float | None:
    return rule.accuracy if name == OVERALL else release.accuracy.rules_by_category[rule.name].get(name)


def _target_of_run(given: Mapping[str, Any], release) -> Case:
    name = given["target_name"]
    run = next(run for run in release.accuracy.runs if run.name == given["run"])
    told = markup.paragraph("Reported; the verdict over all runs decides.")
    return f"{allure.name(name)}, {allure.name(run.name)} alone: {points(_share(run, name))}%", markup.block(told)


def _share(run, name: str) -> float:
    return run.overall if name == OVERALL else run.categories[name]


def _diagnostic(given: Mapping[str, Any], release) -> Case:
    found = given["diagnostic"]
    told = [
        ("if bad", "blocks, whatever the accuracy" if found.blocks else "warns"),
        ("value", "not asked" if found.value is None else f"{found.value:.4g}"),
        ("threshold", as_set(found.threshold)),
        ("worst run", found.run or ""),
    ]
    body = [markup.paragraph(found.verdict, markup.SHADES[SHADE[found.verdict]][0]), markup.paragraph(found.reason)]
    return f"{found.title}: {found.verdict}", markup.block(*body, markup.table(("what", "value"), told))


def _known(value: Any) -> str:
    return "not recorded" if value is None else str(value)


CASES = {
    "test_reward_training": _training,
    "test_target": _target,
    "test_target_of_run": _target_of_run,
    "test_diagnostic": _diagnostic,
    "test_decision": _decision,
}
