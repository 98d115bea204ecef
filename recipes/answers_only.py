"""Lets trl's language-model head score the tokens of answers alone, on a CPU as on a GPU: the loss is the same.

trl's fused head skips what has no label only where its Triton kernels run; elsewhere it multiplies prompts and padding
into the whole vocabulary too, which doubles the time of a step of DPO. The switch is private to trl 1.16; where it is
missing, nothing is changed.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

SWITCH = "_use_triton"


@contextlib.contextmanager
def answers_only() -> Iterator[None]:
    """Inside the block; the kernels have a switch of their own, which stays as it is."""
    from trl.trainer import utils

    own = getattr(utils, SWITCH, None)
    if own is None:
        yield
        return
    setattr(utils, SWITCH, lambda device: True)
    try:
        yield
    finally:
        setattr(utils, SWITCH, own)
