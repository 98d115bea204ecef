"""A pair's conversation goes through the model once, for both of its answers.

    share_prompts(model)     # from now on tokens with a mask are taken for a batch of pairs

trl gives a model the chosen answers' texts and then the rejected ones', a row each, padded at the end. Here each row of
the first half is read with its own of the second half behind one copy of what both begin with; what comes out are the
states of the rows that trl gave. They are the same; `harness.packed.longest_packed` tells for which texts.
"""

from __future__ import annotations

from typing import Any

from torch.nn.functional import pad

from harness.packed import pack


def share_prompts(model) -> None:
    """Changes the forward of the stack of blocks below a model's head, in place."""
    inner = getattr(model, model.base_model_prefix)
    plain = inner.forward

    def forward(input_ids=None, attention_mask=None, **others) -> Any:
        if input_ids is None or attention_mask is None:
            return plain(input_ids=input_ids, attention_mask=attention_mask, **others)
        texts = [row[:n] for row, n in zip(input_ids.tolist(), attention_mask.sum(dim=1).tolist(), strict=True)]
        half = len(texts) // 2
        rows = pack(list(zip(texts[:half], texts[half:], strict=True)), inner.dtype).to(input_ids.device)
        found = plain(**{**others, **rows.asked})
        order = [at * 2 + side for side in (0, 1) for at in range(half)]  # packed are a pair's texts side by side
        where = pad(rows.where[order], (0, input_ids.shape[1] - rows.where.shape[1]))
        found.last_hidden_state = found.last_hidden_state[rows.row[order][:, None], where]
        return found

    inner.forward = forward
