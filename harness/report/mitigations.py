"""The mitigation experiment as plain values: what was tried, what it gave back and kept, and what may be released."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from harness.checkpoints import CheckedModel
from harness.judging import Judging
from harness.report import rows
from harness.report.numbers import interval, percent, share_range
from harness.specs import Experiment, Unusable
from harness.stats.interval import Interval
from harness.trial import CANNOT_TELL, NO, YES, Trial
from harness.verdict import PASS, decide

ORDER = (YES, CANNOT_TELL, NO)
NOTED = ("misrouted", "certificate", "replay", "dropped")  # of the notes that mitigations leave in lethe.json


def mitigation_rows(audit: Judging, found: Mapping[str, Any]) -> list[dict[str, Any]]:
    """A row for each mitigation, in the order given; the best of them is judged in full, under "full".

    found: name -> what came of it (`mitigations.experiment.Found`), or an error in words.
    """
    made = []
    for name, outcome in found.items():
        if isinstance(outcome, str):
            made.append({"name": name, "error": outcome})
            continue
        trial = outcome.confirmed
        made.append(
            {
                "name": name,
                "spec": f"mitigations/{name}",  # under --out
                "of": outcome.of,
                "target": outcome.target,
                **trial_row(audit, trial),
                "trials": [trial_row(audit, one) for one in outcome.trials],
                "seconds": {
                    "making": outcome.seconds,
                    "answering": trial.seconds + sum(one.seconds for one in outcome.trials),
                },
                "note": {key: outcome.note[key] for key in NOTED if key in outcome.note},
            }
        )
    for row in made:
        row["full"] = None
        if row["name"] == best(made) and audit.holds(model := found[row["name"]].confirmed.model):
            try:
                row["full"] = in_full(audit, model)
            except Exception as error:  # its answers may fail to come, and the candidate's verdict stands all the same
                row["full_error"] = in_words(error)
    return made


def in_words(error: Exception) -> str:
    """What went wrong with a mitigation; ours are sentences already, of others the kind tells more than the text."""
    return str(error) if isinstance(error, Unusable) else f"{type(error).__name__}: {error}"


def floor_of(audit: Judging) -> float:
    """The least share of the domain gain to keep, a proportion."""
    return (audit.basket.experiment or Experiment()).retention / 100


def why_open(audit: Judging, outcome: Any) -> str | None:
    """In words why a mitigation is not shown to close the gap; None if it is."""
    if isinstance(outcome, str):
        return f"could not be tried: {outcome}"
    trial = outcome.confirmed
    if (answer := trial.closes(floor_of(audit))) == YES:
        return None
    failed = [f"{v.name} {v.verdict}, change {interval(_bounds(v))}" for v in trial.verdicts if v.verdict != PASS]
    kept = trial.retention
    if kept and kept.low <= floor_of(audit):
        shown = share_range(kept.estimate, _known(kept.low), _known(kept.high))
        failed.append(f"{shown} of the domain gain kept, wanted more than {percent(floor_of(audit))}")
    return f"closes the gap: {answer}; {'; '.join(failed)}"


def _known(bound: float) -> float | None:
    """A bound for JSON, which has no infinity: None excludes nothing."""
    return bound if math.isfinite(bound) else None


def _bounds(verdict) -> Interval:
    return Interval(verdict.change, verdict.low, verdict.high)


def trial_row(audit: Judging, trial: Trial) -> dict[str, Any]:
    """A trial as plain values. closure, retention: proportions; gain and what the benchmarks have: points.

    A bound of closure or retention is None where the items exclude nothing, as where few of them carry the whole loss.
    """
    answer, text = trial.closes(floor_of(audit)), trial.model.spec.text
    found: dict[str, Any] = {"setting": trial.setting, "digest": trial.model.digest, "items": trial.half}
    found["picked_on"] = list(trial.picked_on)
    for key, bound in (("closure", trial.closure), ("retention", trial.retention)):
        values = (bound.estimate, _known(bound.low), _known(bound.high)) if bound else (None, None, None)
        found |= dict(zip((key, f"{key}_low", f"{key}_high"), values, strict=True))
    return found | {
        "gain": 100 * trial.gain.estimate,
        "gain_low": 100 * trial.gain.low,
        "gain_high": 100 * trial.gain.high,
        "worst_change": 100 * min(v.change for v in trial.verdicts),
        "closes_gap": answer == YES,
        "answer": answer,
        "decision": trial.decision,
        "benchmarks": [rows.verdict_row(audit, text, verdict) for verdict in trial.verdicts],
    }


def best(made: Sequence[Mapping[str, Any]]) -> str | None:
    """The mitigation to judge in full: of those that may close the gap the surest, then the one that keeps most."""
    able = [row for row in made if "error" not in row and row["answer"] != NO]
    if not able:
        return None
    return min(able, key=lambda row: (ORDER.index(row["answer"]), -(row["retention"] or 0)))["name"]


def in_full(audit: Judging, model: CheckedModel) -> dict[str, Any]:
    """The verdict of the gate on a mitigated model: every item and seed; evaluates what is missing."""
    verdicts = [audit.verdict(model, b.name) for b in audit.basket.skills]
    decision, status = decide(verdicts)
    return {
        "decision": decision,
        "exit": status,
        "benchmarks": [rows.verdict_row(audit, model.spec.text, verdict) for verdict in verdicts],
        "domain": [rows.domain_row(audit, model, b.name) for b in audit.basket.domains],
    }
