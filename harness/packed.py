"""Texts that begin alike, read in one row behind one copy of their beginning: two answers to one conversation, say.

    rows = pack([(chosen, rejected), …], dtype)              # each text a list of token ids
    states = inner(**rows.asked).last_hidden_state           # [rows, positions, width]
    states[rows.row, rows.end]                               # [texts, width], of the last token of each text

Each text keeps the positions that it has alone, and sees its beginning and itself. That is exact for attention over
everything before a token; `reach` tells for which texts a model has that.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import takewhile
from typing import Any

import torch
from torch import Tensor, nn

CLOSE = 1e-4  # of the largest hidden state: float32 sums in another order stay far below


@dataclass(frozen=True)
class Packed:
    """tokens, positions: [rows, positions]; real: the same, False for padding.

    mask: [rows, 1, positions, positions], added to the scores of attention. row: [texts] and where: [texts, longest]
    say where each text, in the order given, has its tokens, with 0 after its end; end: [texts], where it has its last.
    """

    tokens: Tensor
    positions: Tensor
    real: Tensor
    mask: Tensor
    row: Tensor
    where: Tensor
    end: Tensor

    @property
    def asked(self) -> dict[str, Any]:
        """What a model's stack of blocks is called with."""
        return {
            "input_ids": self.tokens,
            "attention_mask": self.mask,
            "position_ids": self.positions,
            "use_cache": False,
        }

    def to(self, device) -> Packed:
        return Packed(*(part.to(device) for part in vars(self).values()))


def pack(groups: Sequence[Sequence[Sequence[int]]], dtype: torch.dtype = torch.float32) -> Packed:
    """A row for each group of texts."""
    rows = [_row(group) for group in groups]
    tokens, positions, owners = (
        nn.utils.rnn.pad_sequence([torch.tensor(row[part]) for row in rows], batch_first=True, padding_value=filler)
        for part, filler in (("tokens", 0), ("positions", 0), ("owners", -1))
    )
    own = owners[:, None, :]  # whose each key is: 0 everybody's, -1 padding
    seen = ((own == 0) | (own == owners[:, :, None])) & (own >= 0)
    seen = seen.tril() | torch.eye(tokens.shape[1], dtype=torch.bool)  # padding sees itself: a row of nothing is NaN
    mask = torch.zeros(seen.shape, dtype=dtype).masked_fill(~seen, torch.finfo(dtype).min)[:, None]
    row = torch.tensor([at for at, group in enumerate(groups) for _ in group])
    places = [torch.tensor(place) for own in rows for place in own["places"]]
    where = nn.utils.rnn.pad_sequence(places, batch_first=True)
    ends = torch.tensor([int(place[-1]) for place in places])
    return Packed(tokens, positions, owners >= 0, mask, row, where, ends)


def shared(group: Sequence[Sequence[int]]) -> int:
    """Tokens that all texts of a group begin with; each keeps at least its last one to itself."""
    alike = sum(1 for _ in takewhile(lambda column: len(set(column)) == 1, zip(*group, strict=False)))
    return min(alike, min(map(len, group)) - 1) if len(group) > 1 else 0


def length(group: Sequence[Sequence[int]]) -> int:
    """Tokens of a group's row."""
    return sum(map(len, group)) - (len(group) - 1) * shared(group)


def reach(inner: nn.Module) -> float:
    """Tokens up to which a text may be packed: 0 where a model's blocks give packed texts other states, else inf.

    Between them lie models that attend to a window, which are alike as long as no text is longer.
    """
    config = inner.config.get_text_config()
    if len(set(getattr(config, "layer_types", None) or ())) > 1:
        return 0
    probe = torch.arange(1, 13, device=inner.device) % config.vocab_size
    group = [probe[:9].tolist(), [*probe[:6].tolist(), *probe[9:].tolist(), 1]]
    rows = pack([group], inner.dtype).to(inner.device)
    with torch.no_grad():
        try:
            packed = inner(**rows.asked).last_hidden_state[rows.row, rows.end]
        except (RuntimeError, TypeError, ValueError):  # it knows no such mask, or no positions
            return 0
        alone = [inner(input_ids=torch.tensor([text], device=inner.device), use_cache=False) for text in group]
        ends = torch.stack([found.last_hidden_state[0, -1] for found in alone])
    if (packed - ends).abs().max() > CLOSE * ends.abs().max():
        return 0
    return getattr(config, "sliding_window", None) or math.inf


def _row(group: Sequence[Sequence[int]]) -> dict[str, list]:
    start = shared(group)
    tokens, positions, owners, places = list(group[0][:start]), list(range(start)), [0] * start, []
    for owner, text in enumerate(group, 1):
        places.append([*range(start), *range(len(tokens), len(tokens) + len(text) - start)])
        tokens += text[start:]
        positions += range(start, len(text))
        owners += [owner] * (len(text) - start)
    return {"tokens": tokens, "positions": positions, "owners": owners, "places": places}
