"""A DPO release in a terminal and as summary.md: the plan, the table of the three parts, and the decision last."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from harness.ballot.judge import HeadToHead
from harness.ballot.make import plan_lines as ballot_plan
from harness.report import escape
from harness.report.dpo_document import WANTED, decision_line, label
from harness.report.numbers import MINUS, as_set, confidence, count, limit, points, share_as_set, signed
from harness.report.terminal import aligned, on_one_line
from harness.report.words import change

Document = Mapping[str, Any]
SIMULATED_NOTE = (
    "SIMULATED: programs voted in the place of editors, by written rules; their win rate is no evidence that people"
    " prefer the model."
)
HEAD = ("part", "measured", "base", "tuned", "result [bounds]", "wanted", "verdict")


def plan_lines(release) -> list[str]:
    """What is about to be judged, before any model runs."""
    material, seen = release.material, release.material.findings
    trained = "given" if release.given else "trained if not in the cache"
    lines = [
        f"base: {release.base.spec.text} ({release.base.digest[:12]})",
        *(f"candidate: {text}" for text in release.given or [f"DPO, {run} ({trained})" for run in release.runs]),
        f"pairs: {material.name}, {count(len(material.train))} to train on, {count(len(material.held_out))} held out;"
        f" {seen.sentence()}"
        + ("" if material.ceiling is None else f" At most {share_as_set(material.ceiling)} can be right."),
        *ballot_plan(
            len(material.prompts), 3, 0.6, release.basket.policy.alpha, simulated=release.votes == "simulated"
        ),
        f"capability: basket {release.basket.name}; {as_set(WANTED)} points may be lost where the items can show it:",
        *(_margin_line(b) for b in release.basket.skills),
    ]
    return [on_one_line(line) for line in lines]


def _margin_line(benchmark) -> str:
    wider = "" if benchmark.margin <= WANTED else f", which is wider than the {as_set(WANTED)} wanted"
    items = "all" if benchmark.items is None else count(benchmark.items)
    return f"  {benchmark.name}: {items} items, margin {limit(benchmark.margin)}{wider}"


def training_row(release, run: str) -> dict[str, Any]:
    """What one training run has noted of itself. chosen: change of the chosen answers in nats, by thirds."""
    note = release.note(run)
    training = note.get("training", {})
    return {
        "run": run,
        "digest": release.candidate(run).digest,
        "pairs": training.get("pairs"),
        "too_long": training.get("too_long"),
        "thirds": training.get("chosen", {}).get("thirds", []),
        "sustained_fall": training.get("chosen", {}).get("sustained_fall"),
        "command": note.get("command"),
    }


def head_to_head_failure(found: HeadToHead) -> str:
    """Of a case that does not pass: the verdict first, then whether it is simulated."""
    return f"{found.verdict}: {'SIMULATED ' * bool(found.simulated)}head-to-head: {found.reason}"


# ---- after the run ---------------------------------------------------------------------------------------------------


def rows(document: Document) -> list[tuple[str, ...]]:
    """The three parts as rows of `HEAD`; capability has a row for each benchmark."""
    accuracy, vote = document["accuracy"], document["head_to_head"]
    plain, win = accuracy["plain"], vote["win_rate"]
    found = [
        ("accuracy", f"{count(plain['pairs'])} pairs", _p(accuracy["base"]["share"]), _p(plain["share"]),
         _bounds(plain["share"], plain), f"> {as_set(accuracy['target'])}%", plain["verdict"]),
        (f"{label(document)}head-to-head", f"{count(vote['prompts'])} prompts x {count(vote['editors'])}", "", "",
         _bounds(win["estimate"], win) if win else "no votes", f"> {as_set(vote['target'])}%", vote["verdict"]),
    ]  # fmt: skip
    for row in document["capability"]["benchmarks"]:
        scores = [_p(row["base"]), _p(row["candidate"]), change(row)]
        found.append(
            (row["name"], f"{count(row['items'])} items", *scores, f"> {MINUS}{limit(row['margin'])}", row["verdict"])
        )
    return found


def verdict_lines(document: Document) -> list[str]:
    """The table, what stands beside it, and the line of the decision."""
    lines = [SIMULATED_NOTE] if document["simulated"] else []
    lines += aligned([HEAD, *rows(document)])
    alpha = document["capability"]["policy"]["alpha"]
    lines.append(f"Each bound holds with {confidence(alpha)} confidence; accuracy and wins in %, capability in points.")
    lines += [f"  {sentence}" for sentence in beside(document)]
    lines += [f"  {row['name']}: {row['reason']}" for row in document["parts"] if row["verdict"] != "PASS"]
    lines += [f"  next: {sentence}" for sentence in document["next"]]
    lines.append(decision_line(document))
    return [on_one_line(line) for line in lines]


def beside(document: Document) -> list[str]:
    """Rules, the base, length, faults, runs, ceiling, chosen answers, agreement, margins wider than wanted."""
    accuracy, chosen, ceiling = document["accuracy"], document["chosen_likelihood"], document["pairs"]["ceiling"]
    told = [
        f"accuracy of the rule '{rule['name']}': {_p(rule['accuracy'])}%; {_ahead(rule['lead'])}"
        for rule in accuracy["shortcuts"]
    ]
    told.append(
        f"accuracy of the base before training, by its own likelihood: {_p(accuracy['base']['share'])}%;"
        f" {_ahead(accuracy['over_base'])}"
    )
    controlled = f"accuracy per token {_p(accuracy['per_token']['share'])}%"
    if same := accuracy["equal_length"]:
        controlled += f", at equal length {_p(same['share'])}% of {count(same['pairs'])} pairs"
    told.append(controlled)
    if accuracy["by_fault"]:
        told.append("by fault: " + ", ".join(f"{k} {_p(v['share'])}%" for k, v in accuracy["by_fault"].items()))
    if len(accuracy["runs"]) > 1:
        told.append(f"training runs alone: {', '.join(f'{_p(share)}%' for share in accuracy['runs'])}")
    told += [f"labels that are flipped on purpose leave at most {as_set(ceiling)}%"] if ceiling is not None else []
    told.append(
        f"chosen answers against the base: {chosen['change']:+.1f} [{chosen['low']:+.1f}, {chosen['high']:+.1f}] nats"
        f" an answer on the held-out pairs{'; THEY FALL' if chosen['falls'] else ''}"
    )
    told += [f"{run}: the chosen answers fell throughout the training"
             for run, falls in chosen["sustained_fall_in_training"].items() if falls]  # fmt: skip
    if agreement := document["head_to_head"]["agreement"]:
        told.append(f"{label(document)}editors agree with Krippendorff's alpha {agreement['estimate']:.2f}")
    told += [
        f"{row['name']}: {as_set(document['margin_wanted'])} points are wanted and {limit(row['margin'])} are judged;"
        f" its {count(row['items'])} items resolve {points(row['detectable'] / 100)}"
        for row in document["capability"]["benchmarks"]
        if row["margin"] > document["margin_wanted"]
    ]
    if left := document["pairs"]["too_long"]:
        told.append(
            f"{count(left)} of {count(document['pairs']['held_out'])} held-out pairs are longer than the model and were"
            " not asked"
        )
    told += [f"{c['run']}: it is not known whether it was trained on held-out pairs" for c in document["candidates"]
             if c["trained_on_these_pairs"] is None]  # fmt: skip
    return told


def markdown(document: Document) -> str:
    """summary.md: one page."""
    parts = [f"## Lethe: {document['decision']}", f"**{escape.markdown(decision_line(document))}**"]
    parts += [f"**{SIMULATED_NOTE}**"] if document["simulated"] else []
    parts.append(_table([HEAD, *rows(document)]))
    parts.append("\n".join(f"- {escape.markdown(sentence)}" for sentence in beside(document)))
    parts += ["### What to do next", "\n".join(f"- {escape.markdown(sentence)}" for sentence in document["next"])]
    named = "; ".join(f"{m['spec']} ({m['digest'][:12]})" for m in [document["base"], *document["candidates"]])
    parts.append(escape.markdown(f"Base and candidates: {named}."))
    return "\n\n".join(parts) + "\n"


def _table(lines: Sequence[Sequence[str]]) -> str:
    head, *body = [[escape.markdown(cell) for cell in row] for row in lines]
    rule = ["---", *["---:"] * (len(head) - 2), "---"]
    return "\n".join(f"| {' | '.join(row)} |" for row in (head, rule, *body))


def _ahead(lead: Mapping[str, float]) -> str:
    low, high = (signed(lead[end] / 100) for end in ("low", "high"))
    return f"the model is {signed(lead['share'] / 100)} [{low}, {high}] points ahead of it"


def _p(value: float) -> str:
    return points(value / 100)


def _bounds(estimate: float, bound: Mapping[str, float]) -> str:
    return f"{_p(estimate)} [{_p(bound['low'])}, {_p(bound['high'])}]"
