"""Linear layers on a CPU whose weights lie as oneDNN's kernels read them, instead of being brought there in every pass.

    with packed_weights(model):
        model(**inputs)     # the same but for the last digits

Few rows over a large vocabulary gain most. The kernels are those that torch.compile uses; torch has no public function
for them.
"""

from __future__ import annotations

import contextlib
import functools
import weakref
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from harness.memory import attempt, free_memory

LEAST = 2**14  # numbers in a weight below which a layout of its own gains nothing


@dataclass(frozen=True)
class _Packed:
    """A weight in the kernels' layout. source: the data that it was made from, held so that nothing else lies there."""

    source: Tensor
    version: int
    weight: Tensor

    def of(self, weight: Tensor) -> bool:
        return self.source.data_ptr() == weight.data_ptr() and self.version == weight._version


_packed: weakref.WeakKeyDictionary[nn.Linear, _Packed] = weakref.WeakKeyDictionary()


@contextlib.contextmanager
def packed_weights(model: nn.Module) -> Iterator[None]:
    """Inside the block, the float32 linear layers that `model` has on a CPU compute with packed weights.

    Gradients go through them to what was put in; a weight that is trained or changes is used as it then lies, except
    where `.data` is written in place, which nobody can see. What was packed is kept for the next block on the same
    weights. Nothing is changed where the memory would not hold the weights twice, or this build of torch lacks the
    kernels.
    """
    layers = [module for module in model.modules() if _fits(module)]
    forget(layer for layer in layers if layer in _packed and not _packed[layer].of(layer.weight))
    missing = [layer for layer in layers if layer not in _packed]
    if not layers or not works() or not _room(missing) or not _pack(missing):
        yield
        return
    for layer in layers:
        layer.forward = functools.partial(_forward, layer, _packed[layer])
    try:
        yield
    finally:
        own_again(layers)


def forget(layers: Iterable[nn.Module]) -> None:
    """Lets go of what was packed of these layers' weights."""
    for layer in layers:
        _packed.pop(layer, None)


def stand_in(layer: nn.Module, weight: Tensor) -> bool:
    """Lets a layer compute with another weight than its own, packed, of which nothing else need be held.

    False, and nothing is changed, where the weight cannot be packed. `own_again` ends it. Gradients do not pass:
    RuntimeError.
    """
    if not _fits(layer) or not works():
        return False
    if (packed := attempt(lambda: _reordered(weight.detach()), again=True)) is None:
        return False
    layer.forward = functools.partial(_standing_in, layer, packed)
    return True


def own_again(layers: Iterable[nn.Module]) -> None:
    """Lets the layers compute with their own weights again."""
    for layer in layers:
        vars(layer).pop("forward", None)


def _standing_in(layer: nn.Linear, packed: Tensor, x: Tensor) -> Tensor:
    if torch.is_grad_enabled() and x.requires_grad:
        raise RuntimeError("this layer computes with a weight that is not its own: no gradient can pass it")
    return _product(x, packed, layer.bias) if x.numel() else functional.linear(x, layer.weight, layer.bias)


def _forward(layer: nn.Linear, packed: _Packed, x: Tensor) -> Tensor:
    weight, bias = layer.weight, layer.bias
    learns = torch.is_grad_enabled() and any(part is not None and part.requires_grad for part in (weight, bias))
    if learns or x.dtype != torch.float32 or not x.numel() or not packed.of(weight):
        return functional.linear(x, weight, bias)
    return _Product.apply(x, weight, packed.weight, bias) if x.requires_grad else _product(x, packed.weight, bias)


def _reordered(weight: Tensor) -> Tensor:
    return torch.ops.mkldnn._reorder_linear_weight(weight)


def _product(x: Tensor, packed: Tensor, bias: Tensor | None) -> Tensor:
    return torch.ops.mkldnn._linear_pointwise(x, packed, bias, "none", [], "")


class _Product(torch.autograd.Function):
    """x times a packed weight; its gradient needs the weight as it lies."""

    @staticmethod
    def forward(ctx, x: Tensor, weight: Tensor, packed: Tensor, bias: Tensor | None) -> Tensor:
        ctx.save_for_backward(weight)
        return _product(x, packed, bias)

    @staticmethod
    def backward(ctx, gradient: Tensor):
        (weight,) = ctx.saved_tensors
        return gradient @ weight, None, None, None


def _fits(module: nn.Module) -> bool:
    if type(module) is not nn.Linear or "forward" in vars(module):  # which may compute something else
        return False
    weight = module.weight
    if type(weight.data) is not Tensor or weight.device.type != "cpu" or weight.dtype != torch.float32:
        return False
    if weight.is_inference():  # nobody counts its changes
        return False
    return weight.numel() >= LEAST


def _room(layers: list[nn.Linear]) -> bool:
    needed = sum(layer.weight.nbytes for layer in layers)
    return free_memory(torch.device("cpu")) > 2 * needed


def _pack(layers: list[nn.Linear]) -> bool:
    """Packs the layers' weights; False, and none of them, where the memory does not suffice after all."""
    for layer in layers:
        data = layer.weight.detach()
        if (made := attempt(lambda data=data: _reordered(data), again=True)) is None:
            forget(layers)
            return False
        _packed[layer] = _Packed(data, layer.weight._version, made)
    return True


@functools.cache
def works() -> bool:
    """True where torch has the kernels, and they compute a linear layer."""
    weight = torch.linspace(-1, 1, 96 * 80).reshape(96, 80)
    x = torch.linspace(-1, 1, 3 * 80).reshape(1, 3, 80)
    try:
        packed = _reordered(weight)
        found = _product(x, packed, None)
    except (RuntimeError, AttributeError):  # NotImplementedError is a RuntimeError
        return False
    return torch.allclose(found, functional.linear(x, weight), atol=1e-4)
