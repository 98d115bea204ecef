"""A run of trl's trainer: what it is made from, its progress bar, where a killed one goes on, the note it leaves."""

from __future__ import annotations

import json
import math
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any

from harness import checkpoints
from harness.evaluate import package_versions
from harness.fingerprint import digest_of, file_digest
from harness.specs import Unusable
from recipes.adapter import threads, trained_on, words_of


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


def key_of_training(version: int, base, data: str | Path, settings, packages: tuple[str, ...]) -> str:
    """Digest of all that an adapter is made from; version: of the recipe; packages: besides those scores depend on."""
    given = [version, base.digest, file_digest(Path(data)), asdict(settings)]
    return digest_of([*given, threads(), trained_on(), package_versions(packages)])[:24]


def say_too_long(pairs: int, fitting: int, longest: int) -> int:
    """How many pairs do not fit, also to stderr; `Unusable` where none does."""
    if not fitting:
        raise Unusable(f"--max-length {longest} leaves no pair to be trained on; write a larger one.")
    if too_long := pairs - fitting:
        print(f"{too_long} of {pairs} pairs are longer than --max-length {longest} and are left out.", file=sys.stderr)
    return pairs - fitting


def note_of(recipe: str, base, data: str | Path, out: Path, settings) -> dict[str, Any]:
    """What an adapter was made from, and the command that makes it again."""
    given = ["--base", base.spec.text, "--data", Path(data).name, "--out", out.name, *words_of(settings)]
    return {
        "command": " ".join([f"python -m recipes.{recipe}", *given]),
        "base_weights": checkpoints.weights_digest(base),
        "data": file_digest(Path(data)),
        "settings": asdict(settings),
        "threads": threads(),
    }
