"""A DPO release for a founder who trains no models: memo.pdf of two pages, and memo.md with the same content.

What changed, does it write better, how sure are we, did it get worse at anything; three paragraphs before and after,
and what to do next. Made from verdict.json alone; the same verdict gives the same bytes. Its part on general capability
is short, as the audit's own memo lies in capability/.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from harness.report import fonts
from harness.report.dpo_document import MISSED, PASS, label, part
from harness.report.dpo_lines import SIMULATED_NOTE
from harness.report.files import replace_file
from harness.report.foreign import markdown, shown
from harness.report.numbers import as_set, confidence, count, limit, points
from harness.report.pdf import fitted, made_at
from harness.report.verdict_text import digest_of_verdict, write_verdict
from harness.report.words import change, date, listed, name

TEMPLATE = Path(__file__).with_suffix(".typ")
PAGES = 2
PROMPT, ANSWER, SPEC, SENTENCE = 260, 620, 56, 300  # columns
ROWS, WIDE = 14, 4  # benchmarks in the table, and margins that are named; verdict.json has them all

Document = Mapping[str, Any]


def write(document: Document, out: Path) -> None:
    """Writes verdict.json, memo.md and memo.pdf into --out, each by an atomic rename."""
    said = content(document)
    inputs = {"data": json.dumps({**said, "fonts": fonts.families()})}
    write_verdict(document, out)
    replace_file(out / "memo.md", markdown_of(said).encode())
    replace_file(out / "memo.pdf", fitted(TEMPLATE, inputs, PAGES, made_at(document)))


def content(document: Document) -> dict[str, Any]:
    """What the memo says, as text that is safe to print."""
    ships = document["decision"] == "SHIP"
    missed = any(row["verdict"] == MISSED for row in document["parts"])
    shipped = document["candidates"][0]
    own = shipped["run"].removeprefix("seed")  # trained by the gate, into its cache, whose path tells nobody anything
    spec = f"the writer of seed {own}" if own.isdecimal() else shown(shipped["spec"], SPEC, middle=True)
    return {
        "label": label(document).strip(),
        "note": SIMULATED_NOTE if document["simulated"] else "",
        "title": f"{'Ship' if ships else 'Do not ship' if missed else 'Do not ship yet:'} {spec}",
        "grounds": PASS if ships else MISSED if missed else "INCONCLUSIVE",
        "word": document["decision"],
        "headline": _headline(document),
        "sections": [
            ["What changed", _changed(document)],
            ["Does it write better?", _better(document)],
            ["How sure are we?", _sure(document)],
            ["Did it get worse at anything?", _worse(document)],
        ],
        "table": _table(document),
        "examples": [
            {"prompt": shown(e["prompt"], PROMPT), "before": _text(e["base"]), "after": _text(e["candidate"])}
            for e in document["examples"]
        ],
        "next": [shown(sentence, SENTENCE) for sentence in document["next"]],
        "foot": f"{date(document['created'])} · verdict {digest_of_verdict(document)[:12]}",
    }


def _text(answer: str) -> str:
    return shown(answer, ANSWER) or "(it wrote nothing)"


def _headline(document: Document) -> str:
    passed = sum(row["verdict"] == PASS for row in document["parts"])
    return f"{count(passed)} of {count(len(document['parts']))} checks passed."


def _changed(document: Document) -> str:
    pairs, first, several = document["pairs"], document["candidates"][0], len(document["candidates"])
    asked = count(pairs["held_out"] - pairs["too_long"])
    if first["trained_on_these_pairs"]:
        seen = (first["training"] or {}).get("pairs") or pairs["train"]
        told = f"It saw {count(seen)} of {count(pairs['train'])} judgements; {asked} others were kept back to test it."
    else:
        told = f"It was tuned elsewhere. Whether it has seen some of the {asked} judgements that test it is not known."
    if pairs["too_long"]:
        told += f" {count(pairs['too_long'])} more are too long for the model and were left out."
    runs = f" It was trained {count(several)} times; the first training is the one that would ship." * (several > 1)
    return f"The model was shown pairs of paragraphs and which of the two an editor had chosen. {told}{runs}"


def _better(document: Document) -> str:
    accuracy, vote = document["accuracy"], document["head_to_head"]
    share, base = accuracy["plain"]["share"], accuracy["base"]["share"]
    told = [
        f"Of two paragraphs it prefers the one that the editor chose in {points(share / 100)}% of the test pairs;"
        f" before tuning it did in {points(base / 100)}%."
    ]
    if accuracy["over_base"]["low"] <= 0:
        told.append("That tuning made it better at this is not shown.")
    if accuracy["shortcuts"]:
        best = accuracy["shortcuts"][-1]
        told.append(f"A simple rule that understands nothing reaches {points(best['accuracy'] / 100)}%.")
    if vote["win_rate"]:
        who = "SIMULATED editors (programs)" if document["simulated"] else f"{count(vote['editors'])} editors"
        told.append(
            f"Both models then wrote {count(vote['prompts'])} new paragraphs. Not knowing which was which, {who} took"
            f" the tuned model's in {points(vote['win_rate']['estimate'] / 100)}% of the votes, a tie counting as half."
        )
    else:
        told.append("Whether editors prefer what it writes is not known yet, as they have not voted.")
    return " ".join(told)


def _sure(document: Document) -> str:
    plain, win = document["accuracy"]["plain"], document["head_to_head"]["win_rate"]
    level = confidence(document["capability"]["policy"]["alpha"])
    told = [
        f"Other pairs and prompts would give somewhat other figures. With {level} confidence for each end, the true"
        f" share of pairs lies between {points(plain['low'] / 100)}% and {points(plain['high'] / 100)}%, and more than"
        f" {as_set(document['accuracy']['target'])}% was asked for."
    ]
    if win:
        told.append(
            f"The true share of {label(document)}votes lies between {points(win['low'] / 100)}% and"
            f" {points(win['high'] / 100)}%, and more than {as_set(document['head_to_head']['target'])}% was asked for."
        )
    told.append("A check passes only if the whole range is on the right side.")
    return " ".join(told)


def _worse(document: Document) -> str:
    rows, wanted = document["capability"]["benchmarks"], as_set(document["margin_wanted"])
    bad, unclear = ([row for row in rows if row["verdict"] == kind] for kind in ("REGRESSED", "INCONCLUSIVE"))
    told = [f"It lost more than allowed on {listed(bad)}." if bad else "No loss above what is allowed is shown."]
    told += [f"On {listed(unclear)} the data cannot tell, which is no sign of safety."] if unclear else []
    wide = [f"{limit(row['margin'])} on {name(row)}" for row in rows if row["margin"] > document["margin_wanted"]]
    if wide:
        shown_ones = ", ".join(wide[:WIDE]) + " and so on" * (len(wide) > WIDE)
        told.append(f"At most {wanted} points are wanted; so few questions can only show {shown_ones}.")
    return " ".join([*told, "The audit's own memo, in capability/, has more."])


def _table(document: Document) -> dict[str, Any]:
    names = {
        "accuracy": "Prefers what editors chose",
        "head-to-head": "SIMULATED editors prefer it" if document["simulated"] else "Editors prefer it",
    }
    plain, vote = document["accuracy"]["plain"], document["head_to_head"]
    win = vote["win_rate"]
    aim = f"more than {as_set(document['accuracy']['target'])}%"
    ranges = f"{points(plain['low'] / 100)} to {points(plain['high'] / 100)}"
    rows = [[names["accuracy"], f"{points(plain['share'] / 100)}%", ranges, aim, part(document, "accuracy")["verdict"]]]
    votes = ["no votes", ""]
    if win:
        votes = [f"{points(win['estimate'] / 100)}%", f"{points(win['low'] / 100)} to {points(win['high'] / 100)}"]
    rows.append([names["head-to-head"], *votes, f"more than {as_set(vote['target'])}%",
                 vote["verdict"]])  # fmt: skip
    for row in document["capability"]["benchmarks"][:ROWS]:
        moved, _, spread = change(row).partition(" ")
        allowed = f"loss below {limit(row['margin'])}"
        rows.append([shown(row["name"], 28, middle=True), moved, spread.strip("[]"), allowed, row["verdict"]])
    return {"head": ["Check", "Result", "Range", "Asked for", "Verdict"], "rows": rows}


def markdown_of(said: Mapping[str, Any]) -> str:
    """said: `content`."""
    table = said["table"]
    head, rule = " | ".join(table["head"]), " | ".join(["---", "---:", "---:", "---:", "---"])
    lines = [f"| {head} |", f"| {rule} |", *(f"| {' | '.join(map(markdown, row))} |" for row in table["rows"])]
    parts = [
        f"# {markdown(said['title'])}",
        f"> **{said['word']}: {markdown(said['headline'])}** {markdown(said['note'])}".rstrip(),
        "\n".join(lines),
        *(f"## {title}\n\n{markdown(text)}" for title, text in said["sections"]),
        "## Before and after",
    ]
    parts += [
        f"**Asked:** {markdown(e['prompt'])}\n\n- **Before:** {markdown(e['before'])}\n"
        f"- **After:** {markdown(e['after'])}"
        for e in said["examples"]
    ]
    parts += ["## What to do next", "\n".join(f"{n}. {markdown(text)}" for n, text in enumerate(said["next"], 1))]
    return "\n\n".join(parts) + "\n"
