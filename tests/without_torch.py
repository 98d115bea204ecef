"""A pytest plugin for a process in which torch, and what brings it along, cannot be imported: `-p tests.without_torch`.

As a command: python -m tests.without_torch MODULE ARGUMENTS… runs a module so.
"""

from __future__ import annotations

import runpy
import sys

REFUSED = {"torch", "transformers", "peft", "lm_eval", "datasets", "vllm", "trl"}


class Refuse:
    """An entry of sys.meta_path."""

    @staticmethod
    def find_spec(name: str, *_):
        if name.partition(".")[0] in REFUSED:
            raise ModuleNotFoundError(f"a process without torch imports {name}")


if REFUSED & sys.modules.keys():
    raise RuntimeError(f"imported already: {REFUSED & sys.modules.keys()}")
sys.meta_path.insert(0, Refuse)

if __name__ == "__main__":
    sys.argv = sys.argv[1:]
    runpy.run_module(sys.argv[0], run_name="__main__", alter_sys=True)
