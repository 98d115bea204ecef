"""What to release and what to change in the next fine-tune: fixed rules over the numbers of one audit.

Each sentence names the number that it rests on. Nothing here judges: the verdicts and the experiment are done.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from harness.report.numbers import as_set, limit, percent, points, signed

Document = Mapping[str, Any]
HALF_LEARNED = 0.5  # share of the domain gain; a merge that keeps less costs more than it saves


def release(document: Document) -> str:
    """Which model may ship, or that none may."""
    names = " and ".join(c["spec"] for c in document["candidates"])
    if document["decision"] == "SHIP":
        return f"Release {names}: every benchmark passed."
    tried = document["mitigations"]
    for row in tried:
        full = row.get("full")
        if full and full["decision"] == "SHIP":
            kept = f" and keeps {percent(row['retention'])} of the domain gain" if _kept_known(row) else ""
            return (
                f"Release the {row['name']} candidate (out/{row['spec']}) instead of {names}: judged in full, it passes"
                f" every benchmark{kept}."
            )
    if not tried:
        return f"Release nothing: {names} is blocked, and no mitigation was tried."
    listed = ", ".join(f"{row['name']}: {_outcome(row)}" for row in tried)
    return f"Release nothing: {names} is blocked, and no mitigation may ship in its place ({listed})."


def _outcome(row: Mapping[str, Any]) -> str:
    """Whether a mitigation closes the gap on its half of the items, and what all of them say where that is known."""
    if "error" in row:
        return "could not be tried"
    if full := row.get("full"):
        return f"{row['answer']}, and {full['decision']} in full"
    return f"{row['answer']}, but not judged in full" if row["answer"] == "yes" else row["answer"]


def next_cycle(document: Document) -> list[str]:
    """Advice for the next fine-tune, most important first; empty where nothing was lost or tried."""
    rules = (_target, _replay, _merge, _isolation, _undecided, _unable, _ends, _closest)
    advice = [rule(document) for rule in rules]
    return [sentence for sentence in advice if sentence]


def _target(document: Document) -> str | None:
    worst = _regressed(document)
    if not worst:
        return None
    return (
        f"Watch {worst['name']}: it lost {points(-worst['change'] / 100)} points"
        f" ({signed(worst['low'] / 100)} to {signed(worst['high'] / 100)}; at most {limit(worst['margin'])} are"
        " allowed). Put prompts of that kind into the training data, and judge every checkpoint on it."
    )


def _replay(document: Document) -> str | None:
    row = _of(document, "replay")
    if not row:
        return None
    share = f"{percent(row['setting']['share'])} replay"
    gave, kept = _both(row)
    if row["answer"] == "yes":
        return f"Train with {share}: it gave back {gave} of the loss and kept {kept} of the domain gain."
    if row["closure"] > 0.5:
        return (
            f"Train with {share} or more, and a lower learning rate or fewer steps: {share} gave back {gave} of the"
            f" loss and kept {kept} of the domain gain, which does not close the gap by itself."
        )
    return (
        f"Do not rely on replay alone: {share} gave back only {gave} of the loss. Lower the learning rate, train fewer"
        " steps or fewer modules first, and bring general data of the lost kind."
    )


def _merge(document: Document) -> str | None:
    row = _of(document, "merge")
    if not row:
        return None
    scale, (gave, kept) = as_set(row["setting"]["scale"]), _both(row)
    if row["answer"] == "yes":
        return f"Scale the update by {scale} before release: {gave} of the loss came back, {kept} of the gain was kept."
    if _kept_known(row) and row["retention"] < HALF_LEARNED:
        return (
            f"Do not expect scaling to help: at {scale} of the update {gave} of the loss came back and only {kept} of"
            " the domain gain was left."
        )
    return (
        f"The update is larger than the domain needs: at {scale} of it {gave} of the loss came back and {kept} of the"
        " domain gain was left. Lower the learning rate or the rank."
    )


def _isolation(document: Document) -> str | None:
    row = _of(document, "isolation")
    if not row:
        return None
    certificate = row["note"].get("certificate", {}).get("text", "")
    if row["answer"] == "no":
        gave, kept = _both(row)
        said = (
            f"The router does not close the gap, as it takes some prompts for the wrong kind: {gave} of the loss came"
            f" back and {kept} of the domain gain was left. {certificate}"
        )
    else:
        said = f"Where requests can be routed, serve the adapter for domain prompts only. {certificate}"
    return said.rstrip()


def _undecided(document: Document) -> str | None:
    names = _inconclusive(document, on_the_floor=False)
    if not names:
        return None
    return f"Evaluate {', '.join(names)} on more items next time: this audit cannot tell whether they were hurt."


def _unable(document: Document) -> str | None:
    """Where the base itself scores as by guessing, more items would not help."""
    names = _inconclusive(document, on_the_floor=True)
    if not names:
        return None
    return (
        f"Decide {', '.join(names)} by a metric that still moves, or by easier items: the base is within the margin of"
        " guessing, so that no loss could show on any number of items."
    )


def _inconclusive(document: Document, on_the_floor: bool) -> list[str]:
    rows = [row for row in document["benchmarks"] if row["verdict"] == "INCONCLUSIVE"]
    return [row["name"] for row in rows if (row["base"] - row["floor"] <= row["margin"]) == on_the_floor]


def _closest(document: Document) -> str | None:
    """After a SHIP: what to look at first, and what each fine-tune's own limits hide."""
    if document["decision"] != "SHIP":
        return None
    row = min(document["benchmarks"], key=lambda row: row["low"] / row["margin"])
    watch = ""
    if row["low"] < 0:
        watch = (
            f"Watch {row['name']}, which comes closest to its limit: a loss of {points(-row['low'] / 100)} points is"
            f" not excluded, and {limit(row['margin'])} are allowed. "
        )
    return f"{watch}Judge the next fine-tune against this same base too: losses within the limits add up."


def _ends(document: Document) -> str | None:
    """Answers that no longer end, or end at once, are repaired in the data."""
    for row in document["benchmarks"]:
        for fault, remedy in (
            ("truncated", "end every answer with the end-of-turn token"),
            ("empty", "leave no empty answer"),
        ):
            share = row.get("format", {}).get(fault)
            if share and share["candidate"] - share["base"] > 5:
                return (
                    f"On {row['name']} {points(share['candidate'] / 100)}% of the answers are {fault} (base:"
                    f" {points(share['base'] / 100)}%): {remedy} in the training data."
                )
    return None


def _regressed(document: Document) -> Mapping[str, Any] | None:
    name, about = document["largest_regression"], document["largest_regression_of"]
    return next((row for row in document["benchmarks"] if (row["name"], row["model"]) == (name, about)), None)


def _of(document: Document, name: str) -> Mapping[str, Any] | None:
    rows: Sequence[Mapping[str, Any]] = document["mitigations"]
    return next((row for row in rows if row["name"] == name and "error" not in row), None)


def _both(row: Mapping[str, Any]) -> tuple[str, str]:
    """Shares of the loss given back and of the domain gain kept, in words where there was no gain to keep."""
    kept = "all" if row["retention"] is None else "an unknown share"
    return percent(row["closure"]), percent(row["retention"]) if _kept_known(row) else kept


def _kept_known(row: Mapping[str, Any]) -> bool:
    """False where no domain gain was measured, or none is shown, so that a share of it means nothing."""
    return row["retention"] is not None and row["retention_low"] > 0
