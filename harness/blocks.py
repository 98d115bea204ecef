"""The blocks of a transformer: where they are, and running those below or above a cut alone.

What lies below the lowest adapted block is the same for every adapter on one base, so its hidden states are computed
once and handed to the blocks above. That is exact where positions enter inside the blocks (rotary embeddings); a model
that adds something to its input embeddings would add it twice, and `is_exact` tells.
"""

from __future__ import annotations

import contextlib
import functools
import re
from collections.abc import Callable, Hashable, Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from torch import Tensor, nn

from harness.checkpoints import ADAPTER_WEIGHTS
from harness.memory import free_memory

LARGEST = 4 * 2**30  # bytes of states that are kept
# of models that are asked in a way they do not know
ERRORS = (TypeError, ValueError, RuntimeError, AttributeError, IndexError, KeyError)
CLOSE = 1e-4  # of the largest hidden state: float32 sums in another order stay far below


def stack_of(model: nn.Module) -> tuple[str, nn.ModuleList] | None:
    """(name, blocks): the first list of modules that has as many as the configuration names; None if there is none."""
    blocks = model.config.get_text_config().num_hidden_layers
    for name, module in model.named_modules():
        if isinstance(module, nn.ModuleList) and len(module) == blocks:
            return name, module
    return None


def lowest_changed(adapter: Path, stack: tuple[str, nn.ModuleList] | None) -> int:
    """The number of the lowest block of a stack that an adapter changes, 0 where that is not known.

    A head that gives a score is no change of what is below it.
    """
    if stack is None:
        return 0
    with safe_open(adapter / ADAPTER_WEIGHTS, framework="pt") as tensors:
        changed = [name for name in tensors.keys() if not name.endswith("score.weight")]  # noqa: SIM118
    numbers = [re.search(rf"{re.escape(stack[0])}\.(\d+)\.", name) for name in changed]
    return min((int(number[1]) for number in numbers if number), default=0) if all(numbers) else 0


def states_below(
    inner: nn.Module, at: int, asked: Mapping[str, Any], forward: Callable[..., Any] | None = None
) -> Tensor:
    """[rows, positions, width]: what goes into block `at` when `inner` is called so; no block above it runs.

    forward: what is called, where the model's own has been changed.
    """
    _, blocks = stack_of(inner)
    with _stopped_before(blocks[at]) as found, torch.no_grad(), contextlib.suppress(_Stop):
        (forward or inner)(**asked)
    return found[0]


class KeptStates:
    """States that were computed, by what went in. Above what the memory holds, what is seen first stays.

    device: where they are kept.
    """

    def __init__(self, device: torch.device):
        self._device = device
        self.clear()

    def clear(self) -> None:
        """Lets go of all of them."""
        self._kept: dict[Hashable, Tensor] = {}
        self._room = min(LARGEST, free_memory(self._device) // 4)

    def __call__(self, key: Hashable, compute: Callable[[], Tensor]) -> Tensor:
        """Those of `key`, computed if they are not kept."""
        if (states := self._kept.get(key)) is None:
            states = compute()
            if states.nbytes <= self._room:
                self._kept[key] = states
                self._room -= states.nbytes
        return states


def keep_above(model: nn.Module, at: int) -> Callable[[], None]:
    """Takes the blocks below `at` out of a model; what it returns puts them back."""
    name, blocks = stack_of(model)
    parent, _, last = name.rpartition(".")
    owner, config = model.get_submodule(parent), model.config.get_text_config()

    def put(stack: nn.ModuleList) -> None:
        setattr(owner, last, stack)
        config.num_hidden_layers = len(stack)

    put(nn.ModuleList(list(blocks)[at:]))
    return functools.partial(put, blocks)


@contextlib.contextmanager
def above(model: nn.Module, at: int) -> Iterator[None]:
    """Inside the block, the model has only its blocks from `at` on."""
    put_back = keep_above(model, at)
    try:
        yield
    finally:
        put_back()


def is_exact(inner: nn.Module, at: int, tokens: Tensor) -> bool:
    """True if running below and above a cut gives the hidden states of running through.

    Never where blocks attend in different ways: a model finds a block's way by its number, which a cut changes.
    """
    if len(set(getattr(inner.config.get_text_config(), "layer_types", None) or ())) > 1:
        return False
    with torch.no_grad():
        whole = inner(input_ids=tokens, use_cache=False).last_hidden_state
        below = states_below(inner, at, {"input_ids": tokens, "use_cache": False})
        with above(inner, at):
            parts = inner(inputs_embeds=below, use_cache=False).last_hidden_state
    return bool((whole - parts).abs().max() <= CLOSE * whole.abs().max())


class _Stop(Exception):
    """Raised in a hook to leave a forward pass."""


@contextlib.contextmanager
def _stopped_before(block: nn.Module) -> Iterator[list[Tensor]]:
    found: list[Tensor] = []

    def stop(module, args, kwargs):
        found.append(args[0] if args else kwargs["hidden_states"])
        raise _Stop

    handle = block.register_forward_pre_hook(stop, with_kwargs=True)
    try:
        yield found
    finally:
        handle.remove()
