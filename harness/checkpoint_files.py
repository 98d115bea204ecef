"""The files of a checkpoint directory: its JSON, its weights, and their shapes, which are read without the weights."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from harness.fingerprint import first_nonfinite
from harness.specs import ModelSpec, Unusable

FLOATS = {"F64": 8, "F32": 4, "F16": 2, "BF16": 2}  # bytes of the numbers that are loaded in the format of a run
PICKLED = ("*.bin", "*.pt", "*.pth", "*.ckpt", "*.pkl")


def read_json(path: Path, spec: ModelSpec) -> dict[str, Any]:
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
        if not isinstance(value, dict):
            raise ValueError("it holds no JSON object")
    except (OSError, ValueError) as error:
        raise Unusable(
            f"{path.name} of model '{spec.text}' cannot be read ({error}); copy the whole directory again."
        ) from None
    return value


def reason(error: Exception) -> str:
    """The first line of an error of a library."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0]


def weight_files(path: Path, spec: ModelSpec, single: str = "model.safetensors") -> list[Path]:
    """The weight files that transformers would load, which prefers a single file to an index."""
    if (path / single).is_file():
        return [path / single]
    index = path / "model.safetensors.index.json"
    if index.is_file():
        names = sorted(set(read_json(index, spec).get("weight_map", {}).values()))
        missing = [name for name in names if not (path / name).is_file()]
        if missing or not names:
            raise Unusable(
                f"model '{spec.text}' lacks the weight file {(missing or ['of its index'])[0]}; copy the whole"
                " checkpoint."
            )
        return [path / name for name in names]
    pickled = sorted(p.name for glob in PICKLED for p in path.glob(glob))
    if pickled:
        raise Unusable(
            f"model '{spec.text}' has pickled weights only ({pickled[0]}), which can run code; save it as safetensors."
        )
    raise Unusable(f"model '{spec.text}' has no {single} in {path}; save it with save_pretrained.")


def weight_bytes(files: Sequence[Path], number: int) -> int:
    """What weight files take in memory where their floating-point numbers have so many bytes."""
    from safetensors import safe_open

    total = 0
    for file in files:
        total += file.stat().st_size
        with safe_open(file, framework="pt") as tensors:
            for part in map(tensors.get_slice, tensors.keys()):
                stored = FLOATS.get(part.get_dtype(), number)
                total += (number - stored) * math.prod(part.get_shape())
    return total


def check_finite(weights: Sequence[Path], spec: ModelSpec) -> None:
    from safetensors import SafetensorError

    for file in weights:
        try:
            tensor = first_nonfinite(file)
        except (SafetensorError, OSError) as error:
            raise Unusable(
                f"weight file {file.name} of '{spec.text}' cannot be read ({error}); copy it again."
            ) from None
        if tensor:
            raise Unusable(
                f"model '{spec.text}' has NaN or Inf in {tensor} ({file.name}); the training diverged: take an earlier"
                " checkpoint."
            )


def model_shapes(path: Path, spec: ModelSpec, trust_remote_code: bool) -> dict[str, Sequence[int]]:
    """Shape of each parameter by its name in the model, which a checkpoint may call otherwise; reads no weights."""
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM

    try:
        config = AutoConfig.from_pretrained(path, trust_remote_code=trust_remote_code)
        with torch.device("meta"):
            model = AutoModelForCausalLM.from_config(config, trust_remote_code=trust_remote_code)
    except Exception as error:  # whatever a wrong configuration makes transformers or the model's own code raise
        raise Unusable(
            f"model '{spec.text}' is no causal language model that transformers can build ({reason(error)}); check its"
            " config.json, or update transformers."
        ) from None
    return {name: list(weight.shape) for name, weight in model.named_parameters(remove_duplicate=False)}


def check_shapes(weights: Sequence[Path], shapes: dict[str, Sequence[int]], spec: ModelSpec) -> None:
    """Weights must have the shapes that the model has by the same names.

    Names that only one side knows say nothing, as weights may be renamed, split or fused when they are loaded. Nor does
    the order of the axes, as some are turned.
    """
    from safetensors import safe_open

    for file in weights:
        with safe_open(file, framework="pt") as tensors:
            for name in sorted(shapes.keys() & tensors.keys()):
                shape = tensors.get_slice(name).get_shape()
                if sorted(shape) != sorted(shapes[name]):
                    raise Unusable(
                        f"model '{spec.text}' has {name} of shape {shape} in {file.name} and {shapes[name]} by its"
                        " config.json; copy both from one checkpoint."
                    )
