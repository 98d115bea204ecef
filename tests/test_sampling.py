"""Coupled sampling draws from softmax(logits / T), and its noise knows only seed, item, position and token."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from scipy.stats import chisquare, kstest

from harness import evaluate
from harness.evaluate import ENGINE_VERSION, cell_of
from harness.sampling import _position_keys, coupled_choice, greedy_choice, gumbel, noise_key
from tests.operations import operations


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
    keys = _position_keys(where)
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


def test_positions_are_hashed_as_by_splitmix64():
    """Against the outputs that are published for seed 1234567."""
    published = [6457827717110365317, 3203168211198807973, 9817491932198370423, 4593380528125082431]
    found = _position_keys([(1234567, position) for position in range(1, 5)])
    assert [key % 2**64 for key in found.tolist()] == published


def unmixed(hashed: int) -> int:
    """splitmix64's finaliser turned round."""
    for shift, product in ((31, 0x94D049BB133111EB), (27, 0xBF58476D1CE4E5B9), (30, 1)):
        mixed = hashed
        for _ in range(3):
            hashed = mixed ^ (hashed >> shift)
        hashed = hashed * pow(product, -1, 2**64) % 2**64
    return hashed


def position_key(bits: int, token: int) -> int:
    """The hashed key of a position at which the noise of a token comes from these bits."""
    key = (unmixed(bits) - (token + 1) * 0xD1B54A32D192ED03) % 2**64
    return key - 2**64 if key >= 2**63 else key


@pytest.mark.parametrize("bits", [2**64 - 1, 2**64 - 2**40, 2**64 - 2**41, 0])
def test_the_rarest_noise_is_finite_and_exact(bits):
    noise = gumbel(torch.tensor([position_key(bits, 7)]), torch.tensor([7]))
    uniform = ((bits >> 41) + 0.5) / 2**23
    assert float(noise) == pytest.approx(-np.log(-np.log(uniform)), rel=1e-6)


@pytest.mark.parametrize("token", [3, 7])
def test_the_rarest_noise_lets_no_hopeless_token_win(token):
    """Token 3 is ahead by 17 with its noise, and no noise of another is more than 16.64."""
    key = position_key(2**64 - 1, token)
    logits = torch.zeros(1, 50)
    logits[0, 3] = 17 - min(16.0, float(gumbel(torch.tensor([key]), torch.tensor([3]))))
    assert coupled_choice(logits, [(unmixed(key % 2**64), 0)]) == [3]


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_logits_that_are_not_finite_are_an_error_and_no_token(value):
    logits = torch.zeros(2, 9)
    logits[1, 4] = value
    with pytest.raises(RuntimeError, match=r"the model's logits are not finite, .*--dtype=float32"):
        greedy_choice(logits)
    with pytest.raises(RuntimeError, match="logits are not finite"):
        coupled_choice(logits, [(0, 0), (1, 0)])


def test_tokens_that_are_ruled_out_are_no_error():
    logits = torch.full((1, 9), float("-inf"))
    logits[0, 4] = 1.0
    assert greedy_choice(logits) == coupled_choice(logits, [(0, 0)]) == [4]


def test_many_rows_take_no_more_operations_than_few():
    few, many = ([(noise_key(0, n), 5) for n in range(rows)] for rows in (2, 200))
    two, all_rows = torch.zeros(2, 300), torch.zeros(200, 300)
    assert operations(lambda: coupled_choice(all_rows, many)) == operations(lambda: coupled_choice(two, few))


def test_the_draws_are_those_of_this_version_of_the_engine():
    """Its number stands in the store's keys: raise it with whatever changes a draw, or old scores pass for new ones."""
    drawn = coupled_choice(torch.zeros(6, 1000), [(noise_key(0, n), n) for n in range(6)])
    assert (ENGINE_VERSION, drawn) == (4, [864, 571, 985, 796, 661, 109])


def test_scores_of_another_version_of_the_engine_lie_under_other_keys(monkeypatch):
    parts = [SimpleNamespace(digest="x"), SimpleNamespace(digest="y"), 0]
    models = SimpleNamespace(dtype="float32", device="cpu", backend="hf")
    now = cell_of(*parts, models)
    monkeypatch.setattr(evaluate, "ENGINE_VERSION", ENGINE_VERSION - 1)
    assert cell_of(*parts, models) != now
