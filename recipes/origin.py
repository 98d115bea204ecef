"""What shows in an adapter that `sft` trains besides its base, its data and its settings."""

from __future__ import annotations

from importlib.metadata import version
from pathlib import Path
from typing import Any

from harness.fingerprint import files_digest
from recipes.adapter import threads, trained_on

CODE = ("sft.py", "adapter.py", "pairs.py", "mixing.py", "mixed_trainer.py", "answer_loss.py")
PACKAGES = ("torch", "transformers", "tokenizers", "peft", "trl", "accelerate")


def surroundings(device: str = "auto") -> dict[str, Any]:
    """The recipe's code by digest, the packages that run it by version, the kind of device and the threads.

    On as many threads as sums are shared by, they are taken in another order, and end in other weights.
    """
    from harness import onednn

    return {
        "code": files_digest([Path(onednn.__file__), *(Path(__file__).with_name(name) for name in CODE)]),
        "packages": {name: version(name) for name in PACKAGES},
        "device": trained_on(device),
        "threads": threads(),
    }
