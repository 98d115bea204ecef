"""`--backend vllm`: the requests of an audit answered by vLLM through lm-eval's own class.

Behind the colon stand arguments of that class: `--backend vllm:tensor_parallel_size=2,gpu_memory_utilization=0.8`.
Prefixes are cached by vLLM; several GPUs, of one host or of several under Ray, come by tensor_parallel_size and
data_parallel_size.
vLLM is not among the requirements: it brings a torch of its own, so it is for those who have installed it.
"""

from __future__ import annotations

import importlib.util
import logging
from typing import Any

from harness.checkpoint_files import read_json
from harness.checkpoints import CheckedModel
from harness.specs import Unusable

NAME = "vllm"
RANK = 64  # of an adapter, unless max_lora_rank says otherwise
OURS = {"pretrained", "dtype", "trust_remote_code", "lora_local_path", "seed"}


def parse_backend(text: str) -> tuple[str, dict[str, Any]]:
    """hf | vllm[:key=value,…] -> (name, arguments); `Unusable` for others and where vLLM is not installed."""
    name, colon, rest = text.partition(":")
    if name not in ("hf", NAME) or (colon and name == "hf"):
        raise Unusable(f"--backend {text} is unknown; write hf, vllm or vllm:key=value,….")
    arguments = dict(part.partition("=")[::2] for part in rest.split(",") if part.strip())
    if odd := [key for key, value in arguments.items() if not key.strip() or not value.strip()]:
        raise Unusable(f"--backend {text}: '{odd[0]}' is no key=value; write as in vllm:tensor_parallel_size=2.")
    if own := sorted(OURS & {key.strip() for key in arguments}):
        raise Unusable(f"--backend {text}: {own[0]} is set by Lethe's own options; leave it out.")
    if name == NAME and importlib.util.find_spec(NAME) is None:
        raise Unusable(f"--backend {text}: vLLM is not installed; install it, or write --backend hf.")
    return name, {key.strip(): _value(value.strip()) for key, value in arguments.items()}


def _value(text: str) -> Any:
    for read in (int, float):
        try:
            return read(text)
        except ValueError:
            continue
    return {"true": True, "false": False}.get(text.lower(), text)


class VllmModels:
    """One vLLM engine at a time, as each takes most of a GPU; adapters are switched on and off over their base."""

    def __init__(self, dtype: str, arguments: dict[str, Any], trust_remote_code: bool = False):
        self.dtype, self.arguments, self.trust_remote_code = dtype, arguments, trust_remote_code
        self._owner: str | None = None
        self._lm: Any = None
        self._adapters: dict[str, int] = {}

    def lm(self, model: CheckedModel):
        """lm-eval's vLLM backend, acting as `model`."""
        owner = model.base or model
        if self._owner != owner.digest:
            self._lm = None  # frees the GPU before the next engine claims it
            self._lm, self._owner = self._open(owner), owner.digest
        self._lm.lora_request = self._lora(model) if model.is_adapter else None
        return self._lm

    def _open(self, owner: CheckedModel):
        from lm_eval.models.vllm_causallms import VLLM

        logging.getLogger("lm_eval").setLevel(logging.ERROR)
        given = {"enable_prefix_caching": True, "enable_lora": True, "max_lora_rank": RANK, "batch_size": "auto"}
        return VLLM(
            pretrained=str(owner.path),
            dtype=self.dtype,
            trust_remote_code=self.trust_remote_code,
            **(given | self.arguments),
        )

    def _lora(self, model: CheckedModel):
        from vllm.lora.request import LoRARequest

        rank, most = (
            read_json(model.path / "adapter_config.json", model.spec)["r"],
            self.arguments.get("max_lora_rank", RANK),
        )
        if rank > most:
            raise Unusable(
                f"adapter '{model.spec.text}' has rank {rank} and vLLM is opened for {most}; write --backend"
                f" vllm:max_lora_rank={rank}."
            )
        number = self._adapters.setdefault(model.digest, len(self._adapters) + 1)
        return LoRARequest(model.digest[:12], number, str(model.path))
