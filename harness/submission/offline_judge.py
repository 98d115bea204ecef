"""The judge for a machine without a judging model: the cosine between sentence embeddings of the two replies.

all-MiniLM-L6-v2 (Wang et al. 2020, arXiv:2002.10957; sentence-transformers), out of a pinned wheel: the mean of the
last layer over the tokens of at most 256, scaled to length 1. It hears what a reply is about and hardly whether its
figures are right; those are what the phrases of `mentions` are for.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from harness import assets
from harness.submission.judge import Asked

LONGEST = 256  # tokens, the model's own limit
BATCH = 32


class OfflineJudge:
    """folder: with the encoder's config, weights and tokenizer; the pinned one if left out."""

    name = f"offline: cosine of sentence embeddings, {assets.MINILM.project} {assets.MINILM.version}"

    def __init__(self, folder: Path | None = None):
        from transformers import AutoModel, AutoTokenizer

        folder = folder or assets.fetch(assets.MINILM) / assets.SENTENCES
        self._tokenizer = AutoTokenizer.from_pretrained(folder)
        self._model = AutoModel.from_pretrained(folder).eval()

    def scores(self, asked: Sequence[Asked]) -> list[float]:
        """The cosine, and 0 where it is below; the ticket is not read."""
        texts = sorted({text for question in asked for text in (question.first, question.second)}, key=len)
        found = dict(zip(texts, self._embeddings(texts), strict=True))
        return [min(max(float(found[q.first] @ found[q.second]), 0.0), 1.0) for q in asked]

    def _embeddings(self, texts: Sequence[str]):
        """[texts, width], each of length 1."""
        import torch

        made = []
        for n in range(0, len(texts), BATCH):
            inputs = self._tokenizer(
                texts[n : n + BATCH], padding=True, truncation=True, max_length=LONGEST, return_tensors="pt"
            )
            with torch.inference_mode():
                states = self._model(**inputs).last_hidden_state  # [batch, tokens, width]
            seen = inputs["attention_mask"].unsqueeze(-1)
            mean = (states * seen).sum(1) / seen.sum(1)
            made.append(torch.nn.functional.normalize(mean, dim=-1))
        return torch.cat(made) if made else torch.empty(0, 0)
