"""Attention with the sum of its softmax: the kernel's and our own, and two parts joined."""

from __future__ import annotations

import pytest
import torch

from harness.attention import _softmax_attention


def drawn(*shape: int) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(sum(shape)))


@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize("size", [8, 16])
def test_values_of_another_size_than_keys_are_attended_to_alike(causal, size):
    query, key, value = drawn(1, 3, 5, 8), drawn(1, 3, 5, 8), drawn(1, 3, 5, size)
    found, total = _softmax_attention(query, key, value, None, causal, None)
    scores = query.double() @ key.double().transpose(2, 3) / 8**0.5
    if causal:
        scores = scores.masked_fill(torch.ones(5, 5).triu(1).bool(), float("-inf"))
    assert torch.allclose(total.double(), scores.logsumexp(-1), atol=1e-5)
    assert torch.allclose(found.double(), scores.softmax(-1) @ value.double(), atol=1e-5)
