"""Logits -> log-likelihoods of given continuations."""

from __future__ import annotations

from collections.abc import Sequence

import torch

_ROWS = 256  # of logits turned to float32 at a time


def loglikelihoods(
    logits: torch.Tensor, continuations: Sequence[tuple[Sequence[int], Sequence[int]]]
) -> list[tuple[float, bool]]:
    """(sum of log-probabilities, greedy decoding would write it) of each continuation.

    logits: [nodes, vocabulary]; a continuation: (rows of logits, the token that follows at each).
    """
    if not continuations:
        return []
    at = torch.tensor([row for rows, _ in continuations for row in rows], device=logits.device)
    tokens = torch.tensor([token for _, tokens in continuations for token in tokens], device=logits.device)
    gained = torch.empty(len(at), device=logits.device)
    for start, part in zip(range(0, len(logits), _ROWS), logits.split(_ROWS), strict=True):
        # not logsumexp, which is closer to float64: over a hundred tokens it parts from lm-eval by more than 1e-3
        logprobs = torch.log_softmax(part.float(), dim=-1)
        here = (at >= start) & (at < start + len(part))
        gained[here] = logprobs[at[here] - start, tokens[here]]
    gained = gained.tolist()
    best = (logits.argmax(dim=-1)[at] == tokens).tolist()
    answers, start = [], 0
    for rows, _ in continuations:
        stop = start + len(rows)
        answers.append((sum(gained[start:stop]), all(best[start:stop])))
        start = stop
    return answers
