"""What counts as free memory in a container, which the host's figures do not know of."""

from __future__ import annotations

import psutil
import pytest
import torch

from harness import memory

GIB = 2**30


@pytest.fixture
def groups(tmp_path, monkeypatch):
    """(version, path of the process's group, {group: (limit, used, idle pages of files)}) as a kernel shows them."""

    def make(version: int, own: str, found: dict[str, tuple[str, int, int]]) -> None:
        names = {2: ("memory.max", "memory.current"), 1: ("memory.limit_in_bytes", "memory.usage_in_bytes")}
        for path, (limit, used, idle) in found.items():
            (tmp_path / path).mkdir(parents=True, exist_ok=True)
            for name, text in zip(names[version], (limit, used), strict=True):
                (tmp_path / path / name).write_text(f"{text}\n")
            (tmp_path / path / "memory.stat").write_text(f"anon 5\ninactive_file {idle}\n")
        line = f"0::{own}" if version == 2 else f"4:cpu,memory:{own}"
        (tmp_path / "own").write_text(f"9:name=systemd:/\n{line}\n")
        monkeypatch.setattr(memory, "OWN_GROUPS", tmp_path / "own")
        monkeypatch.setattr(memory, "GROUPS", tuple((tmp_path, *names[version]) for version in (2, 1)))

    monkeypatch.setattr(psutil, "virtual_memory", lambda: type("Host", (), {"available": 500 * GIB}))
    return make


def free() -> float:
    return memory.free_memory(torch.device("cpu")) / GIB


@pytest.mark.parametrize("version", [1, 2])
@pytest.mark.parametrize("own", ["/", "/kubepods/pod1", "/on/the/host/alone"])
def test_a_container_has_what_its_limit_leaves(groups, version, own):
    limit = (str(40 * GIB), 30 * GIB, 4 * GIB)
    groups(version, own, {".": limit} if "host" in own else {own.strip("/"): limit})
    assert free() == 14


def test_the_tightest_of_the_groups_around_counts(groups):
    groups(2, "/pods/mine", {"pods": (str(8 * GIB), 6 * GIB, 0), "pods/mine": (str(40 * GIB), 1 * GIB, 0)})
    assert free() == 2


def test_without_a_limit_the_machine_s_own_figure_counts(groups):
    groups(2, "/mine", {"mine": ("max", 30 * GIB, 0)})
    assert free() == 500


def test_more_than_the_limit_leaves_nothing(groups):
    groups(2, "/mine", {"mine": (str(4 * GIB), 5 * GIB, 0)})
    assert free() == 0
