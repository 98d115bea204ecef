"""CheckedModel -> loaded model. Base and adapters share one: switching the adapter off gives the base exactly."""

from __future__ import annotations

import contextlib
import gc
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from harness.asked import Asked
from harness.below import Below
from harness.checkpoint_files import weight_bytes, weight_files
from harness.checkpoints import ADAPTER_WEIGHTS, CheckedModel
from harness.chosen_attention import choose_ours
from harness.memory import free_memory
from harness.onednn import forget, own_again, packed_weights, stand_in
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
            folds = self._may_fold and not _acts_on_shared_weights(loaded)
            with _folded(loaded, model.digest, packed) if folds else contextlib.nullcontext(), faster(loaded):
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
            self._make_room(model)
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

    def _make_room(self, model: CheckedModel) -> None:
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
        from peft import PeftModel

        loaded = self._full.pop(owner.digest)  # comes back once the adapter is whole: half of one would act on the base
        if not isinstance(loaded, PeftModel):
            loaded = PeftModel.from_pretrained(loaded, adapter.path, adapter_name=adapter.digest)
        elif adapter.digest not in loaded.peft_config:
            loaded.load_adapter(adapter.path, adapter_name=adapter.digest)
        check_applied(loaded, adapter)
        self._full[owner.digest] = loaded.eval()
        return loaded


def _acts_on_shared_weights(loaded) -> bool:
    """True if some adapted weight has a second place in the model, where the adapter does not act: tied embeddings."""
    from collections import Counter

    from peft.tuners.tuners_utils import BaseTunerLayer

    places = Counter(id(weight) for _, weight in loaded.named_parameters(remove_duplicate=False))
    layers = (module.get_base_layer() for module in loaded.modules() if isinstance(module, BaseTunerLayer))
    return any(places[id(weight)] > 1 for layer in layers for weight in layer.parameters(recurse=False))


@contextlib.contextmanager
def _folded(loaded, adapter: str, packed: bool) -> Iterator[None]:
    """The adapter added to copies of the weights it acts on: a sixth faster; the base's own come back untouched.

    packed: of such a copy nothing is held but what is packed, where it can be.
    PEFT's `unmerge_adapter` would subtract the change again, which does not give the base to the last bit.
    """
    from peft.tuners.tuners_utils import BaseTunerLayer

    layers = [module for module in loaded.modules() if isinstance(module, BaseTunerLayer)]
    folded = [layer.get_base_layer() for layer in layers]
    kept = [(weight, weight.data) for layer in folded for weight in layer.parameters(recurse=False)]
    stood_in: list[Any] = []

    def unfold() -> None:
        own_again(stood_in)
        for weight, data in kept:
            weight.data = data
        forget(folded)
        for layer in layers:
            layer.merged_adapters.clear()

    forget(folded)  # the base's: before its copies are made, so that never all lie side by side
    try:
        try:
            loaded.merge_adapter(adapter_names=[adapter], safe_merge=True)  # safe: into a copy
        except (MemoryError, RuntimeError, ValueError, NotImplementedError):
            unfold()  # no room for the copies, or a layer that PEFT does not merge: the adapter acts beside them
        else:
            own = {id(weight): data for weight, data in kept}
            for layer in folded if packed else ():
                if stand_in(layer, layer.weight):
                    stood_in.append(layer)
                    layer.weight.data = own[id(layer.weight)]
        yield
    finally:
        unfold()


def check_applied(loaded, adapter: CheckedModel) -> None:
    """`Unusable` unless an adapter's file and its configuration name the same weights.

    PEFT fills in what the file lacks and drops what the configuration does not name, with a warning.
    """
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
