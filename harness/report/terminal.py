"""The verdict in the terminal: a table and one line that agrees with the exit status."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

from harness.closure import CONFIRMATION
from harness.report import escape
from harness.report.foreign import columns
from harness.report.numbers import confidence, limit, points, pvalue, signed
from harness.report.tradeoff import setting
from harness.report.words import change, changed_margins, share
from harness.specs import CHOICE_PROB, GOLD_PROB, Experiment
from harness.stats import detectable_margin
from harness.trial import out_of_reach, settings_of

# assumed where no scores are stored: the share of items that flip, the standard deviation of a probability's change
REFERENCE_FLIPS, REFERENCE_SPREAD = 0.10, 0.10
NAME = 40  # characters of a name in the table and the last line
COMMAND = re.compile(r"^\s*::|##\[")  # what GitHub takes for an order in a log, were it not broken up


def plan_lines(audit) -> list[str]:
    """What is about to be judged, before any model runs; echoes the target so that a typo shows."""
    lines = [f"base: {audit.base.spec.text} ({audit.base.digest[:12]})"]
    lines += [f"candidate: {c.spec.text} ({c.digest[:12]})" for c in audit.candidates]
    lines += audit.origin
    run = audit.environment
    lines.append(
        f"basket: {audit.basket.name}, seeds {', '.join(map(str, audit.basket.seeds))}; {run['dtype']} on"
        f" {run['device']}"
    )
    lines.append(f"policy: {_policy(audit)}")
    for b in audit.basket.skills:
        loaded = audit.benchmarks[b.name]
        resolves, spread = _resolves(audit, loaded)
        note = "" if b.margin >= resolves else f": MARGIN FINER THAN {len(loaded.items)} ITEMS RESOLVE"
        seeds = audit.seeds(b.name)
        lines.append(
            f"{b.name}: {len(loaded.items)} items, {len(seeds)} seed{'s' * (len(seeds) > 1)}, {b.metric}, floor "
            f"{points(loaded.floor())}, margin {limit(b.margin)}, resolves {points(resolves / 100)} {spread}{note}"
        )
    lines += _experiment_lines(audit)
    return [on_one_line(line) for line in lines]


def _experiment_lines(audit) -> list[str]:
    """Which items judge each mitigation, and on which benchmarks they are too few for "closes the gap: yes"."""
    experiment, lines = audit.basket.experiment or Experiment(), []
    for name in audit.options.mitigate:
        settings = len(settings_of(name, experiment))
        judge = "judged on all items, as there is one setting and nothing to pick"
        if settings > 1:
            judge = f"one of {settings} settings is picked on half of the items of what regressed, and judged on others"
        lines.append(f"mitigation {name}: {judge}")
        for benchmark, part, items, best in out_of_reach(audit, experiment, settings > 1):
            about = f"if {benchmark} regresses, its other half of" if part == CONFIRMATION else f"{benchmark}'s"
            margin = limit(audit.basket.named(benchmark).margin)
            lines.append(
                f"mitigation {name}: {about} {items} items can show a loss below {points(best)} points at best; with"
                f" margin {margin} 'YES' IS OUT OF REACH"
            )
    return lines


def _resolves(audit, loaded) -> tuple[float, str]:
    """The margin, in points, that a benchmark's items pass at no change with 80% power, and at what spread."""
    items, alpha = len(loaded.items), audit.policy.alpha
    if seen := audit.detectable_seen(loaded.name):
        return 100 * seen, "at the spread seen"
    if loaded.benchmark.metric in (
        CHOICE_PROB,
        GOLD_PROB,
    ):  # a change of this standard deviation has this "discordance"
        return 100 * detectable_margin(items, REFERENCE_SPREAD**2, alpha), "if items change by 10 points or so"
    return 100 * detectable_margin(items, REFERENCE_FLIPS, alpha), "if 1 item in 10 flips"


def _policy(audit) -> str:
    policy, skills = audit.policy, len(audit.basket.skills)
    stopping = "every item is evaluated"
    if policy.stopping == "early":
        about = "the basket's own items" if policy.estimand == "benchmark" else "the population of such items"
        stopping = f"stops early, looking after {policy.batch} items and on; verdicts are about {about}"
    joint = points((1 - policy.alpha) ** skills)
    subject = f"; one recipe of {len(audit.candidates)} training runs" if audit.options.recipe else ""
    named = "named without adjustment"
    if policy.multiplicity == "holm":
        named = "marked where Holm's adjustment takes them back"
    level = points(1 - policy.alpha)
    return (
        f"each bound at {level}%; {stopping}; regressions {named}; joint power of {skills} tests that"
        f" each pass {level}% of sound models: {joint}%{subject}"
    )


def verdict_lines(document: dict[str, Any]) -> list[str]:
    """The table of `verdict.json`, in points, and the line of the decision."""
    head = ("benchmark", "items", "seeds", "base", "tuned", "change [bounds]", "margin", "lost", "won", "verdict")
    rows = [head]
    several = len(document["candidates"]) > 1
    for row in document["benchmarks"]:
        name = _named(row, several)
        rows.append((name, *_scores(row), limit(row["margin"]), str(row["lost"]), str(row["gained"]), row["verdict"]))
    for row in document["domain"]:
        name = _named(row, several)
        rows.append((name, *_scores(row), "", "", "", "domain gain"))
    lines = aligned(rows)
    level = confidence(document["policy"]["alpha"])
    lines.append(f"Points. Each bound holds with {level} confidence. lost, won: items whose score fell or rose.")
    lines += [f"  {row['name']}: {row['reason']}" for row in document["benchmarks"] if row["verdict"] != "PASS"]
    if changed := changed_margins(document):
        lines.append(f"  {changed}")
    lines += _beside(document)
    lines += mitigation_lines(document)
    lines.append(decision_line(document))
    return [on_one_line(line) for line in lines]


def mitigation_lines(document: dict[str, Any]) -> list[str]:
    """The table of the mitigation experiment and what follows from it; nothing where none was tried."""
    tried = document.get("mitigations", [])
    if not tried:
        return []
    rows = [("mitigation", "setting", "loss given back", "gain kept", "worst change", "closes the gap", "in full")]
    for row in (row for row in tried if "error" not in row):
        given, worst = setting(row["setting"]), signed(row["worst_change"] / 100)
        full = (row["full"] or {}).get("decision", "")
        rows.append((row["name"], given, share(row, "closure"), share(row, "retention"), worst, row["answer"], full))
    lines = ["", *(aligned(rows) if len(rows) > 1 else [])]
    lines += [f"  {row['name']} could not be tried: {row['error']}" for row in tried if "error" in row]
    lines += [
        f"  {row['name']} could not be judged in full: {row['full_error']}" for row in tried if row.get("full_error")
    ]
    lines.append(f"  {document['recommendation']}")
    lines += [f"  next: {sentence}" for sentence in document["next_cycle"]]
    return lines


def _beside(document: dict[str, Any]) -> list[str]:
    """What explains or warns: the tripwire, subjects that fell, form against skill, each training run, items saved."""
    lines = []
    for row in document["benchmarks"]:
        if row.get("watch"):
            lines.append(f"  {row['name']}: WATCH: {row['companion']['metric']} fell, {change(row['companion'])}")
        fell = [g for part in row.get("groups", {}).values() for g in part if g["fell"]]
        if fell:
            named = ", ".join(f"{g['name']} {signed(g['change'] / 100)}" for g in fell[:5])
            lines.append(f"  {row['name']}: fell in {named}{' …' if len(fell) > 5 else ''}")
        if lost := row.get("format", {}).get("lost"):
            lines.append(
                f"  {row['name']}: lost in skill {lost['capability']}, in format alone {lost['format']}{_faults(row)}"
            )
        if row.get("clustered"):
            lines.append(f"  {row['name']}: with subjects as clusters the interval is {change(row['clustered'])}")
    lines += [
        f"  canary {one['name']} says nothing here: {one['reason']}"
        for one in document.get("canaries", [])
        if one.get("reason")
    ]
    lines += [
        f"  {run['model']} alone, {run['name']}: {run['verdict']} {change(run)}" for run in document["training_runs"]
    ]
    used = document["items"]
    if used["evaluated"] < used["planned"]:
        share = 1 - used["evaluated"] / used["planned"]
        lines.append(f"  stopped early: {used['evaluated']} of {used['planned']} scores needed, {points(share)}% saved")
    return lines


def _faults(row: dict[str, Any]) -> str:
    """Answers with a fault of form that became more or less common, by model."""
    parts = [
        f"{name} {points(sides['base'] / 100)}% -> {points(sides['candidate'] / 100)}%"
        for name, sides in row["format"].items()
        if name != "lost" and (sides["base"] or sides["candidate"])
    ]
    return f" (answers {', '.join(parts)})" if parts else ""


def decision_line(document: dict[str, Any]) -> str:
    """One sentence: the decision, why, and the exit status."""
    rows = document["benchmarks"]
    alpha = document["policy"]["alpha"]
    regressed = [_named(row) + _by_chance(row, alpha) for row in rows if row["verdict"] == "REGRESSED"]
    unclear = [_named(row) for row in rows if row["verdict"] == "INCONCLUSIVE"]
    if document["decision"] == "SHIP":
        every = f"all {len(rows)} benchmarks" if len(rows) > 1 else "the one benchmark"
        why = f"{every} lost less than {'their margins' if len(rows) > 1 else 'its margin'}"
    else:
        parts = [
            f"{', '.join(dict.fromkeys(names))} {word}"
            for names, word in ((regressed, "regressed"), (unclear, "inconclusive"))
            if names
        ]
        why = "; ".join(parts)
        if worst := document["largest_regression"]:
            row = next(r for r in rows if (r["name"], r["model"]) == (worst, document["largest_regression_of"]))
            worst = _named(row) + (f" of {escape.ends(row['model'], NAME)}" if len(document["candidates"]) > 1 else "")
            why += f"; largest regression: {worst} {signed(row['change'] / 100)} points{_evidence(row)}"
    return on_one_line(f"{document['decision']} (exit {document['exit']}): {why}")


def on_one_line(text: str) -> str:
    """Without anything that a terminal or a CI log acts on: names and errors are of others."""
    line = re.sub(r"[\n\t]", " ", escape.printable(text))
    return COMMAND.sub(lambda found: f"{found[0][:-1]} {found[0][-1]}", line)


def _named(row: dict[str, Any], several: bool = False) -> str:
    """A benchmark, of one of several candidates; what is cut here stands in full in the header and verdict.json."""
    name = escape.ends(row["name"], NAME)
    return f"{name} ({escape.ends(row['model'], NAME)})" if several else name


def _by_chance(row: dict[str, Any], alpha: float) -> str:
    """What is said of a regression that the number of benchmarks alone might explain; it blocks all the same."""
    taken_back = row.get("pvalue", 1.0) <= alpha < (row.get("adjusted_pvalue") or 0.0)  # by Holm alone
    return " (by itself: not after Holm's adjustment)" if taken_back else ""


def _evidence(row: dict[str, Any]) -> str:
    found = row.get("adjusted_pvalue")
    return "" if found is None else f", {pvalue(found)}"


def _scores(row: dict[str, Any]) -> tuple[str, ...]:
    seeds = str(len(row["seeds"])) + ("*" if row.get("seeds_without_effect") else "")
    return str(row["items"]), seeds, points(row["base"] / 100), points(row["candidate"] / 100), change(row)


def aligned(rows: Sequence[Sequence[str]]) -> list[str]:
    """A table whose first and last columns stand left; a Chinese letter takes two places."""
    widths = [max(columns(row[i]) for row in rows) for i in range(len(rows[0]))]
    lines = []
    for row in rows:
        spaces = [" " * (w - columns(text)) for text, w in zip(row, widths, strict=True)]
        cells = [space + text for text, space in zip(row, spaces, strict=True)]
        cells[0], cells[-1] = row[0] + spaces[0], row[-1]
        lines.append("  ".join(cells).rstrip())
    lines.insert(1, "  ".join("-" * w for w in widths))
    return lines
