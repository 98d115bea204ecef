"""ModelSpec -> checked files and their digest.

Everything that can be known from files is checked before anything is loaded: weights that are pickled, not finite or
made for another base, adapters that cannot be switched off, code from a hub.
"""

from __future__ import annotations

import os.path
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from harness import assets
from harness.checkpoint_files import check_finite, check_shapes, model_shapes, read_json, reason, weight_files
from harness.fingerprint import digest_of, file_digest, files_digest
from harness.specs import ModelSpec, Unusable

TOKENIZER_FILES = (
    "tokenizer.json", "tokenizer_config.json", "tokenizer.model", "vocab.json", "merges.txt", "special_tokens_map.json",
    "added_tokens.json", "chat_template.jinja", "chat_template.json", "vocab.txt", "spiece.model", "tekken.json",
)  # fmt: skip
ADAPTER_WEIGHTS = "adapter_model.safetensors"
NOTE = "lethe.json"  # what our recipes write beside an adapter: which base, which data, which settings
PROMPT_TYPES = {"PROMPT_TUNING", "MULTITASK_PROMPT_TUNING", "PREFIX_TUNING", "P_TUNING", "ADAPTION_PROMPT", "CPT"}
MERGE = "merge it into the base and name the merged directory"  # what helps where an adapter cannot be judged
# Starts of an adapter that peft takes out of the base's weights when it puts the adapter on, so that the base moves.
MOVES_BASE = ("pissa", "olora", "corda", "loftq", "lora_ga")
HUB_ID = re.compile(r"\w[\w.-]*/[\w.-]+")
HUB_CACHE = re.compile(r"(?:^|/)models--([^/]+)--([^/]+)(?:/|$)")
GENERIC = {
    "base", "best", "checkpoint", "ckpt", "dpo", "epoch", "final", "finetuned", "global", "hf", "last", "latest",
    "merged", "model", "models", "out", "output", "outputs", "result", "results", "run", "sft", "step", "trained", "v",
}  # fmt: skip  # words in names of directories that tell no model from another


@dataclass(frozen=True)
class CheckedModel:
    """A model whose files were checked.

    path: its directory; base: an adapter's base; digest: over all that acts; positions: how many tokens it takes, None
    where its configuration names no limit; routed: the adapter that answers what its router hands it, where the base
    answers the rest.
    """

    spec: ModelSpec
    path: Path
    digest: str
    base: CheckedModel | None = None
    positions: int | None = None
    routed: CheckedModel | None = None

    @property
    def is_adapter(self) -> bool:
        return self.base is not None

    @property
    def tokenizer_path(self) -> Path:
        if self.routed:
            return self.routed.tokenizer_path
        own = (self.path / "tokenizer.json").is_file() or (self.path / "tokenizer_config.json").is_file()
        return self.path if own or self.base is None else self.base.tokenizer_path


def check(spec: ModelSpec, base: CheckedModel | None = None, trust_remote_code: bool = False) -> CheckedModel:
    """Resolves a spec to files and checks them; `Unusable` says what is wrong. base: needed for an adapter."""
    if spec.kind == "served":
        from harness.served import check_served

        return check_served(spec)
    if spec.kind == "routed":
        return _check_routed(spec, base, trust_remote_code)
    path = _resolve(spec)
    if (path / "adapter_config.json").is_file():
        return _check_adapter(spec, path, base, trust_remote_code)
    config = read_json(path / "config.json", spec)
    code = own_code(path, spec)
    if elsewhere := _other_repository(code):
        raise Unusable(
            f"model '{spec.text}' runs code out of the repository {elsewhere}, which can change unseen; copy its .py"
            " files beside the weights and name them in auto_map without a repository."
        )
    if code and not trust_remote_code:
        raise Unusable(
            f"model '{spec.text}' wants to run code of its own ({code}); read it, then allow it with"
            " --trust-remote-code."
        )
    weights = weight_files(path, spec)
    check_finite(weights, spec)
    shapes = model_shapes(path, spec, trust_remote_code)
    if not config.get("quantization_config"):  # packed weights have shapes of their own
        check_shapes(weights, shapes, spec)
    parts = {
        "weights": files_digest(weights),
        "config": {k: v for k, v in config.items() if k not in ("_name_or_path", "transformers_version")},
        "tokenizer": files_digest(p for name in TOKENIZER_FILES if (p := path / name).is_file()),
        "generation": files_digest(p for p in [path / "generation_config.json"] if p.is_file()),
    }
    if code:
        parts["code"] = files_digest(path.glob("*.py"))
    return CheckedModel(spec, path, digest_of(parts), positions=_positions(config))


def _positions(config: dict[str, Any]) -> int | None:
    config = config.get("text_config") or config
    return config.get("max_position_embeddings") or config.get("n_positions")


def own_code(path: Path, spec: ModelSpec) -> dict[str, Any]:
    """What the model and its tokenizer would import, by the class that it stands for; empty if nothing."""
    found: dict[str, Any] = {}
    for file in ("config.json", "tokenizer_config.json"):
        told = (read_json(path / file, spec).get("auto_map") or {}) if (path / file).is_file() else {}
        for kind, name in (told if isinstance(told, dict) else {"AutoTokenizer": told}).items():  # a list in old ones
            found[f"{kind} of {file}" if kind in found else kind] = name
    return found


def _other_repository(auto_map: Mapping[str, Any]) -> str | None:
    """The repository that code comes from, where it is not the model's own: "org/name--file.Class"."""
    for given in auto_map.values():
        for name in given if isinstance(given, list) else [given]:
            if name and "--" in name:
                return name.partition("--")[0]
    return None


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
            f"model '{spec.text}' could not be fetched from the hub ({reason(error)}); check the name and the network,"
            " or name a local directory."
        ) from None


def _check_routed(spec: ModelSpec, base: CheckedModel | None, trust_remote_code: bool) -> CheckedModel:
    """A directory that mitigations.isolation wrote: an adapter, and the router that switches it on."""
    from harness.router import load_isolation, router_digest

    isolated = load_isolation(spec.location)
    if base is None:
        raise Unusable(
            f"'{spec.text}' switches an adapter on and off and cannot be the base; name its base with --base."
        )
    inside = ModelSpec(f"{spec.text}/adapter", "adapter", str(isolated.adapter))
    adapter = _check_adapter(inside, isolated.adapter, base, trust_remote_code)
    digest = digest_of({"adapter": adapter.digest, "router": router_digest(isolated.path / "router")})
    return CheckedModel(spec, isolated.path, digest, positions=base.positions, routed=adapter)


def _check_adapter(
    spec: ModelSpec, path: Path, base: CheckedModel | None, trust_remote_code: bool = False
) -> CheckedModel:
    config = read_json(path / "adapter_config.json", spec)
    if base is None:
        raise Unusable(f"'{spec.text}' is an adapter and cannot be the base; name its base with --base.")
    _switches_off(spec, config)
    weights = weight_files(path, spec, ADAPTER_WEIGHTS)[0]
    check_finite([weights], spec)
    _same_base(spec, path, config, base)
    _shapes_fit(spec, weights, model_shapes(base.path, base.spec, trust_remote_code), base, config)
    tokenizer = files_digest(p for name in TOKENIZER_FILES if (p := path / name).is_file())
    parts = {"base": base.digest, "weights": file_digest(weights), "adapter": config, "tokenizer": tokenizer}
    return CheckedModel(spec, path, digest_of(parts), base, base.positions)


def _switches_off(spec: ModelSpec, config: dict[str, Any]) -> None:
    """Base and adapter share one loaded model, so only what can be taken off exactly may be put on."""
    kind = config.get("peft_type")
    if kind != "LORA":
        remedy = "train a LoRA adapter instead" if kind in PROMPT_TYPES else MERGE
        raise Unusable(f"adapter '{spec.text}' has peft_type {kind} and only LORA can be judged; {remedy}.")
    if config.get("bias", "none") != "none":
        raise Unusable(
            f"adapter '{spec.text}' changes biases of its base (bias = {config['bias']!r}), which cannot be switched"
            f" off again; {MERGE}."
        )
    start = config.get("init_lora_weights")
    if isinstance(start, str) and start.lower().startswith(MOVES_BASE):
        raise Unusable(f"adapter '{spec.text}' starts from {start}, which moves its base when it is put on; {MERGE}.")
    for key in ("kasa_config", "layer_replication"):
        if config.get(key):
            raise Unusable(f"adapter '{spec.text}' has a {key}, which changes its base when it is put on; {MERGE}.")


def _same_base(spec: ModelSpec, path: Path, config: dict[str, Any], base: CheckedModel) -> None:
    """An adapter knows its base by the weights if our note or a base that lies here tells them, else by the name."""
    note = path / NOTE
    if note.is_file() and (trained_on := read_json(note, spec).get("base_weights")):
        if trained_on != weights_digest(base):
            raise Unusable(
                f"adapter '{spec.text}' was trained on other base weights than '{base.spec.text}'; name the base that"
                f" {NOTE} records."
            )
        return
    named = str(config.get("base_model_name_or_path") or "").rstrip("/")
    if named == (base.spec.location if base.spec.kind == "hub" else base.spec.text):
        return
    trained = f"adapter '{spec.text}' was trained on '{named}'"
    correct = "correct base_model_name_or_path in adapter_config.json"
    lies_here = _weights_digest_at(named)
    if lies_here == weights_digest(base):
        return
    if lies_here:
        raise Unusable(
            f"{trained}, whose weights are not those of '{base.spec.text}'; name that base, or {correct} if they are"
            " the same."
        )
    shared = _shared_name(named, base)
    if shared is None:
        raise Unusable(
            f"{trained} and --base is '{base.spec.text}'; name that base, or {correct} if they are the same."
        )
    if GENERIC.issuperset(re.findall(r"[^\W\d_]+", shared.lower())):
        raise Unusable(
            f"{trained}, which is not here, and the name '{shared}' does not tell whether that is '{base.spec.text}';"
            f" {correct} to the path or hub id of its base."
        )


def _weights_digest_at(named: str) -> str | None:
    """`weights_digest` of what lies at a path; None if no whole checkpoint that can be read does."""
    try:
        return files_digest(weight_files(Path(named), ModelSpec(named, "local", named))) if named else None
    except (Unusable, OSError):
        return None


def _shared_name(named: str, base: CheckedModel) -> str | None:
    """The name of a base that is not here, if --base has it too: hub ids whole, else the last part of paths."""
    theirs, ours = _hub_id(named), _hub_id(base.spec.location)
    if theirs and ours:
        return ours if theirs == ours else None
    last = (theirs or named).rsplit("/", 1)[-1]
    own = {(ours or base.spec.location).rsplit("/", 1)[-1], os.path.basename(os.path.abspath(base.spec.text))}
    return last if last in own else None


def _hub_id(name: str) -> str | None:
    """org/name, from a hub id or a path into the hub's cache; None for other paths."""
    if cached := HUB_CACHE.search(name):
        return "/".join(cached.groups())
    return name if HUB_ID.fullmatch(name) else None


def weights_digest(model: CheckedModel) -> str:
    """Digest of a base's weight files alone, by which an adapter recognises its base."""
    return files_digest(weight_files(model.path, model.spec))


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
            if factor and ".experts" in module:  # fused or one by one, in other names than the base's; put_on checks
                continue
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
