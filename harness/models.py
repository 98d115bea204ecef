"""ModelSpec -> checked files, digest, loaded model.

Everything that can be known from files is checked before anything is loaded: weights that are pickled, not finite or
made for another base, tokenizers that differ, code from a hub. Base and adapters share one loaded model: switching
the adapter off gives the base exactly.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from harness import assets
from harness.fingerprint import digest_of, file_digest, files_digest, first_nonfinite
from harness.specs import ModelSpec, Unusable

TOKENIZER_FILES = (
    "tokenizer.json", "tokenizer_config.json", "tokenizer.model", "vocab.json", "merges.txt", "special_tokens_map.json",
    "added_tokens.json", "chat_template.jinja", "chat_template.json",
)  # fmt: skip
PICKLED = ("*.bin", "*.pt", "*.pth", "*.ckpt", "*.pkl")
NOTE = "lethe.json"  # what our recipes write beside an adapter: which base, which data, which settings


@dataclass(frozen=True)
class CheckedModel:
    """A model whose files were checked. path: its directory; base: an adapter's base; digest: over all that acts."""

    spec: ModelSpec
    path: Path
    digest: str
    base: CheckedModel | None = None

    @property
    def is_adapter(self) -> bool:
        return self.base is not None

    @property
    def tokenizer_path(self) -> Path:
        own = (self.path / "tokenizer.json").is_file() or (self.path / "tokenizer_config.json").is_file()
        return self.path if own or self.base is None else self.base.tokenizer_path


def check(spec: ModelSpec, base: CheckedModel | None = None, trust_remote_code: bool = False) -> CheckedModel:
    """Resolves a spec to files and checks them; `Unusable` says what is wrong. base: needed for an adapter."""
    path = _resolve(spec)
    if (path / "adapter_config.json").is_file():
        return _check_adapter(spec, path, base)
    config = _read_json(path / "config.json", spec)
    if config.get("auto_map") and not trust_remote_code:
        raise Unusable(
            f"model '{spec.text}' wants to run code of its own ({config['auto_map']}); read it, then allow it with"
            " --trust-remote-code."
        )
    weights = _weights(path, spec)
    _finite(weights, spec)
    parts = {
        "weights": files_digest(weights),
        "config": {k: v for k, v in config.items() if k not in ("_name_or_path", "transformers_version")},
        "tokenizer": files_digest(p for name in TOKENIZER_FILES if (p := path / name).is_file()),
        "generation": files_digest(p for p in [path / "generation_config.json"] if p.is_file()),
    }
    return CheckedModel(spec, path, digest_of(parts))


def _resolve(spec: ModelSpec) -> Path:
    if spec.kind == "embedded":
        return assets.embedded(spec.location)
    if spec.kind in ("local", "adapter"):
        return Path(spec.location)
    if spec.kind == "hub":
        return _from_hub(spec)
    raise Unusable(f"model '{spec.text}' cannot be loaded here; name a directory, a hub id or embedded:NAME.")


def _from_hub(spec: ModelSpec) -> Path:
    from huggingface_hub import snapshot_download

    patterns = ["*.safetensors", "*.json", "*.jinja", "*.model", "*.txt", "*.py"]
    try:
        return Path(snapshot_download(spec.location, revision=spec.revision, allow_patterns=patterns))
    except Exception as error:
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise Unusable(
            f"model '{spec.text}' could not be fetched from the hub ({reason}); check the name and the network, or name"
            " a local directory."
        ) from None


def _weights(path: Path, spec: ModelSpec, pattern: str = "*.safetensors") -> list[Path]:
    index = path / "model.safetensors.index.json"
    if index.is_file():
        names = sorted(set(_read_json(index, spec).get("weight_map", {}).values()))
        missing = [name for name in names if not (path / name).is_file()]
        if missing or not names:
            raise Unusable(
                f"model '{spec.text}' lacks the weight file {(missing or ['of its index'])[0]}; copy the whole"
                " checkpoint."
            )
        return [path / name for name in names]
    found = sorted(path.glob(pattern))
    if not found:
        pickled = sorted(p.name for glob in PICKLED for p in path.glob(glob))
        if pickled:
            raise Unusable(
                f"model '{spec.text}' has pickled weights only ({pickled[0]}), which can run code; save it as"
                " safetensors."
            )
        raise Unusable(f"model '{spec.text}' has no *.safetensors file in {path}; save it with save_pretrained.")
    return found


def _finite(weights: Sequence[Path], spec: ModelSpec) -> None:
    for file in weights:
        try:
            tensor = first_nonfinite(file)
        except Exception as error:  # safetensors raises its own types for a damaged file
            raise Unusable(
                f"weight file {file.name} of '{spec.text}' cannot be read ({error}); copy it again."
            ) from None
        if tensor:
            raise Unusable(
                f"model '{spec.text}' has NaN or Inf in {tensor} ({file.name}); the training diverged: take an earlier"
                " checkpoint."
            )


def _check_adapter(spec: ModelSpec, path: Path, base: CheckedModel | None) -> CheckedModel:
    config = _read_json(path / "adapter_config.json", spec)
    if base is None:
        raise Unusable(f"'{spec.text}' is an adapter and cannot be the base; name its base with --base.")
    weights = path / "adapter_model.safetensors"
    if not weights.is_file():
        _weights(path, spec, "adapter_model.safetensors")
    _finite([weights], spec)
    _same_base(spec, path, config, base)
    _shapes_fit(spec, weights, base)
    tokenizer = files_digest(p for name in TOKENIZER_FILES if (p := path / name).is_file())
    parts = {"base": base.digest, "weights": file_digest(weights), "adapter": config, "tokenizer": tokenizer}
    return CheckedModel(spec, path, digest_of(parts), base)


def _same_base(spec: ModelSpec, path: Path, config: dict[str, Any], base: CheckedModel) -> None:
    note = path / NOTE
    if note.is_file() and (trained_on := _read_json(note, spec).get("base_weights")):
        if trained_on != weights_digest(base):
            raise Unusable(
                f"adapter '{spec.text}' was trained on other base weights than '{base.spec.text}'; name the base that"
                f" {NOTE} records."
            )
        return
    named = str(config.get("base_model_name_or_path") or "")
    own = {base.spec.text, base.spec.location, str(base.path), base.path.name, base.spec.location.rsplit("/", 1)[-1]}
    if named not in own and named.rstrip("/").rsplit("/", 1)[-1] not in own:
        raise Unusable(
            f"adapter '{spec.text}' was trained on '{named}' and --base is '{base.spec.text}'; name that base, or"
            " correct base_model_name_or_path in adapter_config.json if they are the same."
        )


def weights_digest(model: CheckedModel) -> str:
    """Digest of a base's weight files alone, by which an adapter recognises its base."""
    return files_digest(_weights(model.path, model.spec))


def _shapes_fit(spec: ModelSpec, weights: Path, base: CheckedModel) -> None:
    """Each LoRA factor must fit the base tensor it is for: A is [r, inputs], B is [outputs, r]."""
    from safetensors import safe_open

    shapes = {}
    for file in _weights(base.path, base.spec):
        with safe_open(file, framework="pt") as tensors:
            shapes |= {name: tensors.get_slice(name).get_shape() for name in tensors.keys()}  # noqa: SIM118
    with safe_open(weights, framework="pt") as tensors:
        for name in tensors.keys():  # noqa: SIM118
            module, factor, _ = name.removeprefix("base_model.model.").partition(".lora_")
            target, shape = shapes.get(f"{module}.weight"), tensors.get_slice(name).get_shape()
            if not factor or len(shape) != 2:
                continue
            side = 1 if name.endswith("lora_A.weight") else 0
            if target is None or (name.endswith(("lora_A.weight", "lora_B.weight")) and target[side] != shape[side]):
                raise Unusable(
                    f"adapter '{spec.text}' does not fit '{base.spec.text}' at {module} ({shape} on {target}); it has"
                    " another base."
                )


def _read_json(path: Path, spec: ModelSpec) -> dict[str, Any]:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, json.JSONDecodeError) as error:
        raise Unusable(
            f"{path.name} of model '{spec.text}' cannot be read ({error}); copy the whole directory again."
        ) from None


# ---- tokenizers ------------------------------------------------------------------------------------------------------


def load_tokenizer(model: CheckedModel, trust_remote_code: bool = False):
    from transformers import AutoTokenizer

    try:
        return AutoTokenizer.from_pretrained(model.tokenizer_path, trust_remote_code=trust_remote_code)
    except Exception as error:
        reason = str(error).strip().splitlines()[0]
        raise Unusable(
            f"the tokenizer of '{model.spec.text}' cannot be loaded ({reason}); save it beside the weights."
        ) from None


def check_tokenizers(base: CheckedModel, candidate: CheckedModel, chat: bool, trust_remote_code: bool = False):
    """Both sides must turn every text into the same tokens; returns the tokenizer they share."""
    ours = load_tokenizer(base, trust_remote_code)
    if chat and not ours.chat_template:
        raise Unusable(
            f"model '{base.spec.text}' has no chat template, which the basket needs; add one, or set chat = false in"
            " the basket."
        )
    if candidate.tokenizer_path == base.tokenizer_path:
        return ours
    theirs = load_tokenizer(candidate, trust_remote_code)
    for what, a, b in (
        ("vocabularies", ours.get_vocab(), theirs.get_vocab()),
        ("special tokens", ours.special_tokens_map, theirs.special_tokens_map),
        ("chat templates", ours.chat_template if chat else None, theirs.chat_template if chat else None),
        ("tokenizations", *(t("Forty-two: naïve  café\n\tx = 0x1F; 東京 🙂").input_ids for t in (ours, theirs))),
    ):
        if a != b:
            raise Unusable(
                f"the {what} of '{base.spec.text}' and '{candidate.spec.text}' differ, so their scores cannot be"
                " paired; give both the base's tokenizer files."
            )
    return ours


# ---- loading ---------------------------------------------------------------------------------------------------------


def pick_device(wanted: str = "auto") -> str:
    """auto, cpu, cuda or cuda:i -> a torch device; `Unusable` if it is not there."""
    import torch

    if wanted == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    kind, _, index = wanted.partition(":")
    if wanted == "cpu":
        return wanted
    if kind != "cuda" or (index and not index.isdigit()):
        raise Unusable(f"--device {wanted} is unknown; write auto, cpu, cuda or cuda:0.")
    if not torch.cuda.is_available():
        raise Unusable(f"--device {wanted}: this machine has no CUDA device that torch can use; write --device cpu.")
    if index and int(index) >= torch.cuda.device_count():
        raise Unusable(
            f"--device {wanted}: there are {torch.cuda.device_count()} CUDA devices, counted from 0; name one of them."
        )
    return wanted


DTYPES = ("auto", "float32", "bfloat16", "float16")


def pick_dtype(wanted: str, device: str) -> str:
    """auto -> float32 on a CPU, where bfloat16 is slower and no cheaper, and bfloat16 on CUDA."""
    if wanted not in DTYPES:
        raise Unusable(f"--dtype {wanted} is unknown; write one of {', '.join(DTYPES)}.")
    return ("float32" if device == "cpu" else "bfloat16") if wanted == "auto" else wanted


class LoadedModels:
    """Loads each model once per process. Adapters are put on their base, which stays usable by switching them off."""

    def __init__(self, device: str = "cpu", dtype: str = "float32", trust_remote_code: bool = False):
        self.device, self.dtype, self.trust_remote_code = device, dtype, trust_remote_code
        self._full: dict[str, Any] = {}
        self._tokenizers: dict[str, Any] = {}

    def tokenizer(self, model: CheckedModel):
        key = str(model.tokenizer_path)
        if key not in self._tokenizers:
            self._tokenizers[key] = load_tokenizer(model, self.trust_remote_code)
        return self._tokenizers[key]

    @contextlib.contextmanager
    def active(self, model: CheckedModel) -> Iterator[Any]:
        """The loaded model, acting as `model` inside the block: adapter on, or off for the base."""
        owner = model.base or model
        loaded = self._load(owner)
        if model.is_adapter:
            loaded = self._with_adapter(owner, loaded, model)
            loaded.set_adapter(model.digest)
            yield loaded
        elif hasattr(loaded, "disable_adapter"):
            with loaded.disable_adapter():
                yield loaded
        else:
            yield loaded

    def _load(self, model: CheckedModel):
        if model.digest not in self._full:
            import torch
            from transformers import AutoModelForCausalLM
            from transformers.utils import logging

            from harness.slots import SHARED_PREFIX

            logging.disable_progress_bar()
            self._full[model.digest] = AutoModelForCausalLM.from_pretrained(
                model.path,
                dtype=getattr(torch, self.dtype),
                device_map=None if self.device == "cpu" else {"": self.device},
                attn_implementation=SHARED_PREFIX,
                trust_remote_code=self.trust_remote_code,
                use_safetensors=True,
            ).eval()
        return self._full[model.digest]

    def _with_adapter(self, owner: CheckedModel, loaded, adapter: CheckedModel):
        from peft import PeftModel

        if not isinstance(loaded, PeftModel):
            loaded = PeftModel.from_pretrained(loaded, adapter.path, adapter_name=adapter.digest)
        elif adapter.digest not in loaded.peft_config:
            loaded.load_adapter(adapter.path, adapter_name=adapter.digest)
        self._full[owner.digest] = loaded.eval()
        return loaded
