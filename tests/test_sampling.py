"""Coupled sampling draws from softmax(logits / T), and its noise knows only seed, item, position and token."""

from __future__ import annotations

import numpy as np
import torch
from scipy.stats import chisquare, kstest

from harness.sampling import coupled_choice, gumbel, noise_key


def test_frequencies_agree_with_softmax():
    logits = torch.tensor([2.0, 1.0, 0.0, -1.0, -3.0, 1.5])
    draws = 20_000
    where = [(noise_key(0, item), 0) for item in range(draws)]
    chosen = coupled_choice(logits.expand(draws, -1).clone(), where)
    counts = np.bincount(chosen, minlength=6)
    expected = torch.softmax(logits.double(), -1).numpy() * draws
    assert chisquare(counts, expected * (counts.sum() / expected.sum())).pvalue > 1e-3


def test_noise_is_standard_gumbel_at_every_token_and_position():
    keys = torch.tensor([noise_key(3, n) for n in range(400)])
    noise = gumbel(keys[:, None].expand(-1, 50), torch.arange(50).expand(400, -1)).flatten()
    assert kstest(noise.numpy(), "gumbel_r").pvalue > 1e-3


def test_a_choice_does_not_depend_on_the_other_rows():
    logits = torch.randn(5, 300, generator=torch.Generator().manual_seed(0))
    where = [(noise_key(1, f"item-{n}"), n) for n in range(5)]
    together = coupled_choice(logits, where)
    assert together == [coupled_choice(logits[n : n + 1], where[n : n + 1])[0] for n in range(5)]


def test_leaving_out_hopeless_tokens_changes_nothing():
    logits = 6 * torch.randn(50, 1000, generator=torch.Generator().manual_seed(1))
    where = [(noise_key(2, n), n) for n in range(50)]
    keys = torch.tensor([_position_key(key, position) for key, position in where])
    full = logits + gumbel(keys[:, None].expand(-1, 1000), torch.arange(1000).expand(50, -1))
    assert coupled_choice(logits, where) == full.argmax(-1).tolist()


def test_equal_models_choose_alike_and_near_ones_nearly():
    logits = torch.randn(500, 200, generator=torch.Generator().manual_seed(2))
    near = logits + 0.01 * torch.randn(500, 200, generator=torch.Generator().manual_seed(3))
    where = [(noise_key(0, n), 7) for n in range(500)]
    a, b = coupled_choice(logits, where), coupled_choice(near, where)
    assert a == coupled_choice(logits.clone(), where)
    assert np.mean(np.array(a) == np.array(b)) > 0.95


def test_seed_item_and_position_each_change_the_noise():
    flat = torch.zeros(1, 5000)
    picks = {
        coupled_choice(flat, [(noise_key(s, i), p)])[0]
        for s, i, p in [(0, "a", 0), (1, "a", 0), (0, "b", 0), (0, "a", 1)]
    }
    assert len(picks) == 4


def _position_key(key: int, position: int) -> int:
    from harness.sampling import _mix_int

    return _mix_int(key + position * 0x9E3779B97F4A7C15)
