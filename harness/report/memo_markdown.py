"""The memo as Markdown, with the content of the PDF; names and answers show as text and do nothing."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from harness.report.foreign import markdown


def markdown_of(said: Mapping[str, Any]) -> str:
    """said: `memo.content`."""
    parts = [*_decision(said), *_losses(said), *_repair(said), *_again(said)]
    return "\n\n".join(part for part in parts if part) + "\n"


def _decision(said: Mapping[str, Any]) -> list[str]:
    results = said["results"]
    head = ("Benchmark", "Questions", "Base", "Tuned", "Change", "Range", "Allowed loss", "Verdict")
    keys = ("name", "items", "base", "tuned", "change", "range", "margin", "verdict")
    return [
        f"# {markdown(said['title'])}",
        _table(("Model safety memo", ""), said["facts"]),
        f"> **{said['word']}: {markdown(said['headline'])}**\n>\n> {markdown(said['story'])}",
        _strong(said["recommendation"]),
        "## What was tested",
        markdown(said["tested"]),
        "\n".join(f"- **{word}**: {markdown(meaning)}" for word, meaning in said["legend"]),
        "## Results against the base model",
        _table(head, [[row[key] for key in keys] for row in results["rows"]], right=range(1, 7)),
        markdown(results["note"]),
        "![The change of each benchmark with its range](plots/forest.svg)",
    ]


def _losses(said: Mapping[str, Any]) -> list[str]:
    worth, lost = said["worth"], said["lost"]
    parts = ["## Was the domain gain worth it?", markdown(worth["text"])]
    if worth["caption"]:
        parts += ["![Domain gain beside the worst loss](plots/pareto.svg)", markdown(worth["caption"])]
    parts += ["## What was forgotten", markdown(lost["text"])]
    if table := lost["table"]:
        parts += [
            markdown(table["title"]) + ":",
            _table(table["head"], table["rows"], right=range(1, 6)),
            table["more"],
        ]
    for number, example in enumerate(lost["examples"], 1):
        parts.append(
            f"**Question {number}**: {markdown(example['question'])} {markdown(example['about'])}".rstrip() + "\n\n"
            f"- **Base** ({example['base']}): {markdown(example['before'])}\n"
            f"- **Tuned** ({example['tuned']}): {markdown(example['after'])}"
        )
    return parts


def _repair(said: Mapping[str, Any]) -> list[str]:
    repair = said["repair"]
    advice = [f"{number}. {markdown(sentence)}" for number, sentence in enumerate(said["advice"], 1)]
    return [
        "## Can it be repaired?",
        markdown(repair["text"]),
        _table(repair["head"], repair["rows"]) if repair["rows"] else "",
        "\n\n".join(markdown(error) for error in repair["errors"]),
        _strong(said["recommendation"]),
        "## For the next fine-tune",
        "\n".join(advice) or "This audit gives no advice for it.",
        "## How this was judged, and what it does not say",
        "\n".join(f"- **{what}.** {markdown(told)}" for what, told in said["limits"]),
    ]


def _again(said: Mapping[str, Any]) -> list[str]:
    again = said["again"]
    return [
        "## To run it again",
        f"<pre>{_verbatim(again['command'])}</pre>",
        _table(("What", "Which"), again["digests"]),
    ]


def _strong(text: str) -> str:
    return f"**{markdown(text)}**" if text else ""


def _verbatim(text: str) -> str:
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


def _table(head: Sequence[str], rows: Sequence[Sequence[str]], right: Sequence[int] = ()) -> str:
    rule = ["---:" if at in right else "---" for at in range(len(head))]
    cells = [map(markdown, head), rule, *(map(markdown, row) for row in rows)]
    return "\n".join(f"| {' | '.join(row)} |" for row in cells)
