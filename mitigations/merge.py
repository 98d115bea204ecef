"""Merging a fine-tune back towards its base: a share of its update is kept, what it forgot comes back with the rest.

    merge(base, candidate, Path("merged"), scale=0.25)                 # a quarter of the update, in all layers
    merge(base, candidate, Path("merged"), scale=0.25, deepest=1.0)    # a quarter in the first, all of it in the last

The result is what the candidate is, an adapter or full weights, and needs no training. An adapter is scaled in its
LoRA factors: its update is scaling * B A, so B alone is multiplied (with the bias of B, where it has one), whatever the
rank and the scaling, rsLoRA's too. Weights that it brings along whole are interpolated with those of the base, as full
weights are (`interpolation`, with the papers of all methods).
"""

from __future__ import annotations

import json
import shutil
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness.checkpoint_files import read_json
from harness.checkpoints import ADAPTER_WEIGHTS, NOTE, TOKENIZER_FILES, CheckedModel, weights_digest
from harness.specs import ModelSpec, Unusable, parse_model
from mitigations.interpolation import SHARD, Setting, Weights, check_pair, interpolate, merge_tensor
from recipes.adapter import made_whole

if TYPE_CHECKING:
    from torch import Tensor

KEPT, SCALED = ("A", "embedding_A"), ("B", "embedding_B")  # factors of an update, of which one carries the scale
FULL = "merge it into full weights and name that directory as the candidate"


def merge(
    base: CheckedModel,
    candidate: CheckedModel,
    out: str | Path,
    scale: float,
    deepest: float | None = None,
    method: str = "linear",
    *,
    density: float | None = None,
    seed: int = 0,
    shard: int = SHARD,
    trust_remote_code: bool = False,
) -> ModelSpec:
    """Writes the merged model into the new directory `out` and returns its spec.

    scale, deepest, method, density, seed: see `Setting`; shard: bytes of a file of full weights, which bounds the
    memory. Scale 0 answers as the base and scale 1 as the candidate. Tokenizer and settings of generation are the
    candidate's. `Unusable` for settings out of range, for models that are no pair of base and fine-tune, and for
    adapters whose update does not scale.
    """
    setting = Setting(scale, deepest, method, density, seed)
    _check_models(base, candidate)
    with made_whole(Path(out)) as made:
        if candidate.is_adapter:
            _merge_adapter(Weights.of(base, trust_remote_code), candidate, made, setting)
        else:
            weights = [Weights.of(model, trust_remote_code) for model in (base, candidate)]
            interpolate(*weights, made, setting, shard)
        _copy_settings(candidate, made, trust_remote_code)
        chosen = {name: value for name, value in asdict(setting).items() if value is not None}
        note = {"base_weights": weights_digest(base), "merge": {"candidate": candidate.digest, **chosen}}
        (made / NOTE).write_text(json.dumps(note, indent=2, sort_keys=True) + "\n")
    return parse_model(str(out))


def _check_models(base: CheckedModel, candidate: CheckedModel) -> None:
    for model in (base, candidate):
        if model.spec.kind == "served":
            raise Unusable(f"'{model.spec.text}' is served, and its weights are not here; name its directory.")
    if base.is_adapter:
        raise Unusable(f"'{base.spec.text}' is an adapter and cannot be the base; name '{base.base.spec.text}'.")
    if candidate.is_adapter and candidate.base.digest != base.digest:
        raise Unusable(
            f"adapter '{candidate.spec.text}' is one of '{candidate.base.spec.text}' and not of '{base.spec.text}';"
            " merge it with its own base."
        )
    for model in () if candidate.is_adapter else (base, candidate):
        if read_json(model.path / "config.json", model.spec).get("quantization_config"):
            raise Unusable(
                f"model '{model.spec.text}' is quantized, and packed weights cannot be merged; name it unquantized."
            )


def _copy_settings(candidate: CheckedModel, made: Path, code: bool) -> None:
    """All that acts besides the weights, as the candidate has it."""
    names = ("adapter_config.json",) if candidate.is_adapter else ("config.json", "generation_config.json")
    files = [candidate.path / name for name in (*names, *TOKENIZER_FILES)]
    for file in (*files, *(candidate.path.glob("*.py") if code else ())):
        if file.is_file():
            shutil.copyfile(file, made / file.name)


def _merge_adapter(base: Weights, candidate: CheckedModel, made: Path, setting: Setting) -> None:
    from safetensors import safe_open
    from safetensors.torch import save_file

    _check_scales(candidate, read_json(candidate.path / "adapter_config.json", candidate.spec), setting)
    scale_of = setting.scale_of(base.parameters)
    with safe_open(candidate.path / ADAPTER_WEIGHTS, framework="pt") as file:
        stored = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        metadata = file.metadata()
    merged = {}
    for name, tensor in stored.items():
        module, factor, rest = name.removeprefix("base_model.model.").partition(".lora_")
        if not factor:
            merged[name] = _merge_whole(base, candidate, module, tensor, scale_of(module), setting)
        elif (kind := rest.partition(".")[0]) in SCALED:
            merged[name] = (tensor.float() * scale_of(module)).to(tensor.dtype)
        elif kind in KEPT:
            merged[name] = tensor
        else:
            raise Unusable(_cannot(candidate, f"has {name}, by which its update does not scale"))
    save_file(merged, made / ADAPTER_WEIGHTS, metadata=metadata)


def _check_scales(candidate: CheckedModel, config: dict[str, Any], setting: Setting) -> None:
    """Not every adapter is its base plus B A."""
    if config.get("use_dora"):
        raise Unusable(_cannot(candidate, "is a DoRA, whose magnitudes do not scale with its factors"))
    if setting.method != "linear":
        raise Unusable(
            f"method {setting.method} trims entries of full weights and '{candidate.spec.text}' is an adapter; write"
            f" method linear, or {FULL}."
        )


def _cannot(candidate: CheckedModel, why: str) -> str:
    return f"adapter '{candidate.spec.text}' {why}; {FULL}."


def _merge_whole(
    base: Weights, candidate: CheckedModel, name: str, tensor: Tensor, scale: float, setting: Setting
) -> Tensor:
    """Weights that an adapter brings along: those of modules_to_save, and embeddings that peft saves beside a LoRA."""
    stored = base.stored_as(name.replace(".base_layer.", "."))
    if stored is None:
        raise Unusable(_cannot(candidate, f"brings along {name}, which its base has not to be merged with"))
    before = base.read(stored)
    check_pair(name, before, tensor, base.model, candidate)
    return merge_tensor(before, tensor, scale, setting, name)
