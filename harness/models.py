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
    "added_tokens.json", "chat_template.jinja", "chat_template.json", "vocab.txt", "spiece.model", "tekken.json",
)  # fmt: skip
PICKLED = ("*.bin", "*.pt", "*.pth", "*.ckpt", "*.pkl")
ADAPTER_WEIGHTS = "adapter_model.safetensors"
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
        return _check_adapter(spec, path, base, trust_remote_code)
    config = _read_json(path / "config.json", spec)
    code = _own_code(path, spec)
    if code and not trust_remote_code:
        raise Unusable(
            f"model '{spec.text}' wants to run code of its own ({code}); read it, then allow it with"
            " --trust-remote-code."
        )
    weights = _weights(path, spec)
    _finite(weights, spec)
    _shapes(path, spec, trust_remote_code)
    parts = {
        "weights": files_digest(weights),
        "config": {k: v for k, v in config.items() if k not in ("_name_or_path", "transformers_version")},
        "tokenizer": files_digest(p for name in TOKENIZER_FILES if (p := path / name).is_file()),
        "generation": files_digest(p for p in [path / "generation_config.json"] if p.is_file()),
    }
    if code:
        parts["code"] = files_digest(path.glob("*.py"))
    return CheckedModel(spec, path, digest_of(parts))


def _own_code(path: Path, spec: ModelSpec) -> Any:
    """What the model or its tokenizer would import from its own directory or repository; None if nothing."""
    files = (path / "config.json", path / "tokenizer_config.json")
    return next((map_ for p in files if p.is_file() and (map_ := _read_json(p, spec).get("auto_map"))), None)


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
        raise Unusable(
            f"model '{spec.text}' could not be fetched from the hub ({_reason(error)}); check the name and the network,"
            " or name a local directory."
        ) from None


def _weights(path: Path, spec: ModelSpec, single: str = "model.safetensors") -> list[Path]:
    """The weight files that transformers would load, which prefers a single file to an index."""
    if (path / single).is_file():
        return [path / single]
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
    pickled = sorted(p.name for glob in PICKLED for p in path.glob(glob))
    if pickled:
        raise Unusable(
            f"model '{spec.text}' has pickled weights only ({pickled[0]}), which can run code; save it as safetensors."
        )
    raise Unusable(f"model '{spec.text}' has no {single} in {path}; save it with save_pretrained.")


def _finite(weights: Sequence[Path], spec: ModelSpec) -> None:
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


def _shapes(path: Path, spec: ModelSpec, trust_remote_code: bool) -> dict[str, Sequence[int]]:
    """Shape of each parameter by its name in the model, which a checkpoint may call otherwise; reads no weights."""
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM

    try:
        config = AutoConfig.from_pretrained(path, trust_remote_code=trust_remote_code)
        with torch.device("meta"):
            model = AutoModelForCausalLM.from_config(config, trust_remote_code=trust_remote_code)
    except Exception as error:  # whatever a wrong configuration makes transformers or the model's own code raise
        raise Unusable(
            f"model '{spec.text}' is no causal language model that transformers can build ({_reason(error)}); check its"
            " config.json, or update transformers."
        ) from None
    return {name: list(weight.shape) for name, weight in model.named_parameters(remove_duplicate=False)}


def _check_adapter(
    spec: ModelSpec, path: Path, base: CheckedModel | None, trust_remote_code: bool = False
) -> CheckedModel:
    config = _read_json(path / "adapter_config.json", spec)
    if base is None:
        raise Unusable(f"'{spec.text}' is an adapter and cannot be the base; name its base with --base.")
    if config.get("bias", "none") != "none":
        raise Unusable(
            f"adapter '{spec.text}' changes biases of its base (bias = {config['bias']!r}), which cannot be switched"
            " off again; merge it into the base and name the merged directory."
        )
    weights = _weights(path, spec, ADAPTER_WEIGHTS)[0]
    _finite([weights], spec)
    _same_base(spec, path, config, base)
    _shapes_fit(spec, weights, _shapes(base.path, base.spec, trust_remote_code), base, config)
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


def _shapes_fit(
    spec: ModelSpec, weights: Path, shapes: dict[str, Sequence[int]], base: CheckedModel, config: dict[str, Any]
) -> None:
    """Each LoRA factor must fit the base weight it is for: A is [r, inputs], B is [outputs, r].

    The weight is [outputs, inputs], or the other way round in layers that `fan_in_fan_out` speaks of (GPT-2). Whole
    weights that an adapter brings along must have the shape of the base's.
    """
    from safetensors import safe_open

    with safe_open(weights, framework="pt") as tensors:
        for name in tensors.keys():  # noqa: SIM118
            module, factor, _ = name.removeprefix("base_model.model.").partition(".lora_")
            shape = tensors.get_slice(name).get_shape()
            target = shapes.get(f"{module}.weight" if factor else module)
            fits = target is not None if factor else target in (None, shape)
            if fits and name.endswith(("lora_A.weight", "lora_B.weight")) and len(shape) == 2:
                side = int(name.endswith("lora_A.weight"))
                fits = target[side ^ bool(config.get("fan_in_fan_out"))] == shape[side]
            if not fits:
                raise Unusable(
                    f"adapter '{spec.text}' does not fit '{base.spec.text}' at {module} ({shape} on {target}); it has"
                    " another base."
                )


def _read_json(path: Path, spec: ModelSpec) -> dict[str, Any]:
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
        if not isinstance(value, dict):
            raise ValueError("it holds no JSON object")
    except (OSError, ValueError) as error:
        raise Unusable(
            f"{path.name} of model '{spec.text}' cannot be read ({error}); copy the whole directory again."
        ) from None
    return value


def _reason(error: Exception) -> str:
    """The first line of an error of a library."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0]


# ---- tokenizers ------------------------------------------------------------------------------------------------------


def load_tokenizer(model: CheckedModel, trust_remote_code: bool = False):
    from transformers import AutoTokenizer

    try:
        return AutoTokenizer.from_pretrained(model.tokenizer_path, trust_remote_code=trust_remote_code)
    except Exception as error:
        raise Unusable(
            f"the tokenizer of '{model.spec.text}' cannot be loaded ({_reason(error)}); save it beside the weights."
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
        ("special tokens", *(t.special_tokens_map | {"pad_token": None} for t in (ours, theirs))),  # pads are masked
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
    if kind != "cuda" or (wanted != "cuda" and not index.isdecimal()):
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
            loaded = self._with_adapter(owner, model)
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
            loaded, report = AutoModelForCausalLM.from_pretrained(
                model.path,
                dtype=getattr(torch, self.dtype),
                device_map=None if self.device == "cpu" else {"": self.device},
                attn_implementation=SHARED_PREFIX,
                trust_remote_code=self.trust_remote_code,
                use_safetensors=True,
                output_loading_info=True,
            )
            if missing := sorted(report["missing_keys"]):  # transformers draws them at random, with a warning
                raise Unusable(
                    f"the checkpoint of '{model.spec.text}' lacks {missing[0]} ({len(missing)} in all); copy or save"
                    " the whole model again."
                )
            self._full[model.digest] = loaded.eval()
        return self._full[model.digest]

    def _with_adapter(self, owner: CheckedModel, adapter: CheckedModel):
        from peft import PeftModel

        loaded = self._full.pop(owner.digest)  # comes back once the adapter is whole: half of one would act on the base
        if not isinstance(loaded, PeftModel):
            loaded = PeftModel.from_pretrained(loaded, adapter.path, adapter_name=adapter.digest)
        elif adapter.digest not in loaded.peft_config:
            loaded.load_adapter(adapter.path, adapter_name=adapter.digest)
        _all_applied(loaded, adapter)
        self._full[owner.digest] = loaded.eval()
        return loaded


def _all_applied(loaded, adapter: CheckedModel) -> None:
    """PEFT fills in what an adapter's file lacks and drops what the configuration does not name, with a warning."""
    from peft import get_peft_model_state_dict
    from safetensors import safe_open

    state = get_peft_model_state_dict(loaded, adapter_name=adapter.digest, save_embedding_layers=False)
    with safe_open(adapter.path / ADAPTER_WEIGHTS, framework="pt") as tensors:
        held = {name for name in tensors.keys() if ".lora_" in name or name in state}  # noqa: SIM118
    if odd := sorted(held ^ set(state)):
        raise Unusable(
            f"the weights of adapter '{adapter.spec.text}' and its adapter_config.json disagree about {odd[0]}"
            f" ({len(odd)} in all); save both together again."
        )
