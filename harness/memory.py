"""What fits: how much goes through a model at once, and what to do when it was too much."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

MOST = {"cpu": (1024, 256), "cuda": (8192, 256)}  # tokens of one pass, rows written together: more gains no speed
ROW = 1024  # tokens that a row may come to hold in the cache, for the estimate
OWN_GROUPS = Path("/proc/self/cgroup")
# where groups lie, their limit and what they use, in version 2 and version 1
GROUPS = (
    (Path("/sys/fs/cgroup"), "memory.max", "memory.current"),
    (Path("/sys/fs/cgroup/memory"), "memory.limit_in_bytes", "memory.usage_in_bytes"),
)
SHARE = 0.4  # of the free memory that the cache may take, and that one pass may take


@dataclass(frozen=True)
class Budget:
    """pack_tokens: of one forward pass over a tree; slots: rows generated together. Neither shows in a score."""

    pack_tokens: int
    slots: int

    @classmethod
    def of(cls, model) -> Budget:
        """From the memory that is free on the model's device now; at least what one short request needs."""
        config, size = model.config.get_text_config(), model.dtype.itemsize
        heads = config.num_attention_heads
        cached = 2 * config.num_hidden_layers * (getattr(config, "num_key_value_heads", None) or heads)
        cached *= (getattr(config, "head_dim", None) or config.hidden_size // heads) * size
        # what lives at once in a layer, and logits in float32 for every other token
        active = (8 * config.hidden_size + 3 * (getattr(config, "intermediate_size", None) or 0)) * size
        active += cached + 6 * config.vocab_size
        tokens, slots = MOST["cuda" if model.device.type == "cuda" else "cpu"]
        room = SHARE * free_memory(model.device)
        return cls(max(64, min(tokens, int(room / active))), max(1, min(slots, int(room / (cached * ROW)))))


def free_memory(device: torch.device) -> int:
    """Bytes that a new tensor could take on a device."""
    if device.type == "cuda":
        free, _ = torch.cuda.mem_get_info(device)
        return free + torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
    import psutil

    return min([psutil.virtual_memory().available, *_left_to_groups()])


def _left_to_groups() -> list[int]:
    """Bytes that each control group around this process may still take: a container knows no other limit.

    Pages of files that nobody has touched lately count as free, as the kernel takes them back first.
    """
    left = []
    for line in _lines(OWN_GROUPS):
        _, controllers, path = line.split(":", 2)
        if controllers in ("", "memory") or "memory" in controllers.split(","):
            root, limit, usage = GROUPS[bool(controllers)]
            # inside a container the path may be that of the host, and its own group lies at the root
            own = root / path.strip("/")
            for group in (own, *(parent for parent in own.parents if parent.is_relative_to(root))):
                most, used = _number(group / limit), _number(group / usage)
                if most is not None and used is not None:
                    left.append(max(0, most - used + _idle_files(group)))
    return left


def _idle_files(group: Path) -> int:
    found = dict(line.split() for line in _lines(group / "memory.stat"))
    return int(found.get("total_inactive_file", found.get("inactive_file", 0)))


def _number(file: Path) -> int | None:
    text = next(iter(_lines(file)), "max").strip()
    return int(text) if text.isdecimal() else None


def _lines(file: Path) -> list[str]:
    try:
        return file.read_text().splitlines()
    except OSError:  # another system, or a group that is gone
        return []


def out_of_memory(error: BaseException) -> bool:
    """True for CUDA's and the CPU allocator's out-of-memory errors, and for Python's own MemoryError."""
    if isinstance(error, torch.OutOfMemoryError | MemoryError):
        return True
    # the CPU's allocator; the driver's own words on CUDA and HIP; the libraries' (cuBLAS, cuDNN, cuSOLVER)
    words = ("can't allocate memory", "error: out of memory", "STATUS_ALLOC_FAILED")
    return isinstance(error, RuntimeError) and any(word in str(error) for word in words)


def attempt(work: Callable[[], Any], again: bool) -> Any:
    """What `work` returns, or None if the memory did not suffice and the caller can do less (`again`).

    On return the failed work's tensors are gone: inside an `except` the traceback would hold them.
    """
    try:
        return work()
    except (RuntimeError, MemoryError) as error:
        if not again or not out_of_memory(error):
            raise
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
    return None
