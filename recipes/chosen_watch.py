"""Whether the chosen answers became less likely in DPO: its loss only asks that the rejected ones fall more.

A model that drifts so writes neither. What is watched is logps/chosen minus the base's on the same pairs, in nats an
answer, so that long and short batches can be compared. Seen and explained in Pal et al. 2024, "Smaug",
arXiv:2402.13228, and Razin et al. 2024, arXiv:2410.08847. The remedy is a term of supervised loss: --loss sigmoid+sft.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

THIRDS = 3
SURE = 2.0  # standard errors of the last third's batches that it must lie below 0


def watch(log: Sequence[Mapping[str, float]], beta: float) -> dict[str, Any]:
    """What the trainer logged after each step -> {"thirds", "sustained_fall"}, ready for a note.

    thirds: mean change of logps/chosen against the base in each third of the training, in nats. sustained_fall: each
    third lies below the one before and the last below 0, by more than `SURE` standard errors. Fewer than two steps a
    third tell nothing: thirds are then empty.
    """
    changes = [step["rewards/chosen"] / beta for step in log if "rewards/chosen" in step]
    size = len(changes) // THIRDS
    if size < 2:
        return {"thirds": [], "sustained_fall": False}
    parts = [changes[:size], changes[size:-size], changes[-size:]]
    means = [float(np.mean(part)) for part in parts]
    error = float(np.std(parts[-1], ddof=1)) / math.sqrt(size)
    falls = means[0] > means[1] > means[2] and means[2] < -SURE * error
    return {"thirds": [round(mean, 3) for mean in means], "sustained_fall": falls}


def warning(found: Mapping[str, Any]) -> str | None:
    """The sentence that reports a sustained fall, or None."""
    if not found["sustained_fall"]:
        return None
    first, _, last = found["thirds"]
    return (
        f"the chosen answers became less likely throughout: logps/chosen {first:+.1f} nats against the base in the"
        f" first third, {last:+.1f} in the last; add --loss sigmoid+sft, or write a smaller --lr."
    )
