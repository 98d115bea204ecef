"""Attention with the sum of its softmax: the kernel's and our own, and two parts joined."""

from __future__ import annotations

import pytest
import torch

from harness import attention
from harness.attention import _attention_in_blocks, _softmax_attention
from tests.operations import Operations
from tests.test_engine import FEW_SHOT, choices, engine, writings


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


def masked(nodes: int, above: int) -> torch.Tensor:
    """As a tree's segment has it: all that is above is seen, and of its own nodes those before."""
    return torch.full((nodes, above + nodes), float("-inf")).triu(above + 1)


@pytest.mark.parametrize("scores", [1, 200, 2000])
@pytest.mark.parametrize("shape", ["causal", "tree", "prefix"])
def test_queries_in_blocks_give_the_same_and_hold_no_more_scores_than_is_said(monkeypatch, shape, scores):
    nodes, above = 20, 0 if shape == "causal" else 13
    given = drawn(1, 3, nodes, 8), drawn(1, 3, nodes + above, 8), drawn(1, 3, nodes + above, 8)
    how = masked(nodes, above) if shape == "tree" else None, shape == "causal", None
    expected = _softmax_attention(*given, *how)
    at_once = _attention_in_blocks(*given, *how)
    monkeypatch.setattr(attention, "SCORES", scores)
    with Operations() as seen:
        found = _attention_in_blocks(*given, *how)
    inputs = max(tensor.numel() for tensor in given)
    assert seen.largest <= max(scores, 3 * (nodes + above), inputs)
    for got, whole, kernel in zip(found, at_once, expected, strict=True):
        assert torch.allclose(got, whole, atol=1e-6)
        assert torch.allclose(got, kernel, atol=1e-5)


@pytest.mark.parametrize("scores", [500, 2**26])
def test_an_engine_without_the_kernel_gives_the_same_scores_and_texts(monkeypatch, scores):
    """As on CUDA, where the kernel for the sum is missing."""
    expected = engine(pack_tokens=300).loglikelihood(choices(FEW_SHOT)), engine().generate_until(writings(FEW_SHOT))
    monkeypatch.setattr(attention, "_softmax_attention", _attention_in_blocks)
    monkeypatch.setattr(attention, "SCORES", scores)
    found = engine(pack_tokens=300).loglikelihood(choices(FEW_SHOT)), engine().generate_until(writings(FEW_SHOT))
    assert found[1] == expected[1]
    for (value, greedy), (was, best) in zip(found[0], expected[0], strict=True):
        assert value == pytest.approx(was, abs=1e-3)
        assert greedy == best
