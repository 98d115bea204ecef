"""The mitigation experiment: settings are swept on some items, and the picked one is judged on items that picked none.

    found = run("merge", audit, candidate, "ifeval", materials)
    found.confirmed.closes(0.8)       # "yes", "no" or "cannot tell"

From the safest setting up (a merge that keeps little of the update, replay with much general data), a setting is tried
while the one before it passes on the selection items every benchmark that the candidate lost; the last that passed is
judged once, on all benchmarks, on the items that have picked nothing (`harness.trial`). So no correction for the number
of settings is due: the sequence is fixed, and other items judge (Maurer, Hothorn and Lehmacher 1995; Wiens 2003,
Pharm. Stat. 2:211-215). Where none passes, the safest is judged. A single setting is judged on all items.

Whatever a mitigation makes is kept beside the store under a digest of all that it was made from.
"""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from harness import assets
from harness.audit import Audit
from harness.checkpoints import NOTE, CheckedModel
from harness.closure import CONFIRMATION, SELECTION
from harness.fingerprint import digest_of, file_digest, files_digest
from harness.specs import Experiment, ModelSpec, Unusable, parse_model
from harness.trial import Trial, settings_of, tried
from mitigations import overlap, rehearsal, replay
from mitigations.isolation import isolate
from mitigations.merge import merge
from mitigations.overlap import benchmark_texts
from mitigations.replay import recipe_settings
from recipes import sft
from recipes.adapter import made_whole
from recipes.origin import surroundings

NAMES = ("merge", "replay", "isolation")
NEEDS_DOMAIN = ("replay", "isolation")
VERSION = 3  # raise it when the same inputs may give another model


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
    """One mitigation. trials: on the selection items, safest first; confirmed: the picked setting, on other items.

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
    if "replay" in names:
        for path in filter(None, (materials.domain, materials.general)):
            replay.free_rows(path, benchmark_texts(audit.benchmarks))


def run(name: str, audit: Audit, candidate: CheckedModel, target: str, materials: Materials) -> Found:
    """Tries one mitigation of a candidate that regressed on `target`; evaluates and makes what is not stored yet.

    `Unusable` for a candidate that it does not apply to.
    """
    _check_weights_are_here(name, audit.base, candidate)
    experiment = audit.basket.experiment or Experiment()
    skills = [b.name for b in audit.basket.skills]
    lost = [s for s in skills if s == target or audit.verdict(candidate, s).verdict == "REGRESSED"]
    settings = settings_of(name, experiment)
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
    if trials:
        passed = [trial for trial in trials if trial.passes]
        picked = passed[-1] if passed else trials[0]
        setting, model = picked.setting, picked.model
    picked_on = lost if trials else ()
    confirmed = tried(audit, candidate, model, setting, CONFIRMATION, skills, target, experiment, picked_on)
    return Found(name, candidate.digest, target, tuple(trials), confirmed, seconds, _note(model.path))


def _check_weights_are_here(name: str, base: CheckedModel, candidate: CheckedModel) -> None:
    for model in (base, candidate):
        if model.spec.kind == "served":
            raise Unusable(
                f"{name} is made of weights, and those of '{model.spec.text}' are on a server; name its directory."
            )
    if candidate.routed:
        raise Unusable(
            f"candidate '{candidate.spec.text}' is isolated already, and its adapter acts on its domain alone; name the"
            " adapter in it to try another mitigation."
        )


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
    settings = recipe_settings(candidate, sft.Settings())
    rehearsed = materials.general is None
    general = rehearsal.key_of(audit.base, materials.rehearsal, audit.models) if rehearsed else materials.general
    code = files_digest(Path(m.__file__) for m in (overlap, replay))
    inputs = {
        "data": [file_digest(materials.domain), general if rehearsed else file_digest(general), digest_of(texts)],
        "recipe": [asdict(settings), surroundings(audit.models.device), code],
    }

    def make(out: Path) -> None:
        general = materials.general
        if general is None:
            general = out.parent / "general.jsonl"
            rehearsal.rehearse(audit.base, materials.rehearsal, general, audit.models)
        audit.models.make_room(audit.base)  # for the copy that is trained
        replay.replay(
            audit.base,
            candidate,
            materials.domain,
            general,
            setting["share"],
            out,
            settings,
            benchmarks=texts,
            kl=setting["kl"],
            device=audit.models.device,
        )

    return inputs, make


def _isolation(setting: dict[str, Any], audit: Audit, candidate: CheckedModel, materials: Materials) -> Maker:
    prompts = [row["prompt"] for row in sft.read_pairs(materials.domain)]
    texts = benchmark_texts(audit.benchmarks)
    inputs = digest_of([prompts, materials.general_prompts, materials.fresh_prompts, materials.ambiguous, texts])
    named = [audit.base.spec.text, str(audit.base.path), candidate.spec.text]  # what it ships says where its base lies

    def make(out: Path) -> None:
        isolate(
            audit.base,
            candidate,
            prompts,
            materials.general_prompts,
            out,
            fresh_general=materials.fresh_prompts,
            ambiguous=materials.ambiguous,
            benchmarks=texts,
        )

    return [inputs, named], make


MAKERS = {"merge": _merge, "replay": _replay, "isolation": _isolation}


def hand_over(found: Found, out: Path) -> Path:
    """A copy of the picked model in `out`/NAME, ready to ship: whole or not at all."""
    with made_whole(out / found.name) as made:
        shutil.copytree(found.confirmed.model.path, made, dirs_exist_ok=True)
    return out / found.name


def _note(path: Path) -> dict[str, Any]:
    from harness.checkpoint_files import read_json

    return read_json(path / NOTE, parse_model(str(path))) if (path / NOTE).is_file() else {}
