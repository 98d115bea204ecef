"""Full weights on the way between a base and its fine-tune, tensor by tensor: how far each goes, and by which method.

    interpolate(Weights.of(base), Weights.of(candidate), Path("merged"), Setting(scale=0.3, deepest=1.0))

linear: the update candidate - base, scaled. Wortsman et al. 2022, arXiv:2109.01903.
ties: only its largest entries, a share `density` of each tensor, which is what TIES does to a single fine-tune; by
peft. Yadav et al. 2023, arXiv:2306.01708.
dare: a random share `density` of its entries, enlarged by 1 / density; by peft. Yu et al. 2024, arXiv:2311.03099.
With `deepest` the scale grows from layer to layer: LiNeS, Wang et al. 2025, arXiv:2410.17146.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from harness.checkpoint_files import weight_files
from harness.checkpoints import CheckedModel
from harness.specs import Unusable

if TYPE_CHECKING:
    from torch import Tensor

METHODS = ("linear", "ties", "dare")
SHARD = 2**29  # bytes of a weight file, and so of what is in memory at a time
CHUNK = 2**20  # entries that are float32 at a time
LAYER = re.compile(r"(.*?)\.(\d+)\.")  # model.layers.7.mlp.experts.2.up_proj is in layer 7 of the stack model.layers


@dataclass(frozen=True)
class Setting:
    """How much of an update is kept; `Unusable` if that is no setting.

    scale: share that is kept, in [0, 1]: 0 is the base, 1 the candidate. deepest: the same for the last layer; layer l
    of L then gets scale + (deepest - scale) (l - 1) / (L - 1), and what lies in no layer (embeddings, last norm, head)
    gets `scale`, as in the paper's code. density: share of the entries that ties and dare keep, above 0 and up to 1,
    where both are linear; seed: of dare's draw.
    """

    scale: float
    deepest: float | None = None
    method: str = "linear"
    density: float | None = None
    seed: int = 0

    def __post_init__(self):
        for name, value in {"scale": self.scale, "deepest": self.deepest}.items():
            if value is not None and not 0 <= value <= 1:
                raise Unusable(f"{name} = {value} is no share of an update; write a number from 0 (base) to 1.")
        if self.method not in METHODS:
            raise Unusable(f"method '{self.method}' is unknown; write one of {', '.join(METHODS)}.")
        if self.method == "linear" and self.density is not None:
            raise Unusable(f"density = {self.density} is for ties and dare; leave it out, or write one of them.")
        if self.method != "linear" and not (self.density is not None and 0 < self.density <= 1):
            raise Unusable(
                f"method {self.method} keeps a share of entries and density = {self.density} is none; write one above 0"
                " and up to 1, as in 0.2."
            )

    def scale_of(self, names: Iterable[str]) -> Callable[[str], float]:
        """Tensor name -> its scale, in a model whose tensors are `names`."""
        last: dict[str, int] = {}
        for found in filter(None, map(LAYER.match, names)):
            last[found[1]] = max(last.get(found[1], 0), int(found[2]))

        def scale(name: str) -> float:
            found = LAYER.match(name)
            if self.deepest is None or not found:
                return self.scale
            depth = int(found[2]) / last[found[1]] if last[found[1]] else 1.0  # of one layer only: the last
            return (1 - depth) * self.scale + depth * self.deepest

        return scale


@dataclass(frozen=True)
class Weights:
    """The weights of a checkpoint on disk.

    files: tensor name -> file; parameters: all names by which the model has its parameters; tied: such a name -> all
    names of the same parameter, where there are several.
    """

    model: CheckedModel
    files: dict[str, Path]
    parameters: tuple[str, ...]
    tied: dict[str, tuple[str, ...]]

    @classmethod
    def of(cls, model: CheckedModel, trust_remote_code: bool = False) -> Weights:
        from safetensors import safe_open

        files = {}
        for file in weight_files(model.path, model.spec):
            with safe_open(file, framework="pt") as tensors:
                files |= dict.fromkeys(tensors.keys(), file)
        # computed from the configuration, and not in checkpoints of later releases
        files = {name: file for name, file in files.items() if not name.endswith("rotary_emb.inv_freq")}
        groups = _parameters(model, trust_remote_code)
        tied = {name: group for group in groups for name in group if len(group) > 1}
        return cls(model, files, tuple(name for group in groups for name in group), tied)

    def stored_as(self, name: str) -> str | None:
        """The name under which a tensor is stored: its own, or that of one it is tied to; None if it is not there."""
        return next((known for known in (name, *self.tied.get(name, ())) if known in self.files), None)

    def read(self, name: str) -> Tensor:
        """A stored tensor, mapped from its file, which is in memory for as long as the tensor is."""
        from safetensors import safe_open

        with safe_open(self.files[name], framework="pt") as tensors:
            return tensors.get_tensor(name)


def _parameters(model: CheckedModel, trust_remote_code: bool) -> list[tuple[str, ...]]:
    """The names of each parameter of a model, which is built without its weights; tied ones have several."""
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM

    config = AutoConfig.from_pretrained(model.path, trust_remote_code=trust_remote_code)
    with torch.device("meta"):
        built = AutoModelForCausalLM.from_config(config, trust_remote_code=trust_remote_code)
    names: dict[int, tuple[str, ...]] = {}
    for name, parameter in built.named_parameters(remove_duplicate=False):
        names[id(parameter)] = (*names.get(id(parameter), ()), name)
    return list(names.values())


def interpolate(base: Weights, candidate: Weights, out: Path, setting: Setting, shard: int = SHARD) -> None:
    """Writes the merged weights into the directory `out`, in files of at most `shard` bytes or one tensor.

    They have the names and dtypes of the candidate's. In memory are one file and one pair of tensors; `ties` and `dare`
    take up to seven times the largest tensor in float32 besides. `Unusable` where the two are no pair.
    """
    from huggingface_hub import split_torch_state_dict_into_shards
    from safetensors.torch import save_file

    layout = _layout(base, candidate)
    scale_of = setting.scale_of((*layout, *candidate.parameters))

    def merged(name: str) -> Tensor:
        one = candidate.tied.get(name, (name,))[0]  # tied tensors that are stored twice stay the same
        return merge_tensor(base.read(base.stored_as(name)), candidate.read(name), scale_of(one), setting, one)

    plan = split_torch_state_dict_into_shards(layout, max_shard_size=shard)
    for file, names in plan.filename_to_tensors.items():
        save_file({name: merged(name) for name in names}, out / file, metadata={"format": "pt"})
    if plan.is_sharded:
        index = {"metadata": plan.metadata, "weight_map": plan.tensor_to_filename}
        (out / "model.safetensors.index.json").write_text(json.dumps(index, indent=2) + "\n")


def _layout(base: Weights, candidate: Weights) -> dict[str, Tensor]:
    """The tensors of the candidate without their data; `Unusable` where base and candidate do not match."""
    import torch

    for one, other in ((candidate, base), (base, candidate)):
        if odd := sorted(name for name in one.files if other.stored_as(name) is None):
            raise Unusable(
                f"'{one.model.spec.text}' has {odd[0]} and '{other.model.spec.text}' has not ({len(odd)} in all);"
                " merge a candidate with the base it was trained from, both saved by the same transformers."
            )
    _check_ties(base, candidate)
    layout = {}
    for name in candidate.files:
        before, after = base.read(base.stored_as(name)), candidate.read(name)
        check_pair(name, before, after, base.model, candidate.model)
        layout[name] = torch.empty_like(after, device="meta")
    return layout


def _check_ties(base: Weights, candidate: Weights) -> None:
    import torch

    for first, *others in dict.fromkeys(candidate.tied.values()):
        for other in others:
            stored = [base.stored_as(name) for name in (first, other)]
            if None not in stored and stored[0] != stored[1] and not torch.equal(*map(base.read, stored)):
                raise Unusable(
                    f"candidate '{candidate.model.spec.text}' ties {other} to {first}, which are two in"
                    f" '{base.model.spec.text}'; merge it with the base it was trained from."
                )


def check_pair(name: str, before: Tensor, after: Tensor, base: CheckedModel, candidate: CheckedModel) -> None:
    """`Unusable` where there is nothing between a tensor of the base and one of the candidate."""
    import torch

    tuned, of_base = f"in candidate '{candidate.spec.text}'", f"in base '{base.spec.text}'"
    remedy = "merge a candidate with the base it was trained from"
    if before.shape != after.shape:
        raise Unusable(f"{name} is {list(after.shape)} {tuned} and {list(before.shape)} {of_base}; {remedy}.")
    if before.is_floating_point() != after.is_floating_point():
        kinds = [str(tensor.dtype).removeprefix("torch.") for tensor in (after, before)]
        raise Unusable(f"{name} is {kinds[0]} {tuned} and {kinds[1]} {of_base}; save both in floating point.")
    if not after.is_floating_point() and not torch.equal(before, after):
        raise Unusable(f"{name} holds other whole numbers {tuned} than {of_base}, with nothing between; {remedy}.")


def merge_tensor(before: Tensor, after: Tensor, scale: float, setting: Setting, name: str) -> Tensor:
    """A tensor of the base and of the candidate -> the merged one, in the dtype of `after`.

    Scale 0 is the base and scale 1 without trimming the candidate, both to the last bit; between, sums are in float32.
    name: seeds dare.
    """
    whole = setting.density in (None, 1)
    if not after.is_floating_point() or (whole and scale == 1):
        return after
    if scale == 0:
        return before.to(after.dtype)
    return _line(before, after, scale) if whole else _trimmed(before, after, scale, setting, name)


def _line(before: Tensor, after: Tensor, scale: float) -> Tensor:
    import torch

    out, wide = torch.empty_like(after), _wide(before, after)
    chunks = (tensor.view(-1).split(CHUNK) for tensor in (before, after, out))
    for base, tuned, here in zip(*chunks, strict=True):
        here.copy_(torch.lerp(base.to(wide), tuned.to(wide), scale))
    return out


def _trimmed(before: Tensor, after: Tensor, scale: float, setting: Setting, name: str) -> Tensor:
    import torch
    from peft.utils.merge_utils import dare_linear, ties

    wide = _wide(before, after)
    update, weight = [after.to(wide) - before.to(wide)], torch.tensor([scale], dtype=wide)
    if setting.method == "ties":
        kept = ties(update, weight, setting.density)
    else:
        digest = hashlib.sha256(f"{setting.seed}/{name}".encode()).digest()
        with torch.random.fork_rng(devices=[]):  # peft draws from the global generator of the CPU
            torch.random.default_generator.manual_seed(int.from_bytes(digest[:8]))
            kept = dare_linear(update, weight, setting.density)
    return (before.to(wide) + kept).to(after.dtype)


def _wide(*tensors: Tensor):
    import torch

    return torch.float64 if any(tensor.dtype == torch.float64 for tensor in tensors) else torch.float32
