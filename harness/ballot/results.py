"""A judged head-to-head in a terminal, as Markdown and as JSON. Where programs voted, all three say SIMULATED."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from harness.ballot.judge import HeadToHead
from harness.ballot.key import Key
from harness.ballot.page import SIMULATED
from harness.report import escape
from harness.report.numbers import coefficient, confidence, count, interval, percent, rate_interval, rounded
from harness.report.terminal import aligned, on_one_line
from harness.stats import Interval

SCHEMA = 1
STEMS = "head-to-head", "head-to-head-SIMULATED"
HEAD = ("editor", "win rate [bounds]", "won", "tied", "lost", "first place [bounds]", "same again")


def lines(found: HeadToHead, key: Key) -> list[str]:
    """The table of editors, what stands beside it, and the verdict last."""
    told = [SIMULATED] if found.simulated else []
    told += [f"base: {key.base['spec']}", f"candidate: {key.candidate['spec']}"]
    if found.rows:
        told += aligned([HEAD, *table_rows(found)])
        told.append(
            f"Each bound holds with {confidence(found.alpha)} confidence. first place: what standing first adds to the"
            " chance of a vote, in points."
        )
        told += [f"  {sentence}" for sentence in beside(found)]
    told.append(verdict_line(found))
    return [on_one_line(line) for line in told]


def verdict_line(found: HeadToHead) -> str:
    """One sentence with the verdict and the exit status."""
    return f"{label(found)}{found.verdict} (exit {found.exit}): {found.reason}"


def label(found: HeadToHead) -> str:
    """What stands before every figure of simulated votes."""
    return "SIMULATED " if found.simulated else ""


def beside(found: HeadToHead) -> list[str]:
    """Agreement, position bias and consistency in sentences."""
    told = []
    if found.agreement:
        bound = found.agreement
        spread = f"[{coefficient(bound.low)}, {coefficient(bound.high)}]"
        told.append(f"editors agree with Krippendorff's alpha {coefficient(bound.estimate)} {spread} (1 all, 0 chance)")
    elif found.editors > 1 and found.rows:
        told.append("all votes are alike, so that agreement beyond chance has no meaning")
    if found.position:
        low, high = found.position.low, found.position.high
        word = "shown" if low > 0 or high < 0 else "not shown"
        told.append(f"position bias is {word}: standing first changes the chance by {interval(found.position)}")
    if found.consistency:
        same, repeats = (sum(getattr(row, name) for row in found.rows) for name in ("same", "repeats"))
        told.append(
            f"asked again the other way round, {same} of {repeats} choices stayed: {rate_interval(found.consistency)}"
        )
    return told


def document(found: HeadToHead, key: Key) -> dict[str, Any]:
    """What other programs read; rates in points (0 to 100), alpha and correlation as they are."""
    of_all = {"win_rate": _points(found.win), "position_bias": _points(found.position)}
    of_all |= {"consistency": _points(found.consistency), "agreement": found.agreement and found.agreement._asdict()}
    rows = [
        asdict(row) | {"rate": _points(row.rate), "first": _points(row.first), "simulated": row.simulated or None}
        for row in found.rows
    ]
    return {
        "schema": SCHEMA, "case": "head-to-head", "simulated": list(found.simulated) or False,
        "verdict": found.verdict, "exit": found.exit, "reason": found.reason,
        "base": dict(key.base), "candidate": dict(key.candidate), "asked": dict(key.asked), "created": key.created,
        "seal": key.seal, "prompts": found.prompts, "editors": found.editors,
        "target": rounded(100 * found.target), "level": 1 - found.alpha, **of_all,
        "ties": None if found.ties is None else rounded(100 * found.ties), "correlation": found.correlation,
        "preferred": found.preferred, "prompts_to_settle": found.needed, "by_editor": rows,
        "comments": [{"editor": e, "prompt": key.prompts[n], "text": text} for e, n, text in found.comments],
    }  # fmt: skip


def markdown(found: HeadToHead, key: Key) -> str:
    """One page."""
    parts = [f"# {label(found)}Head-to-head: {found.verdict}", f"**{escape.markdown(found.reason)}.**"]
    if found.simulated:
        parts.insert(1, f"**{SIMULATED}** " + " ".join(f"{escape.markdown(rule)}." for rule in found.simulated))
    parts.append(f"Base: {escape.markdown(key.base['spec'])}. Candidate: {escape.markdown(key.candidate['spec'])}.")
    if found.rows:
        table = [HEAD, ("---", *["---:"] * (len(HEAD) - 1)), *table_rows(found)]
        parts.append("\n".join(f"| {' | '.join(row)} |" for row in table))
        parts.append("\n".join(f"- {sentence}" for sentence in beside(found)))
    if found.comments:
        said = [f"- Editor {editor}, prompt {n + 1}: {escape.markdown(text)}" for editor, n, text in found.comments]
        parts += [f"## {label(found)}Comments", "\n".join(said)]
    return "\n\n".join(parts) + "\n"


def write(found: HeadToHead, key: Key, out: str | Path) -> list[Path]:
    """Writes both files; returns them. Their names say SIMULATED where programs voted."""
    out = Path(out)
    out.mkdir(parents=True, exist_ok=True)
    stem = STEMS[bool(found.simulated)]
    texts = {
        ".json": json.dumps(document(found, key), indent=1, ensure_ascii=False, allow_nan=False),
        ".md": markdown(found, key),
    }
    for suffix, text in texts.items():
        (out / f"{stem}{suffix}").write_text(text, encoding="utf-8")
    return [out / f"{stem}{suffix}" for suffix in texts]


def remove(out: str | Path) -> None:
    """Removes what an earlier judgement has left: a PASS must not outlive votes that are refused now."""
    for stem in STEMS:
        for suffix in (".json", ".md"):
            (Path(out) / f"{stem}{suffix}").unlink(missing_ok=True)


def table_rows(found: HeadToHead) -> list[Sequence[str]]:
    rows = []
    for row in found.rows:
        again = f"{row.same} of {row.repeats}" if row.repeats else ""
        counted = map(count, (row.wins, row.ties, row.losses))
        name = f"{row.editor}{' SIMULATED' if row.simulated else ''}"
        rows.append((name, rate_interval(row.rate), *counted, interval(row.first), again))
    totals = (count(sum(getattr(row, name) for row in found.rows)) for name in ("wins", "ties", "losses"))
    again = percent(found.consistency.estimate) if found.consistency else ""
    name = f"all{' SIMULATED' if found.simulated else ''}"
    return [*rows, (name, rate_interval(found.win), *totals, interval(found.position), again)]


def _points(bound: Interval | None) -> dict[str, float] | None:
    return bound and {name: rounded(100 * value) for name, value in bound._asdict().items()}
