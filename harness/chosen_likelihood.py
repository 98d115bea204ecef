"""Whether a DPO model finds the chosen answers of held-out pairs less likely than its base does, in nats an answer.

DPO only asks that the rejected answers fall further than the chosen ones; a model on which both fall writes neither
(Pal et al. 2024, arXiv:2402.13228; Razin et al. 2024, arXiv:2410.08847). This is reported beside the accuracy and
decides nothing. What a training has logged of itself (`recipes.chosen_watch`) is the same question on its own pairs.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from scipy.stats import t as student

from harness.implicit_rewards import CHOSEN
from harness.stats import Interval
from harness.store import Score


def chosen_change(
    base: Mapping[str, Score], candidates: Sequence[Mapping[str, Score]], alpha: float = 0.05
) -> Interval:
    """Mean change of log p(chosen) against the base, in nats, with one-sided t bounds over the pairs.

    candidates: the scores of each training run by pair id; a pair's change is the mean over the runs. ValueError where
    there is only one pair, whose spread is not known.
    """
    if len(base) < 2:
        raise ValueError(f"{len(base)} pair gives no bounds; score two or more")
    ids = sorted(base)
    change = [
        float(np.mean([scores[id].metrics[CHOSEN] for scores in candidates])) - base[id].metrics[CHOSEN] for id in ids
    ]
    mean, error = float(np.mean(change)), float(np.std(change, ddof=1)) / len(ids) ** 0.5
    reach = float(student.ppf(1 - alpha, len(ids) - 1)) * error
    return Interval(mean, mean - reach, mean + reach)
