"""Texts that begin alike, read in one row behind one copy of their beginning: two answers to one conversation, say.

    rows = pack([(chosen, rejected), …], dtype)              # each text a list of token ids
    states = inner(**rows.asked).last_hidden_state           # [rows, positions, width]
    states[rows.row, rows.end]                               # [texts, width], of the last token of each text

Each text keeps the positions that it has alone, and sees its beginning and itself. That is exact for attention over
everything before a token; `longest_packed` tells for which texts a model has that. Groups of one text each are read as
everybody reads a batch, by every model.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import takewhile
from typing import Any

import torch
from torch import Tensor, nn

from harness.blocks import CLOSE, ERRORS
from harness.memory import out_of_memory
from harness.probe import SHARE, reach


@dataclass(frozen=True)
class Packed:
    """tokens, positions: [rows, positions]; real: the same, False for padding.

    mask: [rows, 1, positions, positions], added to the scores of attention; None where no row has several texts. row:
    [texts] and where: [texts, longest] say where each text, in the order given, has its tokens, with 0 after its end;
    end: [texts], where it has its last.
    """

    tokens: Tensor
    positions: Tensor
    real: Tensor
    mask: Tensor | None
    row: Tensor
    where: Tensor
    end: Tensor

    @property
    def asked(self) -> dict[str, Any]:
        """What a model's stack of blocks is called with."""
        asked = {"input_ids": self.tokens, "attention_mask": self.real.long(), "use_cache": False}
        if self.mask is None:
            return asked
        return asked | {"attention_mask": self.mask, "position_ids": self.positions}

    def to(self, device) -> Packed:
        return Packed(*(part if part is None else part.to(device) for part in vars(self).values()))


def pack(groups: Sequence[Sequence[Sequence[int]]], dtype: torch.dtype = torch.float32) -> Packed:
    """A row for each group of texts."""
    rows = [_row(group) for group in groups]
    tokens, positions, owners = (
        nn.utils.rnn.pad_sequence([torch.tensor(row[part]) for row in rows], batch_first=True, padding_value=filler)
        for part, filler in (("tokens", 0), ("positions", 0), ("owners", -1))
    )
    mask = _mask(owners, dtype) if any(len(group) > 1 for group in groups) else None
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


def longest_packed(inner: nn.Module) -> float:
    """Tokens up to which texts may be packed for a stack of blocks: 0 where packed ones get other states, else inf.

    Between them lie models that attend to a window, which are alike as long as no text is longer.
    """
    config = inner.config.get_text_config()
    kinds = getattr(config, "layer_types", None) or getattr(config, "attention_layers", None)
    if len(set(kinds or ())) > 1:
        return 0
    try:
        return reach(config) if _agrees(inner) else 0
    except (*ERRORS, AssertionError) as error:  # it knows no such mask, or no positions
        if out_of_memory(error):
            raise
        return 0


@torch.no_grad()
def _agrees(inner: nn.Module) -> bool:
    """Two texts that begin alike, packed and each alone; in half precision against how far other texts lie."""
    size = inner.config.get_text_config().vocab_size
    start = [(7 * n + 3) % size for n in range(12)]
    texts = [[*start, *((11 * n + k) % size for n in range(4 + k))] for k in (1, 2)]
    rows = pack([texts], inner.dtype).to(inner.device)
    packed = inner(**rows.asked).last_hidden_state[rows.row, rows.end].float()
    alone = torch.stack([_alone(inner, text) for text in texts])
    off = (packed - alone).abs()
    if inner.dtype == torch.float32:
        return bool(off.max() <= CLOSE * alone.abs().max())
    unlike = _alone(inner, [*start[::-1], *texts[0][len(start) :]])
    return bool(off.mean() < SHARE * (unlike - alone[0]).abs().mean())


def _alone(inner: nn.Module, text: list[int]) -> Tensor:
    return inner(input_ids=torch.tensor([text], device=inner.device), use_cache=False).last_hidden_state[0, -1].float()


def _mask(owners: Tensor, dtype: torch.dtype) -> Tensor:
    """owners: [rows, positions], whose each token is: 0 everybody's, -1 padding."""
    own = owners[:, None, :]
    seen = ((own == 0) | (own == owners[:, :, None])) & (own >= 0)
    seen = seen.tril() | torch.eye(owners.shape[1], dtype=torch.bool)  # padding sees itself: a row of nothing is NaN
    return torch.zeros(seen.shape, dtype=dtype).masked_fill(~seen, torch.finfo(dtype).min)[:, None]


def _row(group: Sequence[Sequence[int]]) -> dict[str, list]:
    start = shared(group)
    tokens, positions, owners, places = list(group[0][:start]), list(range(start)), [0] * start, []
    for owner, text in enumerate(group, 1):
        places.append([*range(start), *range(len(tokens), len(tokens) + len(text) - start)])
        tokens += text[start:]
        positions += range(start, len(text))
        owners += [owner] * (len(text) - start)
    return {"tokens": tokens, "positions": positions, "owners": owners, "places": places}
