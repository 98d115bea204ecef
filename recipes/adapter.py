"""What recipes share: settings that make sense, where LoRA is put, an adapter that is there whole or not at all.

LoRA: Hu et al. 2021, arXiv:2106.09685, by peft.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import math
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from harness import checkpoints
from harness.models import pick_device
from harness.specs import Unusable


def check_settings(settings, least: Mapping[str, int]) -> None:
    """`Unusable` unless each named setting is a whole number from its least on, and `lr` is a learning rate."""
    for name, low in least.items():
        if not low <= (value := getattr(settings, name)) < 2**32:
            raise Unusable(
                f"--{name.replace('_', '-')} {value} is out of range; write a whole number from {low} to {2**32 - 1}."
            )
    if not 0 < settings.lr < math.inf:
        raise Unusable(f"--lr {settings.lr} is no learning rate; write a number above 0, as in --lr 1e-3.")


@contextlib.contextmanager
def made_whole(out: Path) -> Iterator[Path]:
    """A directory beside `out` that takes its place at the end of the block, and is gone if the block breaks."""
    target = out.resolve()
    try:
        if target.is_dir() and any(target.iterdir()):
            raise Unusable(f"'{out}' already holds files; name another --out, or remove it.")
        if target.exists() and not target.is_dir():
            raise Unusable(f"'{out}' is a file; name another --out.")
        target.parent.mkdir(parents=True, exist_ok=True)
        scratch = tempfile.TemporaryDirectory(prefix=f".{target.name}-", dir=target.parent)
    except OSError as error:
        raise Unusable(f"--out '{out}' cannot be written ({error.strerror}); name another directory.") from None
    with scratch as folder:
        made = Path(folder) / target.name
        made.mkdir()
        yield made
        made.rename(target)


def lora_targets(model, text: str) -> str | list[str]:
    """What LoRA is put on, as peft wants it; `Unusable` names what is no linear layer of the model."""
    import torch
    from transformers.pytorch_utils import Conv1D

    if text == "all-linear":
        return text
    layers = [name for name, module in model.named_modules() if isinstance(module, torch.nn.Linear | Conv1D)]
    wanted = [name.strip() for name in text.split(",")]
    unknown = [name for name in wanted if not any(f".{layer}".endswith(f".{name}") for layer in layers)]
    if unknown:
        known = sorted({layer.rsplit(".", 1)[-1] for layer in layers})
        raise Unusable(
            f"--targets {text}: the model has no linear layer named '{unknown[0]}'; write all-linear, or some of"
            f" {','.join(known)}."
        )
    return wanted


def words_of(settings) -> list[str]:
    """The options of a command line that give these settings, without those that are the default."""
    default = asdict(type(settings)())
    return [f"--{name.replace('_', '-')} {value}" for name, value in asdict(settings).items() if value != default[name]]


def add_settings(parser: argparse.ArgumentParser, kind: type) -> None:
    """An option for each setting of a recipe; kind: its dataclass, whose defaults are the options'."""
    for name, value in asdict(kind()).items():
        parser.add_argument("--" + name.replace("_", "-"), type=type(value), default=value, help=f"default: {value}")


def settings_from(given: argparse.Namespace, kind: type):
    """The settings among parsed options, as a `kind`; `Unusable` for impossible ones."""
    return kind(**{name: getattr(given, name) for name in asdict(kind())})


def threads() -> int:
    """How many threads torch computes with, which shows in the last digits of an adapter."""
    import torch

    return torch.get_num_threads()


def trained_on(device: str = "auto") -> str:
    """The kind of device that a training runs on: bfloat16 on CUDA gives another adapter than float32 on a CPU."""
    return pick_device(device).partition(":")[0]


@contextlib.contextmanager
def on_device(device: str) -> Iterator[bool]:
    """Inside the block trl trains there: on this GPU where one is named, else on the current one or the CPU.

    Yields whether it is a GPU.
    """
    import torch

    picked = pick_device(device)
    with torch.cuda.device(picked) if ":" in picked else contextlib.nullcontext():
        yield picked != "cpu"


def seal(base, out: Path, note: Mapping[str, Any], lr: float) -> None:
    """Half-precision weights, the base by name instead of by a path of this machine, and the note of origin."""
    import torch
    from safetensors.torch import load_file, save_file

    weights = out / checkpoints.ADAPTER_WEIGHTS
    tensors = {name: tensor.to(torch.float16) for name, tensor in load_file(weights).items()}
    if not all(tensor.isfinite().all() for tensor in tensors.values()):
        raise Unusable(f"the training diverged to NaN or Inf at --lr {lr}; write a smaller one.")
    save_file(tensors, weights, metadata={"format": "pt"})
    config = json.loads((out / "adapter_config.json").read_text())
    config["base_model_name_or_path"] = base.spec.location if base.spec.kind == "hub" else base.spec.text
    (out / "adapter_config.json").write_text(json.dumps(config, indent=2, sort_keys=True) + "\n")
    (out / checkpoints.NOTE).write_text(json.dumps(note, indent=2, sort_keys=True) + "\n")
    (out / "README.md").unlink(missing_ok=True)  # peft's empty model card


def below_top(model, count: int) -> int:
    """How many blocks lie below the last `count`, on which `top_layers` puts an adapter; none for 0, which is all."""
    return model.config.get_text_config().num_hidden_layers - count if count else 0


def top_layers(model, count: int) -> str | list[str]:
    """The linear layers of the last `count` blocks, as peft wants them; of all for 0; `Unusable` if there are fewer.

    peft refuses `layers_to_transform` beside "all-linear".
    """
    if count == 0:
        return "all-linear"
    import torch
    from transformers.pytorch_utils import Conv1D

    from harness.blocks import stack_of

    blocks = model.config.get_text_config().num_hidden_layers
    if count > blocks:
        raise Unusable(f"--layers {count}: the model has {blocks}; write a number up to that, or 0 for all.")
    stack = stack_of(model)
    if stack is None:
        raise Unusable(f"--layers {count}: the blocks of this model are not found; write --layers 0 for all of them.")
    last = tuple(f"{stack[0]}.{n}." for n in range(blocks - count, blocks))
    linear = torch.nn.Linear | Conv1D
    return [n for n, module in model.named_modules() if isinstance(module, linear) and n.startswith(last)]
