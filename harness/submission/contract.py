"""What a submission is given: its inputs, its limits, its environment, and where all of it lies inside the sandbox."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

GIB = 1 << 30
PORT = 8080  # of the metering proxy, on the sandbox's own loopback
FOLDER, TRAIN, TICKETS, WEIGHTS = "/submission", "/data/train.jsonl", "/data/val.jsonl", "/weights"
SCRATCH, RESULTS, SOCKET, LOGS, FIRST = "/tmp", "/tmp/results.json", "/proxy/socket", "/log", "/inside.py"


@dataclass(frozen=True)
class Limits:
    """What a submission may use, in seconds, bytes and numbers.

    memory: of one process, and of all together; processes: with threads; file: the largest that it writes; scratch: all
    that it writes, held in memory; results: of the results file; threads: that numerical libraries are told to use.
    """

    seconds: float = 1800.0
    memory: int = 16 * GIB
    processes: int = 256
    file: int = 2 * GIB
    scratch: int = 4 * GIB
    results: int = 20_000_000
    threads: int = os.cpu_count() or 1


@dataclass(frozen=True)
class Inputs:
    """What a submission is given: two JSONL files, and the directory of the model's weights."""

    train: Path
    tickets: Path
    weights: Path


def environment(limits: Limits, seed: int, metered: bool) -> Mapping[str, str]:
    """All variables that a submission is given; none of the host's. The key is no key: the proxy holds the real one."""
    made = {"PATH": "/usr/bin:/bin", "HOME": SCRATCH, "TMPDIR": SCRATCH, "LANG": "C.UTF-8", "USER": "submission"}
    made |= {"SEED": str(seed), "PYTHONHASHSEED": "0", "OMP_NUM_THREADS": str(limits.threads)}
    made |= {"HF_HUB_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "false", "CUBLAS_WORKSPACE_CONFIG": ":4096:8"}
    if metered:
        made |= {"OPENAI_BASE_URL": f"http://127.0.0.1:{PORT}/v1", "OPENAI_API_KEY": "metered"}
    return made
