"""A pair's conversation goes through the model once for both its answers, and what no step changes once for all steps.

    share_prompts(model)             # from now on tokens with a mask are taken for a batch of pairs
    share_prompts(model, below=22)   # and nothing in the first 22 blocks is trained

trl gives a model the chosen answers' texts and then the rejected ones', a row each, padded at the end. Here each row of
the first half is read with its own of the second half behind one copy of what both begin with; what comes out are the
states of the rows that trl gave. They are the same; `harness.packed.longest_packed` tells for which texts.

The states that blocks below the trained ones give a pair are computed when it is first seen, by itself, so that they do
not depend on which others are beside it, and kept: the reference and every epoch have them in common.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import pad

from harness.blocks import KeptStates, above, is_exact, states_below
from harness.packed import Packed, pack

Pair = tuple[list[int], list[int]]


def share_prompts(model, below: int = 0) -> None:
    """Changes the forward of the stack of blocks below a model's head, in place. below: blocks that no step changes."""
    inner = getattr(model, model.base_model_prefix)
    plain = inner.forward
    run = _Above(inner, below) if below and _repeats(inner, below) else None

    def forward(input_ids=None, attention_mask=None, **others) -> Any:
        if input_ids is None or attention_mask is None:
            return plain(input_ids=input_ids, attention_mask=attention_mask, **others)
        texts = [row[:n] for row, n in zip(input_ids.tolist(), attention_mask.sum(dim=1).tolist(), strict=True)]
        half = len(texts) // 2
        pairs = list(zip(texts[:half], texts[half:], strict=True))
        rows = pack(pairs, inner.dtype).to(input_ids.device)
        found = run(pairs, rows, others) if run else plain(**{**others, **rows.asked})
        order = [at * 2 + side for side in (0, 1) for at in range(half)]  # packed are a pair's texts side by side
        where = pad(rows.where[order], (0, input_ids.shape[1] - rows.where.shape[1]))
        found.last_hidden_state = found.last_hidden_state[rows.row[order][:, None], where]
        return found

    inner.forward = forward


class _Above:
    """Runs the blocks from `at` on over the states below them."""

    def __init__(self, inner: nn.Module, at: int):
        self._inner, self._at, self._plain = inner, at, inner.forward
        self._states = KeptStates(inner.device)

    def __call__(self, pairs: Sequence[Pair], rows: Packed, others: dict[str, Any]) -> Any:
        states = nn.utils.rnn.pad_sequence(list(map(self._below, pairs)), batch_first=True).to(rows.tokens.device)
        asked = {key: value for key, value in rows.asked.items() if key != "input_ids"}
        with above(self._inner, self._at):
            return self._plain(**{**others, **asked, "inputs_embeds": states})

    def _below(self, pair: Pair) -> Tensor:
        """[positions, width]"""

        def compute() -> Tensor:
            rows = pack([pair], self._inner.dtype).to(self._inner.device)
            return states_below(self._inner, self._at, rows.asked, self._plain)[0]

        return self._states(tuple(map(tuple, pair)), compute)


def _repeats(inner: nn.Module, below: int) -> bool:
    """True if the first blocks give the same states each time, in training too, and the others go on exactly."""
    config = inner.config.get_text_config()
    dropped = [value for key, value in config.to_dict().items() if key.endswith(("dropout", "pdrop", "layerdrop"))]
    if any(dropped) or any(isinstance(module, nn.Dropout) and module.p for module in inner.modules()):
        return False
    probe = torch.arange(16)[None] % config.vocab_size
    return is_exact(inner, below, probe.to(inner.device))
