"""A run of trl's trainer: its progress bar, and where a run that was killed goes on."""

from __future__ import annotations

import json
import math
from pathlib import Path


def training_bar():
    """A progress bar that shows the loss and the margin, without a line for each step."""
    from transformers import ProgressCallback

    class Bar(ProgressCallback):
        def on_log(self, args, state, control, logs=None, **kwargs):
            if self.training_bar is not None and logs and "loss" in logs:
                shown = {
                    "loss": float(logs["loss"]),
                    "margin": logs.get("rewards/margins", logs.get("margin", math.nan)),
                }
                self.training_bar.set_postfix({name: f"{value:.2f}" for name, value in shown.items()})

    return Bar()


def last_checkpoint(work: Path) -> str | None:
    """The last checkpoint that is whole: the trainer's state is written at its end."""
    whole = []
    for state in work.glob("checkpoint-*/trainer_state.json"):
        try:
            whole.append((json.loads(state.read_text())["global_step"], str(state.parent)))
        except (OSError, ValueError, KeyError):
            continue
    return max(whole)[1] if whole else None
