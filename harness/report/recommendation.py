"""What to release and what to change in the next fine-tune: fixed rules over the numbers of one audit.

Each sentence names the number that it rests on, with its bounds where something follows from it, and says of what was
not tried that it was not. Nothing here judges: the verdicts and the experiment are done.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from harness.report.numbers import as_set, limit, percent, points, share_range, signed

Document = Mapping[str, Any]
Row = Mapping[str, Any]
HALF_LEARNED = 0.5  # share of the domain gain; a merge that is shown to keep less costs more than it saves


def release(document: Document) -> str:
    """Which model may ship, or that none may."""
    names = " and ".join(c["spec"] for c in document["candidates"])
    if document["decision"] == "SHIP":
        return f"Release {names}: every benchmark passed."
    tried = document["mitigations"]
    for row in tried:
        full = row.get("full")
        if full and full["decision"] == "SHIP" and (row["answer"] == "yes" or not row.get("picked_on")):
            return (
                f"Release the {row['name']} candidate ({row['spec']}, beside this verdict) instead of"
                f" {_of_whom(document, row)}: judged in full, it passes every benchmark{_price(document, row)}"
                f"{_best_of(tried)}."
            )
    blocked = f"Release nothing: {_blocked(document)}"
    if not tried:
        return f"{blocked}, and no mitigation was tried."
    listed = ", ".join(f"{row['name']}: {_outcome(row)}" for row in tried)
    return f"{blocked}, and no mitigation may ship in its place ({listed})."


def _blocked(document: Document) -> str:
    """Who did not pass; where several were judged, who did is said, and left to a run of its own."""
    rows: Sequence[Row] = document["benchmarks"]
    stopped = list(dict.fromkeys(row["model"] for row in rows if row["verdict"] != "PASS"))
    passed = list(dict.fromkeys(row["model"] for row in rows if row["model"] not in stopped))
    other = f" ({' and '.join(passed)} passed every benchmark: judge what is to ship by itself)" if passed else ""
    return f"{' and '.join(stopped)} {'is' if len(stopped) == 1 else 'are'} blocked{other}"


def _best_of(tried: Sequence[Row]) -> str:
    """What picking the best of several costs: each holds its error rate by itself, on the same items."""
    able = sum("error" not in row for row in tried)
    luck = "so that one passes by luck more often than one alone would"
    return f"; {able} mitigations were tried on the same items, {luck}" if able > 1 else ""


def _of_whom(document: Document, row: Row) -> str:
    """The candidate that was mitigated."""
    return next(
        (c["spec"] for c in document["candidates"] if c.get("digest") == row.get("of")),
        " and ".join(c["spec"] for c in document["candidates"]),
    )


def _price(document: Document, row: Row) -> str:
    """What is left of the domain gain, on the items of the experiment, and whether enough is shown to be."""
    if row["retention"] is None:
        return ", and there was no domain gain to keep"
    floor, low = document.get("retention_floor"), row["retention_low"]
    unsure = ""
    if floor is not None and (low is None or 100 * low <= floor):
        unsure = f"; that it is more than {percent(floor / 100)} is not shown"
    return f" and keeps {_kept(row)} of the domain gain{unsure}"


def _outcome(row: Row) -> str:
    """Whether a mitigation closes the gap on the items of the experiment, and what all say where that is known."""
    if "error" in row:
        return "could not be tried"
    if "full_error" in row:
        return f"{row['answer']}, but it could not be judged in full"
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
        " allowed). Put prompts of that kind, and none of its items, into the training data, and judge every checkpoint"
        " on it."
    )


def _replay(document: Document) -> str | None:
    row = _of(document, "replay")
    if not row:
        return None
    share = f"{percent(row['setting']['share'])} replay"
    if not row["note"].get("replay", {}).get("own_recipe", True):
        share += " (by Lethe's default recipe, as the candidate tells none)"
    if row["answer"] == "yes":
        return f"Train with {share}: {_found(row)}{_not_in_full(row)}."
    if _gives_back(row):
        return (
            f"Train with {share} or more: {_found(row)}, which is not shown to close the gap by itself. A lower"
            " learning rate, fewer steps or fewer target modules beside it were not tried here."
        )
    return (
        f"Do not rely on {share}: {_found(row)}, so it is not shown to give anything back. Bring general data of the"
        " lost kind; a lower learning rate, fewer steps or fewer target modules were not tried here."
    )


def _merge(document: Document) -> str | None:
    row = _of(document, "merge")
    if not row:
        return None
    scale, kept = row["setting"]["scale"], row["retention"] is not None
    at = f"at {as_set(scale)} of the update {_found(row)}"
    if row["answer"] == "yes":
        return f"Scale the update by {as_set(scale)} before release: {_found(row)}{_not_in_full(row)}."
    if kept and row["retention_high"] is not None and row["retention_high"] < HALF_LEARNED:
        return f"Do not expect scaling to help: {at}."
    if kept and _gives_back(row) and row["retention_low"] is not None and row["retention_low"] > scale:
        return (
            f"The update is larger than the domain needs: {at}. A lower learning rate or rank from the start was not"
            " tried here."
        )
    return f"Scaling is not shown to close the gap: {at}."


def _isolation(document: Document) -> str | None:
    row = _of(document, "isolation")
    if not row:
        return None
    said = {
        "yes": f"Where requests can be routed, serve the adapter for domain prompts only: {_found(row)}"
        f"{_not_in_full(row)}.",
        "no": f"Routing does not close the gap: {_found(row)}.",
    }.get(row["answer"], f"Routing is not shown to close the gap: {_found(row)}.")
    wrong = row["note"].get("misrouted", {}).get("domain")
    stayed = f" {wrong['wrong']} of {wrong['prompts']} fresh domain prompts stayed with the base." if wrong else ""
    certificate = row["note"].get("certificate", {}).get("text", "")
    return f"{said}{stayed} {certificate[:1].upper()}{certificate[1:]}".rstrip()


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
    """Each benchmark once, of whatever candidate."""
    rows = [row for row in document["benchmarks"] if row["verdict"] == "INCONCLUSIVE"]
    guessing = [row["base"] - row.get("floor", 0) <= row["margin"] for row in rows]
    return list(dict.fromkeys(row["name"] for row, at in zip(rows, guessing, strict=True) if at == on_the_floor))


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


def _found(row: Row) -> str:
    """What came back and what was left, both with bounds."""
    closure = "an unknown share"
    if row["closure"] is not None:
        closure = share_range(row["closure"], row["closure_low"], row["closure_high"])
    left = "there was no domain gain to keep"
    if row["retention"] is not None:
        left = f"{_kept(row)} of the domain gain was kept"
    return f"{closure} of the loss came back and {left}"


def _kept(row: Row) -> str:
    """What is left of the domain gain, which has no share where the candidate is not shown to have gained."""
    if row["retention_low"] is None or row["retention_low"] <= 0:
        return "an unknown share"
    return share_range(row["retention"], row["retention_low"], row["retention_high"])


def _gives_back(row: Row) -> bool:
    """True if something of the loss is shown to come back."""
    return row["closure_low"] is not None and row["closure_low"] > 0


def _not_in_full(row: Row) -> str:
    """What all items say, where they say no."""
    full = row.get("full")
    return f"; judged in full it is {full['decision']} all the same" if full and full["decision"] != "SHIP" else ""
