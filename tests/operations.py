"""Counts what torch computes, for tests of cost that must not depend on a clock."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode


class Operations(TorchDispatchMode):
    """count: operations run inside the block; largest: elements of the largest tensor that one of them gave."""

    def __init__(self):
        super().__init__()
        self.count, self.largest = 0, 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        found = func(*args, **(kwargs or {}))
        self.count += 1
        for each in found if isinstance(found, tuple | list) else [found]:
            if isinstance(each, torch.Tensor):
                self.largest = max(self.largest, each.numel())
        return found


def operations(call: Callable[[], Any]) -> int:
    """How many operations a call takes."""
    with Operations() as seen:
        call()
    return seen.count
