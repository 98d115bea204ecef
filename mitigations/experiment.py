"""The mitigation experiment: settings are swept on one half of the items, and the picked one is judged on the other.

    found = run("merge", audit, candidate, "ifeval", materials)
    found.confirmed.closes(0.8)       # "yes", "no" or "cannot tell"

From the safest setting up (a merge that keeps little of the update, replay with much general data), a setting is tried
while the one before it passes on the selection items every benchmark that the candidate lost; the last that passed is
judged on the confirmation items, on all benchmarks, once. So no correction for the number of settings is due: the
sequence is fixed, and the items that judge have picked nothing (Maurer, Hothorn and Lehmacher 1995; Wiens 2003,
Pharm. Stat. 2:211-215). Where none passes, the safest is judged.

Whatever a mitigation makes is kept beside the store under a digest of all that it was made from.
"""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from harness import assets
from harness.audit import Audit
from harness.checkpoints import NOTE, CheckedModel
from harness.closure import CONFIRMATION, SELECTION
from harness.fingerprint import digest_of, file_digest
from harness.specs import Experiment, ModelSpec, Unusable, parse_model
from harness.trial import Trial, tried
from mitigations.isolation import isolate
from mitigations.merge import merge
from mitigations.overlap import benchmark_texts
from mitigations.rehearsal import rehearse
from mitigations.replay import replay
from recipes import sft

NAMES = ("merge", "replay", "isolation")
NEEDS_DOMAIN = ("replay", "isolation")
VERSION = 1  # raise it when the same inputs may give another model


@dataclass(frozen=True)
class Materials:
    """What mitigations are made from, besides base and candidate.

    domain: JSONL that the candidate was trained on; general: JSONL of general rows, None to rehearse `rehearsal`.
    general_prompts train a router and fresh_prompts certify it; ambiguous: general prompts near the domain.
    """

    domain: Path | None
    general: Path | None
    rehearsal: tuple[str, ...]
    general_prompts: tuple[str, ...]
    fresh_prompts: tuple[str, ...]
    ambiguous: tuple[str, ...]


@dataclass(frozen=True)
class Found:
    """One mitigation. trials: on the selection items, safest first; confirmed: the picked setting on the others.

    of: the candidate's digest; target: the benchmark whose regression it is to close;
    seconds: to make the models that were tried; note: what lethe.json says of the picked one.
    """

    name: str
    of: str
    target: str
    trials: tuple[Trial, ...]
    confirmed: Trial
    seconds: float
    note: dict[str, Any]


def check_names(text: str, basket_table: bool) -> tuple[str, ...]:
    """--mitigate's value -> names; the default is all where the basket has a [mitigation] table, else none."""
    names = tuple(name.strip() for name in text.split(",")) if text else (NAMES if basket_table else ())
    if names == ("none",):
        return ()
    for name in names:
        if name not in NAMES:
            raise Unusable(f"--mitigate {text}: '{name}' is unknown; write none, or of {', '.join(NAMES)}.")
    return tuple(dict.fromkeys(names))


def check_experiment(names: Sequence[str], audit: Audit, materials: Materials) -> None:
    """What can be said before a model runs; raises `Unusable`."""
    listed = ",".join(names)
    if not audit.basket.domains:
        raise Unusable(
            f"--mitigate {listed}: basket '{audit.basket.name}' has no domain set, so what a mitigation costs would not"
            ' show; add a [[benchmark]] with role = "domain", or write --mitigate none.'
        )
    if needing := [name for name in names if name in NEEDS_DOMAIN]:
        if materials.domain is None:
            raise Unusable(
                f"--mitigate {','.join(needing)} needs what the candidate was trained on; name that JSONL file as"
                " domain in the basket's [mitigation] table, or leave it out of --mitigate."
            )
        sft.read_pairs(materials.domain)
    if "replay" in names and materials.general is not None:
        sft.read_pairs(materials.general)


def run(name: str, audit: Audit, candidate: CheckedModel, target: str, materials: Materials) -> Found:
    """Tries one mitigation of a candidate that regressed on `target`; evaluates and makes what is not stored yet.

    `Unusable` for a candidate that it does not apply to.
    """
    experiment = audit.basket.experiment or Experiment()
    settings = settings_of(name, experiment)
    skills = [b.name for b in audit.basket.skills]
    lost = [s for s in skills if s == target or audit.verdict(candidate, s).verdict == "REGRESSED"]
    trials: list[Trial] = []
    seconds = 0.0
    for setting in settings:
        spec, took = made(name, setting, audit, candidate, materials)
        seconds += took
        model = audit.further(spec)
        if len(settings) == 1:
            break  # nothing to pick, so no items are spent on it
        trials.append(tried(audit, candidate, model, setting, SELECTION, lost, target, experiment))
        if not trials[-1].passes:
            break
    passed = [trial for trial in trials if trial.passes]
    if trials:
        picked = passed[-1] if passed else trials[0]
        setting, model = picked.setting, picked.model
    confirmed = tried(audit, candidate, model, setting, CONFIRMATION, skills, target, experiment)
    return Found(name, candidate.digest, target, tuple(trials), confirmed, seconds, _note(model.path))


def settings_of(name: str, experiment: Experiment) -> list[dict[str, Any]]:
    """The settings of a mitigation, safest first."""
    if name == "merge":
        return [{"scale": scale} for scale in sorted(experiment.scales)]
    if name == "replay":
        return [{"share": share, "kl": experiment.kl} for share in sorted(experiment.shares, reverse=True)]
    return [{}]


def made(
    name: str, setting: dict[str, Any], audit: Audit, candidate: CheckedModel, materials: Materials
) -> tuple[ModelSpec, float]:
    """The mitigated model, out of the cache or made now, and the seconds that making it took."""
    inputs, make = MAKERS[name](setting, audit, candidate, materials)
    key = digest_of([VERSION, name, setting, audit.base.digest, candidate.digest, inputs])[:24]
    target = audit.store.directory / "mitigations" / f"{name}-{key}"

    def build(folder: Path) -> None:
        started = time.monotonic()
        make(folder)
        audit.store.put_note(f"mitigation/{target.name}", time.monotonic() - started)

    assets.publish(target, build)
    return parse_model(str(target)), audit.store.note(f"mitigation/{target.name}") or 0.0


Maker = tuple[Any, Callable[[Path], object]]  # what the result depends on besides the models, and what makes it


def _merge(setting: dict[str, Any], audit: Audit, candidate: CheckedModel, materials: Materials) -> Maker:
    code = audit.options.trust_remote_code
    return None, lambda out: merge(audit.base, candidate, out, setting["scale"], trust_remote_code=code)


def _replay(setting: dict[str, Any], audit: Audit, candidate: CheckedModel, materials: Materials) -> Maker:
    texts = benchmark_texts(audit.benchmarks)
    inputs = [file_digest(materials.domain), digest_of(texts)]
    inputs.append(digest_of(materials.rehearsal) if materials.general is None else file_digest(materials.general))

    def make(out: Path) -> None:
        general = materials.general
        if general is None:
            general = out.parent / "general.jsonl"
            rehearse(audit.base, materials.rehearsal, general, audit.models)
        replay(
            audit.base,
            candidate,
            materials.domain,
            general,
            setting["share"],
            out,
            sft.Settings(),
            benchmarks=texts,
            kl=setting["kl"],
        )

    return inputs, make


def _isolation(setting: dict[str, Any], audit: Audit, candidate: CheckedModel, materials: Materials) -> Maker:
    prompts = [row["prompt"] for row in sft.read_pairs(materials.domain)]
    inputs = digest_of([prompts, materials.general_prompts, materials.fresh_prompts, materials.ambiguous])

    def make(out: Path) -> None:
        isolate(
            audit.base,
            candidate,
            prompts,
            materials.general_prompts,
            out,
            fresh_general=materials.fresh_prompts,
            ambiguous=materials.ambiguous,
        )

    return inputs, make


MAKERS = {"merge": _merge, "replay": _replay, "isolation": _isolation}


def hand_over(found: Found, out: Path) -> Path:
    """A copy of the picked model in `out`/NAME, ready to ship."""
    target = out / found.name
    shutil.copytree(found.confirmed.model.path, target)
    return target


def _note(path: Path) -> dict[str, Any]:
    from harness.checkpoint_files import read_json

    return read_json(path / NOTE, parse_model(str(path))) if (path / NOTE).is_file() else {}
