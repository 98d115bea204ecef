"""A reward model's release in a terminal and as summary.md: the plan, targets, diagnostics, and the decision last."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from harness.report import escape
from harness.report.numbers import as_set, confidence, count, points, share_as_set, signed
from harness.report.terminal import aligned, on_one_line
from harness.reward.checks import OK

Document = Mapping[str, Any]
HEAD = ("target", "pairs", "best rule", "model", "[bounds]", "worst run", "wanted", "verdict")
CHECKS = ("diagnostic", "verdict", "what was found")


def plan_lines(release) -> list[str]:
    """What is about to be judged, before any model runs."""
    material, policy, seen = release.material, release.policy, release.material.findings
    trained = "trained if not in the cache"
    seen_pairs = min(release.pairs or len(material.train), len(material.train))
    pairs = f"{count(seen_pairs)} pairs"
    ceiling = "" if material.ceiling is None else f" At most {share_as_set(material.ceiling)} can be right."
    named = sorted({pair.category for pair in material.held_out if pair.category})
    targets = ", ".join(f"{name} > {share_as_set(policy.target_of(name))}" for name in named)
    lines = [
        f"base: {release.base.spec.text} ({release.base.digest[:12]})",
        *(f"candidate: {text}" for text in release.given),
        *(f"candidate: reward model, {run}, on {pairs} ({trained})" for run in release.runs if not release.given),
        f"pairs: {material.name}, {count(len(material.train))} to train on, {count(len(material.held_out))} held out;"
        f" {seen.sentence()}{ceiling}",
        f"targets: overall > {share_as_set(policy.overall)}, {targets}; each bound at {confidence(policy.alpha)}",
    ]
    return [on_one_line(line) for line in lines]


def rows(document: Document) -> list[tuple[str, ...]]:
    """The targets as rows of `HEAD`."""
    accuracy = document["accuracy"]
    best = accuracy["rules"][-1] if accuracy["rules"] else None
    worst = {name: min(run["categories"][name] for run in accuracy["runs"]) for name in accuracy["categories"]} | {
        "overall": min(run["overall"] for run in accuracy["runs"])
    }
    rules = {} if best is None else {"overall": best["accuracy"], **best["categories"]}
    return [
        (
            name,
            count(row["pairs"]),
            _p(rules[name]) if name in rules else "",
            _p(row["share"]),
            f"[{_p(row['low'])}, {_p(row['high'])}]",
            _p(worst[name]),
            f"> {as_set(row['target'])}%",
            row["verdict"],
        )
        for name, row in {"overall": accuracy["overall"], **accuracy["categories"]}.items()
    ]


def check_rows(document: Document) -> list[tuple[str, ...]]:
    return [(check["title"], check["verdict"], check["reason"]) for check in document["diagnostics"]]


def beside(document: Document) -> list[str]:
    """Runs, rules that understand nothing, ceiling, pairs left out, what is not known."""
    accuracy, pairs = document["accuracy"], document["pairs"]
    told = []
    if len(accuracy["runs"]) > 1:
        runs = ", ".join(f"{run['run']} {_p(run['overall'])}%" for run in accuracy["runs"])
        told.append(f"training runs alone: {runs}; standard deviation {_p(accuracy['spread'])} points")
    told += [
        f"the rule '{rule['name']}' is right on {_p(rule['accuracy'])}%; the model is"
        f" {signed(rule['lead']['share'] / 100)} [{signed(rule['lead']['low'] / 100)},"
        f" {signed(rule['lead']['high'] / 100)}] points ahead of it"
        for rule in accuracy["rules"]
    ]
    if pairs["ceiling"] is not None:
        told.append(f"labels that are flipped on purpose leave at most {as_set(pairs['ceiling'])}%")
    if pairs["too_long"]:
        told.append(f"{count(pairs['too_long'])} held-out pairs are longer than the model and were not asked")
    told += [f"{c['run']}: it is not known whether it was trained on held-out pairs" for c in document["candidates"]
             if c["trained_on_these_pairs"] is None]  # fmt: skip
    if best := document["best_of_n"]:
        told.append(best["sentence"])
    return told


def verdict_lines(document: Document) -> list[str]:
    """The table, the diagnostics that are not in order, what stands beside, and the line of the decision."""
    lines = aligned([HEAD, *rows(document)])
    lines.append(f"Each bound holds with {confidence(document['policy']['alpha'])} confidence; shares in %.")
    odd = [check for check in document["diagnostics"] if check["verdict"] != OK]
    fine = len(document["diagnostics"]) - len(odd)
    lines.append(f"diagnostics: {fine} of {len(document['diagnostics'])} in order")
    lines += [f"  {check['verdict']}: {check['title']}: {check['reason']}" for check in odd]
    lines += [f"  {sentence}" for sentence in beside(document)]
    lines += [f"  next: {sentence}" for sentence in document["next"]]
    lines.append(document["line"])
    return [on_one_line(line) for line in lines]


def markdown(document: Document) -> str:
    """summary.md: one page."""
    parts = [f"## Lethe: {document['decision']}", f"**{escape.markdown(document['line'])}**"]
    parts.append(table([HEAD, *rows(document)]))
    parts.append("\n".join(f"- {escape.markdown(sentence)}" for sentence in beside(document)))
    parts += ["### Diagnostics", table([CHECKS, *check_rows(document)], numbers=False)]
    parts += ["### What to do next", "\n".join(f"- {escape.markdown(sentence)}" for sentence in document["next"])]
    named = "; ".join(f"{m['spec']} ({m['digest'][:12]})" for m in [document["base"], *document["candidates"]])
    parts.append(escape.markdown(f"Base and candidates: {named}."))
    return "\n\n".join(parts) + "\n"


def table(lines: Sequence[Sequence[str]], numbers: bool = True) -> str:
    """A Markdown table, its first line the head; numbers: the columns between the first and the last are set right."""
    head, *body = [[escape.markdown(cell) for cell in row] for row in lines]
    rule = ["---", *["---:" if numbers else "---"] * (len(head) - 2), "---"]
    return "\n".join(f"| {' | '.join(row)} |" for row in (head, rule, *body))


def _p(value: float) -> str:
    return points(value / 100)
