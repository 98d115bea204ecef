"""Tells a machine that ran out of memory from every other error."""

from __future__ import annotations

import torch


def out_of_memory(error: BaseException) -> bool:
    """True for CUDA's and the CPU allocator's out-of-memory errors, and for Python's own MemoryError."""
    if isinstance(error, torch.OutOfMemoryError | MemoryError):
        return True
    return isinstance(error, RuntimeError) and "can't allocate memory" in str(error)
