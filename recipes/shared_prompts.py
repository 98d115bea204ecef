"""A pair's conversation goes through the model once, for both of its answers.

    share_prompts(model)     # from now on its forward takes trl's batches of pairs, and no others

trl gives a reward model the chosen answers' texts and then the rejected ones', a row each, padded at the end. Here each
row of the first half is read with its own of the second half behind one copy of what both begin with. The scores are
the same (`harness.packed.reach` tells for which texts); on support pairs two fifths of the tokens are saved.
"""

from __future__ import annotations

from harness.packed import pack


def share_prompts(model) -> None:
    """Changes the forward of a model with a score head in place."""
    from transformers.modeling_outputs import SequenceClassifierOutput

    inner = getattr(model, model.base_model_prefix)

    def forward(input_ids, attention_mask, **unused):
        texts = [row[:n] for row, n in zip(input_ids.tolist(), attention_mask.sum(dim=1).tolist(), strict=True)]
        half = len(texts) // 2
        rows = pack(list(zip(texts[:half], texts[half:], strict=True)), inner.dtype).to(input_ids.device)
        scores = model.score(inner(**rows.asked).last_hidden_state[rows.row, rows.end])
        return SequenceClassifierOutput(logits=scores.reshape(half, 2).T.reshape(-1, 1))

    model.forward = forward
