"""Win rates of a blind head-to-head: several editors vote on each prompt, and a tie is half a win.

The prompt is the unit. Editors who read the same two answers agree more than chance, so 150 votes on 50 prompts are not
150 independent ones; the editors are taken as they are (fixed), not as a sample of editors. On the scale of wins minus
losses, d = 2 * win rate - 1, a win is 1, a tie 0 and a loss -1, and the bounds are those of `cluster_robust` with
prompts as clusters: with every vote cast, the t interval of the prompts' means, and never narrower than a score bound
at the effective sample size, so that unanimity is not certainty.

Source of the design effect 1 + (k - 1) icc: Kish 1965, Survey Sampling, chapter 5. Power and sample size are the score
test's (spread at the target for the bound, at the true rate for the chance to clear it).
"""

import math

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.stats import norm
from scipy.stats import t as student

from harness.stats.clusters import cluster_robust
from harness.stats.crossed import components
from harness.stats.interval import Interval, check_alpha, check_items, share_of
from harness.stats.paired import paired_interval

WIN, TIE, LOSS = 1.0, 0.5, 0.0


def win_rate(votes: ArrayLike, alpha: float = 0.05) -> Interval:
    """Bounds on the win rate over prompts, in [0, 1].

    votes: [prompts, editors], each 1 (won), 0.5 (tie), 0 (lost) or NaN where an editor did not vote. One prompt or
    none, another value, or a prompt without any vote raises ValueError.
    """
    return share_of(_clustered(checked_votes(votes), alpha))


def editor_rate(votes: ArrayLike, alpha: float = 0.05) -> Interval:
    """Exact bounds on the win rate of one editor, whose votes on different prompts are independent; votes: [prompts].

    NaN where there is no vote. Ties are the prompts that flip neither way.
    """
    votes = checked_votes(np.asarray(votes, dtype=float)[:, None])[:, 0]
    cast = votes[~np.isnan(votes)]
    return share_of(paired_interval(int((cast == LOSS).sum()), int((cast == WIN).sum()), len(cast), alpha))


def position_bias(votes: ArrayLike, shown_first: ArrayLike, alpha: float = 0.05) -> Interval:
    """How much the place moves votes: the win rate of whatever is shown first, less one half; in [-0.5, 0.5].

    votes: [prompts, editors] as in `win_rate`; shown_first: the same shape, True where the candidate was. Where each
    editor sees both models first equally often, the better model adds spread to it and no bias. An editor who picks
    the first answer unread a share s of the time has a bias of s / 2.
    """
    votes = checked_votes(votes)
    first = np.asarray(shown_first, dtype=bool)
    if first.shape != votes.shape:
        raise ValueError(f"shown_first has shape {first.shape}, but votes have {votes.shape}; say it of every vote")
    return Interval(*(bound - 0.5 for bound in share_of(_clustered(np.where(first, votes, 1 - votes), alpha))))


def vote_correlation(votes: ArrayLike) -> float:
    """How far two votes on one prompt go together once each editor's own rate is taken off, in [0, 1].

    The share of the prompts in the variance of a vote (analysis of variance; a negative component counts as zero).
    votes: [prompts, editors], all cast, two editors or more. 0 where all votes are alike.
    """
    votes = checked_votes(votes)
    if np.isnan(votes).any() or votes.shape[1] < 2:
        raise ValueError("votes lack some or have one editor, and their correlation needs every vote of two editors")
    parts = components(votes)
    total = parts.item + parts.error
    return parts.item / total if total > 0 else 0.0


def win_power(
    prompts: int, editors: int, rate: float, icc: float, target: float = 0.5, alpha: float = 0.05, ties: float = 0.0
) -> float:
    """Probability in [0, 1] that the lower bound clears `target` when the true win rate is `rate`, above it.

    icc: `vote_correlation`; ties: the share of votes that are ties. 50 prompts and 3 editors at a true 60% show a
    preference (a target of one half) with power .72, .60 and .52 at icc .1, .3 and .5. Simulated with beta-binomial
    votes: `win_rate`'s own bound .71, .59 and .52 (1,500 rounds, +-.03), the bare t bound .73, .61 and .53 (20,000).
    """
    check_items(prompts)
    at_target, at_rate = _deviations(rate, target, icc, editors, ties)
    check_alpha(alpha)
    if prompts == 1 or rate <= target:
        return 0.0
    needed = float(student.isf(alpha, prompts - 1)) * at_target  # of the score bound, whose spread is the target's
    gap = math.sqrt(prompts) * (rate - target) - needed
    return float(norm.cdf(gap / at_rate)) if at_rate > 0 else float(gap > 0)


def prompts_to_settle(
    rate: float, target: float, icc: float, editors: int, alpha: float = 0.05, power: float = 0.8, ties: float = 0.0
) -> int | None:
    """Prompts at which a bound clears `target`, from whichever side, with probability `power`; None if rate is target.

    n = (z(1 - alpha) sd(target) + z(power) sd(rate))^2 / (rate - target)^2, sd of one prompt's mean: 288 prompts with 3
    editors prove more than 60% at a true 65% and icc .24.
    """
    at_target, at_rate = _deviations(rate, target, icc, editors, ties)
    check_alpha(alpha)
    if not alpha < power < 1:
        raise ValueError(f"power is {power}, but it lies between alpha = {alpha} and 1; 0.8 is usual")
    if math.isclose(rate, target):
        return None
    reach = float(norm.isf(alpha)) * at_target + float(norm.ppf(power)) * at_rate
    return max(2, math.ceil((reach / (rate - target)) ** 2 - 1e-9))


def _deviations(rate: float, target: float, icc: float, editors: int, ties: float) -> tuple[float, float]:
    """Standard deviation of one prompt's mean over editors at a win rate of target, and at one of rate.

    A vote with a share of ties has the variance rate (1 - rate) - ties / 4.
    """
    check_items(editors)
    if not 0 < target < 1 or not 0 <= rate <= 1:
        raise ValueError(f"rate is {rate} and target {target}, but win rates are proportions; write 60% as 0.6")
    if not 0 <= icc <= 1 or not 0 <= ties <= 1:
        raise ValueError(f"icc is {icc} and ties is {ties}, but both lie from 0 to 1; icc 0.3 and no ties are usual")
    shared = icc + (1 - icc) / editors
    at_target, at_rate = (math.sqrt(max(0.0, p * (1 - p) - ties / 4) * shared) for p in (target, rate))
    return at_target, at_rate


def checked_votes(votes: ArrayLike) -> NDArray[np.float64]:
    """votes as floats [prompts, editors]; raises on another shape or value, and on a prompt or editor without any."""
    votes = np.asarray(votes, dtype=float)
    if votes.ndim != 2 or votes.size == 0:
        raise ValueError(f"votes have the shape {votes.shape}, but prompts and editors are needed; check the ballots")
    cast = ~np.isnan(votes)
    if not np.isin(votes[cast], (WIN, TIE, LOSS)).all():
        raise ValueError("votes hold a value that is neither 1 (won), 0.5 (tie) nor 0 (lost); map them to these")
    for axis, name in ((1, "prompt"), (0, "editor")):
        if not cast.any(axis=axis).all():
            lacking = int(np.argmin(cast.any(axis=axis)))
            raise ValueError(f"{name} {lacking} has no vote; leave it out")
    return votes


def _clustered(votes: NDArray[np.float64], alpha: float) -> Interval:
    prompt, editor = np.nonzero(~np.isnan(votes))
    return cluster_robust(2 * votes[prompt, editor] - 1, prompt, alpha)
