"""Replay during fine-tuning: the candidate's recipe run again, on its domain data mixed with a share of general data.

    texts = benchmark_texts(loaded)
    replay(base, candidate, "train.jsonl", "general.jsonl", 0.25, "replayed", Settings(), benchmarks=texts)

A share of 0 is the recipe run again without general data, for comparison. The general data is the user's own JSONL, or
what the base says itself (`rehearsal`); it protects what it rehearses, so it should cover the skills of the basket, and
holds none of its items: `overlap` drops them first, from the domain data too.

Experience replay: Rolnick et al. 2019, arXiv:1811.11682. Mixing, steps and the hold on the base: recipes.mixing.
"""

from __future__ import annotations

import json
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

from harness.checkpoint_files import read_json
from harness.checkpoints import NOTE, CheckedModel
from harness.fingerprint import file_digest
from harness.specs import ModelSpec, Unusable, parse_model
from mitigations.overlap import without_overlaps
from recipes import sft
from recipes.mixing import check_mix


def replay(
    base: CheckedModel,
    candidate: CheckedModel,
    domain: str | Path,
    general: str | Path | None,
    share: float,
    out: str | Path,
    settings: sft.Settings,
    *,
    benchmarks: Mapping[str, Sequence[str]],
    kl: float = 0.0,
    seed: int | None = None,
    device: str = "auto",
) -> ModelSpec:
    """Trains an adapter of `base` into the new directory `out` and returns its spec.

    domain, general: JSONL of {"prompt", "response"}; share: of general rows among all rows seen, from 0 to below 1; kl:
    weight of the divergence from the base on general rows; benchmarks: the texts that no row may hold
    (`overlap.benchmark_texts`).

    Trained as the candidate was, by the settings in its lethe.json; by `settings` where it has none, as with full
    weights, for which the result is an adapter of the base all the same. seed: another than theirs; device: as of
    `sft.train`. The note of the adapter says under "replay" whether the settings are the candidate's own, and how many
    rows were dropped, as stderr does. `Unusable` for settings of another recipe, files that are missing or malformed,
    and where no row is left.
    """
    general = general if share else None
    check_mix(general, share, kl if share else 0.0)
    settings = recipe_settings(candidate, settings)
    settings = settings if seed is None else replace(settings, seed=seed)
    files = {"domain": Path(domain), **({"general": Path(general)} if general is not None else {})}
    with tempfile.TemporaryDirectory() as folder:
        kept, note = {}, {"candidate": candidate.digest, "dropped": {}, "own_recipe": tells_recipe(candidate)}
        for kind, path in files.items():
            kept[kind], note["dropped"][kind] = _without_items(path, benchmarks, Path(folder) / kind)
            note[kind] = file_digest(path)
        mixed = {"general": kept.get("general"), "share": share, "kl": kl if share else 0.0}
        made = sft.train(base, kept["domain"], out, settings, **mixed, origin={"replay": note}, device=device)
    return parse_model(str(made))


def tells_recipe(candidate: CheckedModel) -> bool:
    """True if a candidate's lethe.json says how it was trained."""
    return _noted(candidate) is not None


def _noted(candidate: CheckedModel) -> Any:
    path = candidate.path / NOTE
    return read_json(path, candidate.spec).get("settings") if path.is_file() else None


def recipe_settings(candidate: CheckedModel, otherwise: sft.Settings) -> sft.Settings:
    """The settings that a candidate was trained with, from its lethe.json; `otherwise` where that tells none."""
    noted = _noted(candidate)
    if noted is None:
        return otherwise
    kinds = {field.name: type(getattr(otherwise, field.name)) for field in fields(otherwise)}
    if not isinstance(noted, dict) or any(not isinstance(v, kinds.get(k, ())) for k, v in noted.items()):
        raise Unusable(
            f"{NOTE} of candidate '{candidate.spec.text}' holds settings of another recipe than recipes.sft"
            f" ({json.dumps(noted)}); leave replay out, or remove its settings to replay with the default ones."
        )
    return sft.Settings(**noted)


def free_rows(path: Path, benchmarks: Mapping[str, Sequence[str]]) -> tuple[list[dict[str, str]], dict[str, int]]:
    """The rows of a file that overlap no benchmark, and how many overlap each; `Unusable` if none is left."""
    rows = sft.read_pairs(path)
    kept, dropped = without_overlaps(rows, benchmarks)
    if not kept:
        raise Unusable(
            f"no row of '{path}' is left, as all {len(rows)} overlap with items of the basket ({_listed(dropped)});"
            " give data that holds none of them."
        )
    return kept, dropped


def _listed(dropped: Mapping[str, int]) -> str:
    return ", ".join(f"{count} {name}" for name, count in dropped.items())


def _without_items(path: Path, benchmarks: Mapping[str, Sequence[str]], folder: Path) -> tuple[Path, dict[str, int]]:
    """A file of the free rows, the given one if all are; how many overlap each benchmark."""
    kept, dropped = free_rows(path, benchmarks)
    if not dropped:
        return path, dropped
    gone = sum(dropped.values())
    print(f"{gone} of {gone + len(kept)} rows of {path.name} overlap with items ({_listed(dropped)}) and are dropped.",
          file=sys.stderr)  # fmt: skip
    folder.mkdir()
    (folder / path.name).write_text("".join(json.dumps(row) + "\n" for row in kept), encoding="utf-8")
    return folder / path.name, dropped
