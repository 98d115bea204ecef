"""The verdict for continuous integration: a page in Markdown, one annotation, properties for JUnit XML.

`summary.md` lies in --out and is appended to the file that $GITHUB_STEP_SUMMARY names.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from harness.report.allure import name
from harness.report.escape import cut, markdown, workflow_command
from harness.report.numbers import confidence, limit, points
from harness.report.terminal import decision_line
from harness.report.words import change, changed_margins, share

Document = Mapping[str, Any]

MEANING = {
    "PASS": "PASS: the loss is shown to be smaller than the margin.",
    "REGRESSED": "REGRESSED: the loss is shown to be larger than the margin.",
    "INCONCLUSIVE": "INCONCLUSIVE: the data cannot tell, which is no pass.",
}
SIGNS = {"PASS": "✅", "REGRESSED": "❌", "INCONCLUSIVE": "❔"}


def summary(document: Document) -> str:
    """The verdict on one page of Markdown."""
    parts = [f"## Lethe: {document['decision']}", f"**{markdown(decision_line(document))}**", _verdicts(document)]
    level = confidence(document["policy"]["alpha"])
    kinds = [words for kind, words in MEANING.items() if any(r["verdict"] == kind for r in document["benchmarks"])]
    parts.append(f"In points; each bound holds with {level} confidence. {' '.join(kinds)}")
    if changed := changed_margins(document):
        parts.append(f"**{markdown(changed)}**")
    if why := [f"{name(r['name'])}: {r['reason']}" for r in document["benchmarks"] if r["verdict"] != "PASS"]:
        parts.append(_list(why))
    if document["mitigations"]:
        parts += ["### Mitigations", _mitigations(document)]
    parts.append(f"**{markdown(document['recommendation'])}**")
    if document["next_cycle"]:
        parts += ["### For the next fine-tune", _list(document["next_cycle"])]
    parts.append(_target(document))
    return "\n\n".join(parts) + "\n"


def undecided_summary(line: str) -> str:
    """The page of a run that ended without a verdict."""
    return f"## Lethe: no decision\n\n**{markdown(line)}**\n\nNothing may ship on this run.\n"


def annotation(status: int, line: str, variables: Mapping[str, str]) -> str | None:
    """The one ::error command of a run on GitHub, in the words of its last line; None elsewhere, and if it may ship.

    variables: of the environment.
    """
    if status == 0 or variables.get("GITHUB_ACTIONS") != "true":
        return None
    return f"::error title=Lethe::{workflow_command(line)}"


def write(out: Path, text: str, variables: Mapping[str, str]) -> None:
    """Writes summary.md, and appends it where GitHub shows it. variables: of the environment."""
    (out / "summary.md").write_text(text, encoding="utf-8")
    if step := variables.get("GITHUB_STEP_SUMMARY"):
        with open(step, "a", encoding="utf-8") as file:
            file.write(text)


def suite_properties(status: int, document: Document | None) -> list[tuple[str, str]]:
    """What JUnit XML says of the whole run."""
    if document is None:
        return [("decision", "NO DECISION"), ("exit", str(status))]
    found = [("decision", document["decision"]), ("exit", str(status)), ("base", cut(document["base"]["spec"], 400))]
    found += [("candidate", cut(c["spec"], 400)) for c in document["candidates"]]
    for row in document["benchmarks"]:
        of = f"{row['name']}" if len(document["candidates"]) == 1 else f"{row['name']} of {row['model']}"
        found.append((cut(of, 400), f"{row['verdict']} {change(row)}"))
    return found


def case_properties(row: Mapping[str, Any]) -> list[tuple[str, str]]:
    """What JUnit XML says of one benchmark, in points."""
    return [
        ("benchmark", cut(row["name"], 400)),
        ("verdict", row["verdict"]),
        ("change", change(row)),
        ("margin", limit(row["margin"])),
        ("reason", row["reason"]),
    ]


# ---- Markdown --------------------------------------------------------------------------------------------------------


def _verdicts(document: Document) -> str:
    several = len(document["candidates"]) > 1
    head = ["benchmark", "items", "base", "fine-tuned", "change [bounds]", "margin", "verdict"]
    rows = []
    for row in [*document["benchmarks"], *document["domain"]]:
        scores = [str(row["items"]), points(row["base"] / 100), points(row["candidate"] / 100), change(row)]
        kind = row.get("verdict")
        judged = [limit(row["margin"]), f"{SIGNS[kind]} {kind}"] if kind else ["", "domain gain"]
        rows.append([name(row["name"]), *([name(row["model"])] if several else []), *scores, *judged])
    if several:
        head.insert(1, "model")
    return _table(head, rows, right=("items", "base", "fine-tuned", "change [bounds]", "margin"))


def _mitigations(document: Document) -> str:
    head = ("mitigation", "loss given back", "domain gain kept", "closes the gap", "in full")
    rows = []
    for row in document["mitigations"]:
        if "error" in row:
            rows.append((row["name"], "", "", f"could not be tried: {row['error']}", ""))
            continue
        full = (row.get("full") or {}).get("decision", "")
        rows.append((row["name"], share(row, "closure"), share(row, "retention"), row["answer"], full))
    return _table(head, rows)


def _target(document: Document) -> str:
    models = [document["base"], *document["candidates"]]
    named = "; ".join(f"{name(m['spec'])} ({m['digest'][:12]})" for m in models)
    run = document["run"]
    return markdown(f"Base and candidate: {named}. Basket {document['basket']}, {run['dtype']} on {run['device']}.")


def _list(texts: Sequence[str]) -> str:
    return "\n".join(f"- {markdown(text)}" for text in texts)


def _table(head: Sequence[str], rows: Sequence[Sequence[str]], right: Sequence[str] = ()) -> str:
    lines = [[markdown(cell) for cell in row] for row in [head, *rows]]
    lines.insert(1, ["---:" if name in right else "---" for name in head])
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)
