"""CheckedModel -> loaded model. Base and adapters share one: switching the adapter off gives the base exactly."""

from __future__ import annotations

import contextlib
import gc
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from harness.adapters import can_fold, folded, put_on
from harness.asked import Asked
from harness.checkpoint_files import weight_bytes, weight_files
from harness.checkpoints import CheckedModel
from harness.chosen_attention import choose_ours
from harness.lower_states import Below
from harness.memory import free_memory
from harness.onednn import packed_weights
from harness.specs import Unusable
from harness.tokenizers import load_tokenizer


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

    def __init__(
        self,
        device: str = "cpu",
        dtype: str = "float32",
        trust_remote_code: bool = False,
        backend: str = "hf",
        backend_arguments: Mapping[str, Any] | None = None,
        asked: Asked | None = None,
        candidates: Sequence[CheckedModel] = (),
    ):
        self.device, self.dtype, self.trust_remote_code = device, dtype, trust_remote_code
        self.backend, self.backend_arguments = backend, dict(backend_arguments or {})
        self.asked = asked  # what an audit asks of them, if it is known
        # that are asked what their base is asked
        self.adapters = [adapter for model in candidates if (adapter := model.routed or model).is_adapter]
        self._below: dict[str, Below | None] = {}
        self._full: dict[str, Any] = {}
        self._kept: dict[str, Any] = {}
        self._tokenizers: dict[str, Any] = {}

    def tokenizer(self, model: CheckedModel):
        key = str(model.tokenizer_path)
        if key not in self._tokenizers:
            self._tokenizers[key] = load_tokenizer(model, self.trust_remote_code)
        return self._tokenizers[key]

    def kept(self, key: str, make: Callable[[], Any]) -> Any:
        """What another backend holds open, made once."""
        if key not in self._kept:
            self._kept[key] = make()
        return self._kept[key]

    @contextlib.contextmanager
    def active(self, model: CheckedModel, packed: bool = True) -> Iterator[Any]:
        """The loaded model, acting as `model` inside the block: adapter on, or off for the base.

        packed: with the weights packed where that is faster, which shows in the last digits (`onednn`).
        """
        faster = packed_weights if packed else contextlib.nullcontext
        owner = model.base or model
        loaded = self._load(owner)
        if model.is_adapter:
            loaded = self._with_adapter(owner, model)
            loaded.set_adapter(model.digest)
            folds = self._may_fold and can_fold(loaded)
            with folded(loaded, model.digest, packed) if folds else contextlib.nullcontext(), faster(loaded):
                yield loaded
        elif hasattr(loaded, "disable_adapter"):
            with loaded.disable_adapter(), faster(loaded):
                yield loaded
        else:
            with faster(loaded):
                yield loaded

    def below(self, model: CheckedModel, loaded) -> Below | None:
        """States that a model, loaded as `loaded`, has in common with the base and the adapters that were named."""
        owner = (model.base or model).digest
        if owner not in self._below:
            adapters = [adapter for adapter in self.adapters if adapter.base.digest == owner]
            self._below[owner] = Below.of(loaded, adapters) if adapters else None
        found = self._below[owner]
        return found if found and (not model.is_adapter or found.covers(loaded, model)) else None

    @property
    def _may_fold(self) -> bool:
        """In float32 sums differ in the last digits only; half precision would round the change away."""
        return self.device == "cpu" and self.dtype == "float32"

    def _load(self, model: CheckedModel):
        if model.digest not in self._full:
            import torch
            from transformers import AutoModelForCausalLM
            from transformers.utils import logging

            logging.disable_progress_bar()
            self.make_room(model)
            loaded, report = AutoModelForCausalLM.from_pretrained(
                model.path,
                dtype=getattr(torch, self.dtype),
                device_map=None if self.device == "cpu" else {"": self.device},
                trust_remote_code=self.trust_remote_code,
                use_safetensors=True,
                output_loading_info=True,
            )
            if missing := sorted(report["missing_keys"]):  # transformers draws them at random, with a warning
                raise Unusable(
                    f"the checkpoint of '{model.spec.text}' lacks {missing[0]} ({len(missing)} in all); copy or save"
                    " the whole model again."
                )
            choose_ours(loaded)
            self._full[model.digest] = loaded.eval()
        return self._full[model.digest]

    def make_room(self, model: CheckedModel) -> None:
        """Lets go of other models, the longest loaded first, until the weights of this one fit."""
        import torch

        needed = 1.2 * weight_bytes(weight_files(model.path, model.spec), getattr(torch, self.dtype).itemsize)
        if self._full and free_memory(torch.device(self.device)) < needed:
            for below in filter(None, self._below.values()):
                below.clear()
        while self._full and free_memory(torch.device(self.device)) < needed:
            owner = next(iter(self._full))
            del self._full[owner]
            self._below.pop(owner, None)
            gc.collect()
            if self.device != "cpu":
                torch.cuda.empty_cache()

    def _with_adapter(self, owner: CheckedModel, adapter: CheckedModel):
        loaded = self._full[owner.digest]
        if adapter.digest not in getattr(loaded, "peft_config", {}):
            del self._full[owner.digest]  # it comes back once the adapter is whole: half of one would act on the base
            self._full[owner.digest] = loaded = put_on(loaded, adapter).eval()
        return loaded
