"""Coupled sampling: the noise of a draw depends on (seed, item, position, token) and on nothing else.

argmax(logits / T + Gumbel noise) is an exact draw from softmax(logits / T) (Gumbel 1954; Maddison et al. 2014). With
the same noise for two models each still draws from its own distribution, but equal models write equal texts and
nearly equal ones diverge late, which takes most of the sampling variance out of the paired difference. A counter-based
hash (splitmix64, Steele et al. 2014) makes the noise independent of batch, order, device and process.
"""

from __future__ import annotations

import hashlib
import math

import torch

_BITS = 23  # of the uniform variate: with the half that keeps it off 0 and 1 it is exact in float32
_HIGHEST = -math.log(-math.log1p(-(2.0 ** -(_BITS + 1)))) + 1e-3  # no noise is larger, however it was rounded
_STRIDE = 0x9E3779B97F4A7C15  # splitmix64's, from one position of a text to the next


def noise_key(seed: int, item: object) -> int:
    """64-bit key of one item's noise under one seed; `item` is anything with a stable text, an item id for one."""
    digest = hashlib.sha256(f"{seed}\x1f{item}".encode()).digest()
    return int.from_bytes(digest[:8], "little", signed=True)


def greedy_choice(logits: torch.Tensor) -> list[int]:
    """The likeliest token of each row of logits [rows, vocabulary]; RuntimeError as for `coupled_choice`."""
    best, at = logits.max(dim=-1)
    _check_finite(best)
    return at.tolist()


def coupled_choice(scaled: torch.Tensor, where: list[tuple[int, int]]) -> list[int]:
    """Draws one token a row from softmax(scaled); RuntimeError where a row has no largest finite number.

    scaled: float [rows, vocabulary], logits over temperature; where: (noise key of the item, position) a row.
    Noise is made only for tokens that could still win: those within the reach of the highest possible noise.
    """
    keys = _position_keys(where, scaled.device)
    best, at = scaled.max(dim=-1)
    _check_finite(best)
    floor = best + gumbel(keys, at) - _HIGHEST
    rows, tokens = torch.nonzero(scaled >= floor[:, None], as_tuple=True)
    noisy = scaled[rows, tokens] + gumbel(keys[rows], tokens)
    won = noisy == best.scatter_reduce(0, rows, noisy, "amax", include_self=False)[rows]
    return at.scatter_reduce(0, rows[won], tokens[won], "amin", include_self=False).tolist()  # the first of equals


def gumbel(keys: torch.Tensor, tokens: torch.Tensor) -> torch.Tensor:
    """Standard Gumbel noise, float32, one value for each (key, token) pair of int64 tensors of one shape."""
    bits = _mix(keys + (tokens + 1) * _signed(0xD1B54A32D192ED03))
    uniform = (((bits >> (64 - _BITS)) & (2**_BITS - 1)).float() + 0.5) / 2**_BITS
    return -torch.log(-torch.log(uniform))


def _check_finite(best: torch.Tensor) -> None:
    """NaN counts as the largest number, so the best of a row shows it."""
    if not bool(torch.isfinite(best).all()):
        raise RuntimeError(
            "the model's logits are not finite, so what it writes is no answer; check its weights, or run it with"
            " --dtype=float32"
        )


def _position_keys(where: list[tuple[int, int]], device="cpu") -> torch.Tensor:
    """splitmix64's output for each (state, position), int64: all rows in one call, however many they are."""
    return _mix(torch.tensor([_signed(key + position * _STRIDE) for key, position in where], device=device))


def _mix(x: torch.Tensor) -> torch.Tensor:
    """splitmix64's finaliser on int64 tensors; products wrap around as in unsigned arithmetic."""
    x = (x ^ _shift(x, 30)) * _signed(0xBF58476D1CE4E5B9)
    x = (x ^ _shift(x, 27)) * _signed(0x94D049BB133111EB)
    return x ^ _shift(x, 31)


def _shift(x: torch.Tensor, by: int) -> torch.Tensor:
    return (x >> by) & ((1 << (64 - by)) - 1)  # logical, not arithmetic


def _signed(x: int) -> int:
    x &= 2**64 - 1
    return x - 2**64 if x >= 2**63 else x
