"""What each model gained on the domain beside what it lost elsewhere, and which of them no other beats on both.

A loss is set against the margin of its own benchmark, as margins differ: -1 is a loss of just what is allowed.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from harness.report.numbers import as_set

BASE, CANDIDATE, JUDGED, TRIED = "base", "candidate", "judged", "tried"


@dataclass(frozen=True)
class Run:
    """One model. gain: on the first domain set, in points; share: of its worst benchmark's change in the margin.

    kind: JUDGED on the items that picked no setting, or TRIED on those that did; good: whether its losses are
    shown to be allowed, None where the data cannot tell.
    """

    name: str
    kind: str
    gain: float
    share: float
    worst: str | None = None
    good: bool | None = None


def runs(document: Mapping[str, Any]) -> list[Run]:
    """The base, every candidate, and every mitigation with its settings; nothing where no domain set was measured."""
    if not document["domain"]:
        return []
    found = [Run("base", BASE, 0.0, 0.0, good=None)]
    domain = document["domain"][0]["name"]
    gains = {row["model"]: row["change"] for row in document["domain"] if row["name"] == domain}
    for number, (model, gain) in enumerate(gains.items(), 1):
        rows = [row for row in (*document["benchmarks"], *document["training_runs"]) if row["model"] == model]
        if rows:
            name = "candidate" if len(gains) == 1 else f"candidate {number}"
            found.append(_run(name, CANDIDATE, gain, rows, _good(rows)))
    for row in document["mitigations"]:
        if "error" in row:
            continue
        settings = {_key(trial) for trial in row["trials"]}
        found += [_mitigated(row["name"], TRIED, trial, None) for trial in row["trials"] if len(settings) > 1]
        found.append(_mitigated(row["name"], JUDGED, row, {"yes": True, "no": False}.get(row["answer"])))
    return found


def front(models: Iterable[Run]) -> list[Run]:
    """The models that no other beats on both counts, by rising gain; settings that were only tried do not count."""
    models = [run for run in models if run.kind != TRIED]
    best = [
        run
        for run in models
        if not any(
            other.gain >= run.gain and other.share >= run.share and (other.gain, other.share) != (run.gain, run.share)
            for other in models
        )
    ]
    return sorted(best, key=lambda run: (run.gain, -run.share))


def setting(values: Mapping[str, Any]) -> str:
    """What was set, in words: 'scale 0.25'; the router has nothing to set."""
    return ", ".join(f"{key} {as_set(value)}" for key, value in values.items() if value) or "router"


def worst(rows: Sequence[Mapping[str, Any]]) -> Mapping[str, Any]:
    """The row whose change is the worst, measured by its margin."""
    return min(rows, key=lambda row: row["change"] / row["margin"])


def _mitigated(name: str, kind: str, row: Mapping[str, Any], good: bool | None) -> Run:
    words = setting(row["setting"])
    label = name if words == "router" else f"{name}, {words}"
    return _run(label, kind, row["gain"], row["benchmarks"], good)


def _run(name: str, kind: str, gain: float, rows: Sequence[Mapping[str, Any]], good: bool | None) -> Run:
    lowest = worst(rows)
    return Run(name, kind, gain, lowest["change"] / lowest["margin"], lowest["name"], good)


def _good(rows: Sequence[Mapping[str, Any]]) -> bool | None:
    verdicts = {row["verdict"] for row in rows}
    return verdicts == {"PASS"} or (False if "REGRESSED" in verdicts else None)


def _key(trial: Mapping[str, Any]) -> str:
    return setting(trial["setting"])
