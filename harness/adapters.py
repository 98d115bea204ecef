"""Putting a PEFT adapter on a loaded base: applied whole, and the base stays what it is.

model = put_on(base, adapter)                          # beside the adapters that it has
with folded(model, adapter.digest, packed=True):       # added to copies of the weights, where `can_fold`
    model(**inputs)
"""

from __future__ import annotations

import contextlib
from collections import Counter
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn

from harness.checkpoints import ADAPTER_WEIGHTS, MERGE, CheckedModel
from harness.memory import free_memory
from harness.onednn import forget, own_again, stand_in
from harness.specs import Unusable


def put_on(loaded, adapter: CheckedModel):
    """The PeftModel of a base, or of one with adapters, that has this one too.

    `Unusable` unless it is exactly the adapter and can be switched off again. The model given is spoiled then: half an
    adapter may be on it, or its weights may have changed.
    """
    from peft import PeftModel

    kept = {parameter: _state(parameter) for parameter in loaded.parameters()}
    whole = _whole_weights(loaded, adapter)
    if isinstance(loaded, PeftModel):
        loaded.load_adapter(adapter.path, adapter_name=adapter.digest)
    else:
        loaded = PeftModel.from_pretrained(loaded, adapter.path, adapter_name=adapter.digest)
    check_applied(loaded, adapter)
    for name, (own, before, brought) in whole.items():
        if _state(own) == kept[own]:  # PEFT keeps it apart
            continue
        brought = brought.to(before.device)
        rounded = torch.equal(before.to(brought.dtype), brought) or torch.equal(before, brought.to(before.dtype))
        if not rounded:
            raise Unusable(
                f"adapter '{adapter.spec.text}' brings along {name}, which is not its base's and which modules_to_save"
                f" of its adapter_config.json does not name, so it cannot be switched off; {MERGE}."
            )
        own.data.copy_(before)  # PEFT has put there what was brought, rounded
        kept[own] = _state(own)
    if any(_state(parameter) != state for parameter, state in kept.items()):
        raise Unusable(f"adapter '{adapter.spec.text}' changes weights of its base when it is put on; {MERGE}.")
    return loaded


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


def can_fold(loaded) -> bool:
    """True if there is room for copies of the adapted weights, and nothing else computes with these.

    What is quantized PEFT replaces by other parameters, and nothing would put the base's back.
    """
    if getattr(loaded.config, "quantization_config", None) or _acts_on_shared_weights(loaded):
        return False
    needed = sum(weight.nbytes for layer in _adapted(loaded) for weight in _own_weights(layer))
    return free_memory(torch.device("cpu")) > 1.2 * needed  # the kernel grants more, and ends the process later


@contextlib.contextmanager
def folded(loaded, adapter: str, packed: bool) -> Iterator[None]:
    """The adapter added to copies of the weights it acts on: a sixth faster; the base's own come back untouched.

    packed: of such a copy nothing is held but what is packed, where it can be.
    PEFT's `unmerge_adapter` would subtract the change again, which does not give the base to the last bit.
    """
    layers = _adapted(loaded)
    linears = [layer.get_base_layer() for layer in layers]
    kept = [(weight, weight.data) for layer in layers for weight in _own_weights(layer)]
    stood_in: list[nn.Module] = []

    def unfold() -> None:
        own_again(stood_in)
        for weight, data in kept:
            weight.data = data
        forget(linears)
        for layer in layers:
            layer.merged_adapters.clear()

    forget(linears)  # the base's: before its copies are made, so that never all lie side by side
    try:
        try:
            loaded.merge_adapter(adapter_names=[adapter], safe_merge=True)  # safe: into a copy
        except (MemoryError, RuntimeError, ValueError, NotImplementedError):
            unfold()  # no room for the copies, or a layer that PEFT does not merge: the adapter acts beside them
        else:
            own = {id(weight): data for weight, data in kept}
            for linear in linears if packed else ():
                if stand_in(linear, linear.weight):
                    stood_in.append(linear)
                    linear.weight.data = own[id(linear.weight)]
        yield
    finally:
        unfold()


def _adapted(loaded) -> list[Any]:
    from peft.tuners.tuners_utils import BaseTunerLayer

    return [module for module in loaded.modules() if isinstance(module, BaseTunerLayer)]


def _own_weights(layer) -> Iterator[nn.Parameter]:
    return layer.get_base_layer().parameters(recurse=False)


def _acts_on_shared_weights(loaded) -> bool:
    """True if some adapted weight has a second place in the model, where the adapter does not act: tied embeddings."""
    places = Counter(id(weight) for _, weight in loaded.named_parameters(remove_duplicate=False))
    return any(places[id(weight)] > 1 for layer in _adapted(loaded) for weight in _own_weights(layer))


def _state(parameter: nn.Parameter) -> tuple[int, int]:
    """Differs once the parameter's numbers were written to or exchanged."""
    return parameter.data_ptr(), 0 if parameter.is_inference() else parameter._version


def _whole_weights(loaded, adapter: CheckedModel) -> dict[str, tuple[nn.Parameter, Tensor, Tensor]]:
    """name -> (the base's parameter, its value now, what the adapter's file brings along of that name).

    PEFT keeps those of modules_to_save apart, and writes the others into the base: embeddings beside a LoRA on them.
    """
    from safetensors import safe_open

    own = {_plain(name): parameter for name, parameter in loaded.named_parameters(remove_duplicate=False)}
    found = {}
    with safe_open(adapter.path / ADAPTER_WEIGHTS, framework="pt") as tensors:
        for key in tensors.keys():  # noqa: SIM118
            if (name := _plain(key)) in own:
                found[name] = own[name], own[name].detach().clone(), tensors.get_tensor(key)
    return found


def _plain(name: str) -> str:
    """A parameter's name in the base, whatever PEFT has wrapped around its module."""
    for part in (".base_layer", ".original_module"):
        name = name.replace(part, "")
    return name.removeprefix("base_model.model.")
