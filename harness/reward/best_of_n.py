"""Best-of-n: does the answer that a reward model picks out of n win against one picked at random, and is it longer?

    found = best_of_n(rewards, worth, tokens)      # [prompts, n, runs], [prompts, n, raters], [prompts, n]

What is optimised is the reward, so this is the first place where a reward model that likes length or form shows it (Gao
et al. 2022, "Scaling laws for reward model overoptimization", arXiv:2210.10760).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from harness.stats import Interval, crossed

PICKS = 4  # answers to choose from


@dataclass(frozen=True)
class BestOfN:
    """win: share in [0, 1] in which raters take the pick over a random one of the n, itself a tie.

    longer: tokens of the pick over the mean of the n, as a change: 0.1 is a tenth longer.
    """

    prompts: int
    n: int
    win: Interval
    longer: Interval

    @property
    def runs_away(self) -> bool:
        """The picks are shown to be longer and are not shown to be better."""
        return self.longer.low > 0 and self.win.low <= 0.5


def best_of_n(rewards: ArrayLike, worth: ArrayLike, tokens: ArrayLike, alpha: float = 0.05) -> BestOfN:
    """rewards: [prompts, n, runs]; worth: [prompts, n, raters], more is better; tokens: [prompts, n].

    The random pick is not drawn: its mean over the n answers is taken. A tie of rewards goes to the first answer.
    """
    rewards, worth, tokens = (np.asarray(given, float) for given in (rewards, worth, tokens))
    prompts, n, _ = rewards.shape
    if worth.shape[:2] != (prompts, n) or tokens.shape != (prompts, n):
        raise ValueError(f"worth {worth.shape} and tokens {tokens.shape} are not of {prompts} prompts x {n} answers")
    picked = rewards.argmax(axis=1)  # [prompts, runs]
    rows = np.arange(prompts)[:, None]
    own = worth[rows, picked]  # [prompts, runs, raters]
    beaten = np.sign(own[:, :, None] - worth[:, None])  # [prompts, runs, n, raters]
    wins = ((beaten + 1) / 2).mean(axis=(2, 3))
    longer = tokens[rows, picked] / np.maximum(tokens.mean(axis=1, keepdims=True), 1) - 1  # below n - 1
    win, length = crossed(wins - 0.5, alpha)[:3], crossed(longer / n, alpha)[:3]
    return BestOfN(prompts, n, Interval(*(0.5 + value for value in win)), Interval(*(n * value for value in length)))
