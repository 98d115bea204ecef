"""What a stored score depends on, as far as the task's own code goes."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from harness.benchmarks import load_benchmarks
from harness.specs import Basket, Benchmark
from harness.tasks import _leaves, task_manager
from tests.tiny_audit import WRITE, write_tasks

SCORER = """
from functools import partial


def prompt(doc, end):
    return doc["question"] + end


def right(references, predictions, **_):
    return 1.0


asked = partial(prompt, end="?")
"""
WITH_CODE = {
    "a function with bound arguments": ('doc_to_text: "{{{{question}}}}"', "doc_to_text: !function scorer.asked"),
    "a metric, deep in the configuration": ("metric: exact_match", "metric: !function scorer.right"),
}


@pytest.fixture(params=WITH_CODE.values(), ids=WITH_CODE)
def task(request, tmp_path) -> Path:
    """A folder with a task that names one function, which lies beside a helper."""
    folder = write_tasks(tmp_path / "tasks")
    text = WRITE.replace(*request.param)
    assert text != WRITE
    (folder / "coded.yaml").write_text(text.format(name="coded", docs=folder / "docs.jsonl"))
    (folder / "scorer.py").write_text(SCORER)
    (folder / "parts").mkdir()
    (folder / "parts" / "words.py").write_text("WORDS = 3\n")
    return folder


def digest(folder: Path) -> str:
    benchmark = Benchmark("b", "coded", metric="empty")
    return load_benchmarks(Basket("t", (benchmark,), tasks=str(folder)))["b"].digest


@pytest.mark.parametrize("name", ["scorer.py", "parts/words.py", "beside.py"])
def test_an_edited_helper_makes_other_scores(task, name):
    before = digest(task)
    with (task / name).open("a") as file:
        file.write("EDITED = True\n")
    assert digest(task) != before


@pytest.mark.parametrize("name", ["__pycache__/scorer.py", ".hidden/other.py", "notes.md"])
def test_what_is_no_source_of_the_task_keeps_the_stored_scores(task, name):
    before = digest(task)
    (task / name).parent.mkdir(exist_ok=True)
    (task / name).write_text("EDITED = True\n")
    assert digest(task) == before


def test_code_counts_by_content_and_not_by_where_it_lies(task, tmp_path):
    moved = shutil.copytree(task, tmp_path / "moved")
    assert digest(moved) == digest(task)


def test_a_group_of_ones_own_may_name_tasks_of_lm_eval_s_folders(tmp_path):
    (tmp_path / "mine.yaml").write_text("group: mine\ntask: [arc_easy, boolq]\n")
    manager = task_manager(["mine"], str(tmp_path))
    assert _leaves("mine", manager, "b") == ["arc_easy", "boolq"]
