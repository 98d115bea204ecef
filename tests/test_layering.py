"""The rules of the tree: which way imports point, what needs no torch, how files are named and how long they get."""

from __future__ import annotations

import ast
import functools
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
ORDER = ("harness", "recipes", "mitigations", "fixtures", "bench", "tests")  # each imports itself and what is before
TORCH = {"torch", "transformers", "peft", "lm_eval", "datasets", "vllm", "trl"}  # torch, and what brings it along
VAGUE = {"utils", "util", "common", "helpers", "helper", "manager", "base", "misc"}
LONGEST = 400


def files_of(package: str) -> list[Path]:
    return sorted((ROOT / package).rglob("*.py"))


OURS = [path for package in ORDER for path in files_of(package)]
HARNESS = files_of("harness")
WITH_MODELS = {"asking.py", "models.py", "texts.py"}  # of harness.reward: they ask reward models
WITHOUT_TORCH = [
    *files_of("harness/stats"),
    *files_of("harness/report"),
    *files_of("harness/samples"),
    *(path for path in files_of("harness/ballot") if path.name != "answers.py"),
    *(ROOT / "harness" / name for name in ("compare.py", "judging.py", "recorded.py", "router.py", "verdict.py")),
    *(ROOT / "harness" / name for name in ("chosen_likelihood.py", "pairs.py", "held_out.py", "shortcuts.py")),
    *(ROOT / "harness" / name for name in ("implicit_rewards.py", "preference_accuracy.py", "target.py")),
    *(path for path in files_of("harness/reward") if path.name not in WITH_MODELS),
]


def name_of(path: Path) -> str:
    return str(path.relative_to(ROOT))


def dotted(path: Path) -> str:
    """The name under which a file is imported."""
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


@functools.cache
def imports(path: Path, everywhere: bool = True) -> tuple[str, ...]:
    """Dotted names that a file imports: anywhere in it, or only when it is itself imported.

    `from a import b` gives a and a.b, as b may be a module.
    """
    return tuple(_imports(path, everywhere))


def _imports(path: Path, everywhere: bool) -> Iterator[str]:
    tree = ast.parse(path.read_text(encoding="utf-8"))
    for node in ast.walk(tree) if everywhere else _run_on_import(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            package = dotted(path).split(".")
            kept = len(package) - node.level + (path.stem == "__init__")
            module = ".".join([*(package[:kept] if node.level else []), *([node.module] if node.module else [])])
            yield from (module, *(f"{module}.{alias.name}" for alias in node.names))


def _run_on_import(node: ast.AST) -> Iterator[ast.AST]:
    for child in ast.iter_child_nodes(node):
        if not isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
            yield child
            yield from _run_on_import(child)


def top(name: str) -> str:
    return name.partition(".")[0]


def reached(path: Path) -> dict[str, list[str]]:
    """Every name that importing a file imports, with the way that leads to it; through our own modules."""
    modules = {dotted(p): p for p in OURS}
    ways, waiting = {}, [(path, [name_of(path)])]
    while waiting:
        file, way = waiting.pop(0)
        for name in imports(file, everywhere=False):
            packages = [".".join(name.split(".")[:n]) for n in range(1, name.count(".") + 2)]
            for module in packages:  # importing a.b.c runs a and a.b first
                if module not in ways:
                    ways[module] = [*way, module]
                    waiting += [(modules[module], ways[module])] if module in modules else []
    return ways


def test_the_tree_is_found():
    assert {"harness", "recipes", "fixtures", "tests"} <= {top(dotted(path)) for path in OURS}
    assert all(path.is_file() for path in WITHOUT_TORCH)
    assert len(WITHOUT_TORCH) > 8


@pytest.mark.parametrize("path", HARNESS, ids=name_of)
def test_the_harness_knows_nothing_of_pytest_or_of_what_uses_it(path):
    forbidden = {"pytest", "_pytest", "conftest", *ORDER[1:]}
    assert not [name for name in imports(path) if top(name) in forbidden]


@pytest.mark.parametrize("path", OURS, ids=name_of)
def test_imports_point_one_way(path):
    rank = ORDER.index(top(dotted(path)))
    above = {*ORDER[rank + 1 :], *(["conftest"] if rank < ORDER.index("tests") else [])}
    assert not [name for name in imports(path) if top(name) in above]


@pytest.mark.parametrize("path", WITHOUT_TORCH, ids=name_of)
def test_what_judges_imports_no_torch_even_inside_its_functions(path):
    assert not [name for name in imports(path) if top(name) in TORCH]


@pytest.mark.parametrize("path", WITHOUT_TORCH, ids=name_of)
def test_importing_what_judges_imports_no_torch_by_any_way(path):
    ways = reached(path)
    assert not [" -> ".join(ways[name]) for name in sorted(TORCH & ways.keys())]


def test_what_judges_runs_without_torch():
    modules = ", ".join(dotted(path) for path in WITHOUT_TORCH)
    code = f"import sys, {modules}; print(*({TORCH} & sys.modules.keys()))"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert (done.stdout, done.returncode) == ("\n", 0), done.stderr


def test_the_way_to_torch_is_found_where_there_is_one():
    assert reached(ROOT / "harness" / "audit.py")["torch"][-1] == "torch"


@pytest.mark.parametrize("path", OURS, ids=name_of)
def test_a_file_is_named_for_its_idea(path):
    assert not VAGUE & set(Path(name_of(path)).with_suffix("").parts)


@pytest.mark.parametrize("path", HARNESS, ids=name_of)
def test_no_file_of_the_harness_is_too_long(path):
    assert len(path.read_text(encoding="utf-8").splitlines()) <= LONGEST
