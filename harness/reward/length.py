"""Whether a reward is length: its margins beside the difference in tokens, outside the categories that judge length.

Correlation is Spearman's, of ranks, so that a head that takes the logarithm of the length, or saturates, is found too.
Reward models that favour length are what the policies trained on them then write (Singhal et al. 2023,
arXiv:2310.03716).
"""

from __future__ import annotations

import numpy as np
from scipy.stats import rankdata

from harness.report.numbers import as_set, coefficient, points, rate, signed
from harness.reward.checks import Check, Figure, Question, ask
from harness.reward.policy import Policy
from harness.reward.scores import RewardScores
from harness.stats import by_source, share_interval

TOO_FEW = "too few pairs of other categories than {}, or margins or lengths that do not differ"


def length(found: RewardScores, policy: Policy) -> list[Check]:
    return [_length_only(found, policy), _correlation(found, policy), _gap(found, policy)]


def correlation(found: RewardScores, policy: Policy) -> float | None:
    """Rank correlation, in [-1, 1], of margin and length difference of one run; None where it has no meaning."""
    kept = _judged_otherwise(found, policy)
    margin, longer = found.margin[kept, 0], found.longer[kept]
    if len(margin) < policy.diagnostics.fewest or np.ptp(margin) == 0 or np.ptp(longer) == 0:
        return None
    return float(np.corrcoef(rankdata(margin), rankdata(longer))[0, 1])


def _length_only(found: RewardScores, policy: Policy) -> Check:
    """A run whose margins follow length, but which is right where length does not help, counts as at the threshold."""
    most = policy.diagnostics.length_only
    remedy = "add pairs whose answers are equally long, and pairs in which the longer answer is the rejected one"
    limit = f"above {coefficient(most)} either way those must be shown to be above 50%"
    question = Question("length-only", most, False, limit, remedy)

    def figure(run: RewardScores) -> Figure | None:
        value = correlation(run, policy)
        if value is None:
            return None
        shown, unaided = _unaided(run, value, policy)
        return Figure(min(abs(value), most) if shown else abs(value), f"{_followed(value)}, {unaided}")

    return ask(question, found, figure, _too_few(policy))


def _unaided(run: RewardScores, value: float, policy: Policy) -> tuple[bool, str]:
    """Whether accuracy is shown to be above 50% where answers are about equally long and a head that only follows
    length as `value` does is at most at 50%; and the figures in words."""
    apart = policy.diagnostics.length_matched
    matched = np.abs(run.longer) <= apart * run.tokens.max(axis=1)
    kept = _judged_otherwise(run, policy) & matched & (np.sign(value) * run.longer <= 0)
    where = f"pairs within {rate(apart)} of equal length whose chosen answer it does not favour"
    if not kept.any():
        return False, f"there are no {where}"
    bound = share_interval(by_source(run.right[kept], run.prompts[kept]), policy.alpha)
    return bound.low > 0.5, f"{points(bound.estimate)}% of the {kept.sum()} {where} are right"


def _correlation(found: RewardScores, policy: Policy) -> Check:
    most = policy.diagnostics.length_correlation
    remedy = "look at whether raters of these pairs judged length, and balance the pairs if they did not"
    question = Question("length-correlation", most, False, f"at most {coefficient(most)} either way is fine", remedy)

    def figure(run: RewardScores) -> Figure | None:
        value = correlation(run, policy)
        return None if value is None else Figure(abs(value), _followed(value))

    return ask(question, found, figure, _too_few(policy))


def _gap(found: RewardScores, policy: Policy) -> Check:
    """The reversed pairs are those whose rejected answer is the longer one: a bias for length gets them wrong."""
    limits = policy.diagnostics
    remedy = "add pairs in which the answer that it gets wrong for its length is right"
    most = f"at most {as_set(100 * limits.length_gap)} either way are fine"
    question = Question("length-gap", limits.length_gap, False, most, remedy)

    def figure(run: RewardScores) -> Figure | None:
        kept = _judged_otherwise(run, policy)
        sides = run.right[kept & (run.longer > 0), 0], run.right[kept & (run.longer < 0), 0]
        if min(map(len, sides)) < limits.fewest:
            return None
        shares = [float(side.mean()) for side in sides]
        gap = f"{signed(shares[0] - shares[1])} points"
        longer = f"{points(shares[0])}% of the pairs with the longer answer chosen are right"
        said = f"{longer} and {points(shares[1])}% of those with the shorter one ({gap})"
        return Figure(abs(shares[0] - shares[1]), said)

    return ask(question, found, figure, _too_few(policy))


def _judged_otherwise(found: RewardScores, policy: Policy) -> np.ndarray:
    """[pairs]: those of categories in which length is not what is judged."""
    return np.array([pair.category not in policy.inherent_length for pair in found.pairs], bool)


def _followed(value: float) -> str:
    return f"the rank correlation of margin and length difference is {coefficient(value)}"


def _too_few(policy: Policy) -> str:
    return TOO_FEW.format(" and ".join(policy.inherent_length) or "none")
