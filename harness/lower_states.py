"""States that go into the lowest block in which models differ: computed once, for all of them.

A base and adapters that leave its lower blocks alone differ from some block on. What is read to be scored goes through
the blocks below it when the first of them is asked, and is kept for the others.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import nn

from harness.blocks import ERRORS, KeptStates, above, is_exact, lowest_changed, stack_of, states_below
from harness.checkpoints import CheckedModel
from harness.memory import out_of_memory


class Below:
    """at: the first block in which a base and its adapters differ; device: where the states are kept."""

    def __init__(self, at: int, device: torch.device):
        self.at, self._states = at, KeptStates(device)

    def clear(self) -> None:
        """Lets go of what is kept."""
        self._states.clear()

    @classmethod
    def of(cls, model: nn.Module, adapters: Sequence[CheckedModel]) -> Below | None:
        """For adapters on a loaded causal model; None where one of them changes the first block, or none can be cut."""
        try:
            stack = stack_of(_causal(model))
            at = min((lowest_changed(adapter.path, stack) for adapter in adapters), default=0)
            probe = torch.arange(1, 17, device=model.device)[None] % model.config.get_text_config().vocab_size
            return cls(at, model.device) if at and is_exact(_inner(model), at, probe) else None
        except ERRORS as error:  # it has no such parts, or takes no states where it takes tokens
            if out_of_memory(error):
                raise
            return None

    def covers(self, model: nn.Module, adapter: CheckedModel) -> bool:
        """True if the adapter, too, leaves alone what is kept."""
        return lowest_changed(adapter.path, stack_of(_causal(model))) >= self.at

    def __call__(self, model: nn.Module, **asked: Any) -> Any:
        """What the model gives for one row of `input_ids` at `position_ids`, which is read without a cache."""
        inner = _inner(model)
        key = tuple(asked["input_ids"][0].tolist()), tuple(asked["position_ids"][0].tolist())
        body = {name: value for name, value in asked.items() if name != "logits_to_keep"}
        states = self._states(key, lambda: states_below(inner, self.at, body))
        with above(inner, self.at):
            return model(**{**asked, "input_ids": None, "inputs_embeds": states})


def _causal(model: nn.Module) -> nn.Module:
    return model.get_base_model() if hasattr(model, "peft_config") else model


def _inner(model: nn.Module) -> nn.Module:
    causal = _causal(model)
    return getattr(causal, causal.base_model_prefix)
