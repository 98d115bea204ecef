"""A stored audit judged again, with other margins or only reported anew: no model, no task and no store is needed.

    python -m harness.report --from out/scores.jsonl --margin ifeval=3

With the run's own margins the same files come out, byte for byte: the audit's time is that of the run. The mitigations
are judged as they were made: the settings that the run's margins picked, on the same items.
"""

from __future__ import annotations

import hashlib
import json
import shlex
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from harness.baskets import with_options
from harness.checkpoints import CheckedModel
from harness.judging import Options, check_out
from harness.recorded import Recorded
from harness.report import document, stored
from harness.report.files import remove_verdict
from harness.specs import Basket, Experiment, ModelSpec, Unusable
from harness.trial import Trial, tried
from harness.verdict import REGRESSED

KEPT = ("samples",)  # what verdict.json says of where its scores come from


@dataclass(frozen=True)
class Retold:
    """What came of a mitigation, as verdict.json tells it; read as `mitigations.experiment.Found` is."""

    of: str
    target: str
    trials: tuple[Trial, ...]
    confirmed: Trial
    seconds: float
    note: dict[str, Any]


def judge_again(scores: Path, out: Path, margins: Mapping[str, float]) -> dict[str, Any]:
    """verdict.json's content under other margins (in points, by benchmark), written to `out` with its scores.

    scores: an audit's scores.jsonl, with its verdict.json beside it. Raises `Unusable`, with nothing left in `out`.
    """
    if out.resolve() == (scores if scores.is_dir() else scores.parent).resolve():
        raise Unusable(
            f"--out {out} holds the audit that is judged again, which stays as it is; name another directory."
        )
    remove_verdict(out)
    audit, told = load(scores, out, margins)
    check_out(out)
    found = retold(audit, told)
    return document.write(document.build(audit, found), audit, found)


def read_verdict(path: Path) -> dict[str, Any]:
    """The verdict.json of a forgetting audit that holds what judging again needs; `Unusable` otherwise."""
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise Unusable(f"{path} does not exist; name what an audit wrote to its --out.") from None
    except (OSError, ValueError) as error:
        raise Unusable(f"{path} cannot be read ({error}); name what an audit wrote to its --out.") from None
    if isinstance(found, dict) and "gate" in found:
        raise Unusable(f"{path} is of another gate; name what -m forgetting wrote to its --out.")
    if not isinstance(found, dict) or found.get("schema") != document.SCHEMA:
        raise Unusable(f"{path} is no verdict of schema {document.SCHEMA}; judge it with the version that wrote it.")
    whole = all("error" in row or "picked_on" in row for row in found.get("mitigations", []))
    if not {"settings", "scores"} <= found.keys() or not whole:
        raise Unusable(
            f"{path} does not hold its basket's settings, or which items picked those of a mitigation, as an older"
            " version wrote it; run the audit again, which is quick while its store holds the scores."
        )
    return found


def load(scores: Path, out: Path, margins: Mapping[str, float] = {}) -> tuple[Recorded, dict[str, Any]]:
    """(the audit as recorded, verdict.json as it was) from the files of a run. scores: the file, or its folder."""
    scores = scores / "scores.jsonl" if scores.is_dir() else scores
    if not scores.is_file():
        raise Unusable(f"{scores} does not exist; name the scores.jsonl that an audit wrote to its --out.")
    path = scores.with_name("verdict.json")
    told = read_verdict(path)
    with scores.open("rb") as file:
        if hashlib.file_digest(file, "sha256").hexdigest() != told["scores"]:
            raise Unusable(
                f"{scores} is not the file that {path} was made from: one of them was cut, changed or replaced; take"
                " both from one run."
            )
    try:
        audit = _recorded(told, scores, out, margins)
    except (KeyError, TypeError, IndexError) as error:
        raise Unusable(
            f"{path} is not as this version writes it ({type(error).__name__}: {error}); run the audit again."
        ) from None
    audit.check()
    return audit, told


def _recorded(told: Mapping[str, Any], scores: Path, out: Path, margins: Mapping[str, float]) -> Recorded:
    changed = _changed(told, margins)
    basket = with_options(stored.basket_of(told), None, dict(margins))
    base = _model(told["base"], None)
    candidates = tuple(_model(row, base) for row in told["candidates"])
    options = Options(base.spec.text, tuple(c.spec.text for c in candidates), out, recipe=told["settings"]["recipe"])
    audit = Recorded(
        basket=basket,
        options=options,
        base=base,
        candidates=candidates,
        benchmarks={},
        held={},
        environment=told["run"],
        packages=told["packages"],
        tested=told["canaries"],
        provenance={key: told[key] for key in KEPT if key in told} | changed,
        command=_command(told, basket, changed),
        created=told["created"],
    )
    audit.held, seen = stored.read_scores(scores, {side: model.digest for side, model in audit.sides.items()})
    items = stored.items_of(audit.held, base.digest, [b.name for b in basket.benchmarks])
    audit.benchmarks = stored.benchmarks_of(told, basket, items, seen)
    return audit


def _model(row: Mapping[str, Any], base: CheckedModel | None) -> CheckedModel:
    spec = ModelSpec(row["spec"], row["kind"], row["spec"])
    return CheckedModel(spec, Path(row["spec"]), row["digest"], base if row["adapter"] else None)


def _changed(told: Mapping[str, Any], margins: Mapping[str, float]) -> dict[str, Any]:
    """{"rejudged": …} with what the run had: margins that are others now, and command; empty if all are the run's."""
    before = told.get("rejudged", {"margins": {}, "command": told["command"]})
    set_by_run = {row["name"]: row["margin"] for row in told["settings"]["benchmarks"]}
    now = set_by_run | {name: float(value) for name, value in margins.items()}
    set_by_run |= before["margins"]
    changed = {name: set_by_run[name] for name in set_by_run if set_by_run[name] != now[name]}
    return {"rejudged": before | {"margins": changed}} if changed else {}


def _command(told: Mapping[str, Any], basket: Basket, changed: Mapping[str, Any]) -> str:
    """The run's command, with the margins that are others now."""
    command = told.get("rejudged", told)["command"]
    for name in changed.get("rejudged", {}).get("margins", ()):
        command += " --margin " + shlex.quote(f"{name}={basket.named(name).margin:g}")
    return command


def retold(audit: Recorded, told: Mapping[str, Any]) -> dict[str, Retold | str]:
    """What came of each mitigation, judged again; none where nothing regressed, as none would have been tried."""
    skills = [b.name for b in audit.basket.skills]
    if not any(audit.verdict(c, name).verdict == REGRESSED for c in audit.candidates for name in skills):
        return {}
    return {row["name"]: row["error"] if "error" in row else _retold(audit, row) for row in told["mitigations"]}


def _retold(audit: Recorded, row: Mapping[str, Any]) -> Retold:
    candidate = next(c for c in audit.candidates if c.digest == row["of"])

    def again(trial: Mapping[str, Any], seconds: float) -> Trial:
        text = trial["benchmarks"][0]["model"]
        model = CheckedModel(ModelSpec(text, "recorded", text), Path(text), trial["digest"])
        skills = [benchmark["name"] for benchmark in trial["benchmarks"]]
        experiment = audit.basket.experiment or Experiment()
        about = trial["setting"], trial["items"], skills, row["target"], experiment, trial["picked_on"]
        found = tried(audit, candidate, model, *about)
        return replace(found, seconds=seconds)

    return Retold(
        of=row["of"],
        target=row["target"],
        trials=tuple(again(trial, 0.0) for trial in row["trials"]),
        confirmed=again(row, row["seconds"]["answering"]),  # which holds that of the trials
        seconds=row["seconds"]["making"],
        note=row["note"],
    )
