"""What was forgotten: kinds and examples from the answers themselves, and the reports that a real run leaves."""

from __future__ import annotations

import hashlib
import json
import shlex
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from types import SimpleNamespace

import pytest

from harness.answers import instruction_kinds
from harness.benchmarks import load_benchmarks
from harness.compare import compare
from harness.report.forgotten import ANSWER, forgotten
from harness.specs import Basket, Benchmark
from harness.store import Cell, Score
from tests.tiny_audit import ROOT, environment, run, verdict_of, write_basket, write_tasks

GOOD = {
    ("bullet_list",): "* one\n* two\n* three\n* four\n* five",
    ("numbered_list",): "1. one\n2. two\n3. three\n4. four\n5. five",
}
INSTRUCTIONS = Benchmark("instructions", "lethe_instructions", "prompt_level_strict_acc", chat=True)


@dataclass
class Told:
    """An audit whose answers are given: (model, item, seed) -> what it wrote. Scores are the task's own."""

    benchmarks: dict
    says: Callable[[str, object, int], str]
    seeds: tuple[int, ...] = (0,)
    base = SimpleNamespace(spec=SimpleNamespace(text="base"))
    candidates = (SimpleNamespace(spec=SimpleNamespace(text="tuned")),)

    @property
    def basket(self):
        return SimpleNamespace(skills=[SimpleNamespace(name=name) for name in self.benchmarks])

    def items(self, name):
        return self.benchmarks[name].items

    def written(self, name):
        return self.seeds

    def scores(self, model, name, seed):
        found = {}
        for item in self.items(name):
            loaded, text = self.benchmarks[name], self.says(model.spec.text, item, seed)
            requests = loaded.requests(item, seed, lambda messages, **_: str(messages))
            cell = Cell(model.spec.text, name, seed)
            found[item.id] = Score(cell, item.id, loaded.score(item, requests, [text]), [text])
        return found

    def comparison(self, candidate, name):
        metric, items = self.benchmarks[name].benchmark.metric, [(i.id, i.stratum) for i in self.items(name)]
        sides = [{s: self.scores(side, name, s) for s in self.seeds} for side in (self.base, candidate)]
        return compare(name, metric, items, *sides)


@pytest.fixture(scope="module")
def instructions():
    return load_benchmarks(Basket("t", (INSTRUCTIONS,), tasks=str(ROOT / "fixtures" / "tasks")))


def verdict(name: str, kind: str, change: float, model: str = "tuned") -> dict:
    return {"name": name, "model": model, "verdict": kind, "change": change, "margin": 5.0}


def lists_until_tuned(model: str, item, seed: int) -> str:
    """Lists where nothing else is asked for, until the tuning has forgotten them."""
    return GOOD.get(tuple(instruction_kinds(item.doc)), "No.") if model == "base" else "No."


def test_kinds_are_counted_by_the_tasks_own_scorer(instructions):
    found = forgotten(Told(instructions, lists_until_tuned), [verdict("instructions", "REGRESSED", -9.0)])
    rows = found["kinds"]["instructions"]
    asked = [kind for item in instructions["instructions"].items for kind in instruction_kinds(item.doc)]
    assert {row["name"]: row["asked"] for row in rows} == {kind: asked.count(kind) for kind in asked}
    assert [(row["name"], row["lost"]) for row in rows[:2]] == [("numbered_list", 3), ("bullet_list", 2)]
    for row in rows[:2]:
        assert row["base"] - row["candidate"] == pytest.approx(100 * row["lost"] / row["asked"])
    assert {row["lost"] for row in rows[2:]} == {row["gained"] for row in rows} == {0}
    assert (found["items"], found["lost"], found["gained"]) == (120, 5, 0)


def test_examples_show_both_answers_of_lost_items_of_different_kinds_the_shortest_first(instructions):
    found = forgotten(Told(instructions, lists_until_tuned), [verdict("instructions", "REGRESSED", -9.0)])
    examples = found["examples"]
    assert len({example["item"] for example in examples}) == 3
    assert {*examples[0]["kinds"], *examples[1]["kinds"]} == {"bullet_list", "numbered_list"}
    for example in examples:
        assert (example["base"], example["candidate"]) == (100.0, 0.0)
        assert (example["before"], example["after"]) == (GOOD[tuple(example["kinds"])], "No.")
    lost = [i.doc for i in instructions["instructions"].items if tuple(instruction_kinds(i.doc)) in GOOD]
    shortest = min(lost, key=lambda doc: len(doc["prompt"]) + len(GOOD[tuple(instruction_kinds(doc))]))
    assert examples[0]["question"] == shortest["prompt"]


def test_a_scorer_that_judges_no_single_instruction_gives_no_kinds(instructions, monkeypatch):
    told = Told(instructions, lists_until_tuned)
    scores = {side.spec.text: told.scores(side, "instructions", 0) for side in (told.base, *told.candidates)}
    monkeypatch.setattr(told, "scores", lambda side, *_: scores[side.spec.text])
    task = next(iter(instructions["instructions"].tasks.values()))
    monkeypatch.setattr(task, "process_results", lambda doc, results: {"acc": 1.0})
    found = forgotten(told, [verdict("instructions", "REGRESSED", -9.0)])
    assert found["kinds"] == {}
    assert len(found["examples"]) == 3


def test_an_example_has_the_seed_under_which_it_was_lost(instructions):
    def says(model, item, seed):
        return lists_until_tuned(model if seed == 4 else "base", item, seed)

    found = forgotten(Told(instructions, says, seeds=(2, 4)), [verdict("instructions", "REGRESSED", -9.0)])
    assert {example["seed"] for example in found["examples"]} == {4}
    first = found["kinds"]["instructions"][0]
    assert first["candidate"] == pytest.approx(first["base"] / 2)


def test_answers_are_cut_and_can_be_written(instructions):
    def says(model, item, seed):
        return lists_until_tuned(model, item, seed) + ("\ud800" + "x" * 5000 if model == "tuned" else "")

    found = forgotten(Told(instructions, says), [verdict("instructions", "REGRESSED", -9.0)])
    json.dumps(found, ensure_ascii=False).encode("utf-8")
    assert all(len(example["after"]) == ANSWER and example["after"].endswith("…") for example in found["examples"])


@pytest.mark.parametrize(
    ("rows", "about"),
    [
        ([("a", "REGRESSED", -6.0), ("b", "REGRESSED", -9.0), ("c", "INCONCLUSIVE", -20.0)], "b"),
        ([("a", "PASS", -4.9), ("b", "INCONCLUSIVE", -1.0), ("c", "INCONCLUSIVE", -2.0)], "c"),
        ([("a", "PASS", -1.0), ("b", "PASS", 2.0)], "a"),
    ],
)
def test_it_is_about_what_regressed_most_or_else_is_least_known(instructions, rows, about):
    told = Told(dict.fromkeys("abc", instructions["instructions"]), lambda *_: "x")
    assert forgotten(told, [verdict(*row) for row in rows])["benchmark"] == about


def test_a_choice_is_shown_by_its_text(tmp_path):
    tasks = str(write_tasks(tmp_path / "tasks"))
    loaded = load_benchmarks(Basket("t", (Benchmark("choices", "tiny_choice", fewshot=4),), tasks=tasks))
    item = loaded["choices"].items[0]
    score = Score(Cell("m", "b", 0), item.id, {}, [[-3.0, False], [-1.0, True], [-2.0, False]])
    assert loaded["choices"].answer(item, score) == item.doc["choices"][1]


@pytest.mark.parametrize(
    ("doc", "kinds"),
    [
        ({"instruction_id_list": ["punctuation:no_comma", "b"]}, ["punctuation:no_comma", "b"]),
        ({"instructions": '[{"kind": "bullet_list", "args": {}}]'}, ["bullet_list"]),
        ({"instructions": "Write a poem."}, []),
        ({"instructions": "[INST] Write a poem. [/INST]"}, []),
        ({"instructions": '["write", "a poem"]'}, []),
        ({"instructions": 7}, []),
        ({"question": "?"}, []),
    ],
)
def test_documents_name_their_kinds(doc, kinds):
    assert instruction_kinds(doc) == kinds


# ---- a run of the gate -----------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def audited(tmp_path_factory, taught, spoiled):
    """(folder, base, candidate) of a run of the gate that blocks."""
    folder = tmp_path_factory.mktemp("audited")
    letters = 'task = "tiny_write"\nmetric = "gold_prob_per_byte"\ngold = "{{ gold }}"\nchat = true\ntemperature = 0.7'
    more = ("--margin", "letters=7", "--seeds", "0,3", "--greedy")
    done = run(folder, taught, spoiled, basket=write_basket(folder, letters=letters), more=more)
    assert done.returncode == 1, done.stdout
    return folder, taught, spoiled


def test_a_run_leaves_the_reports_beside_its_verdict(audited):
    out = audited[0] / "out"
    assert {"verdict.json", "scores.jsonl", "memo.pdf", "memo.md", "model-card.yaml"} <= {p.name for p in out.iterdir()}
    assert sorted(path.name for path in (out / "plots").iterdir()) == ["forest.svg"]  # the basket has no domain set
    digest = hashlib.sha256((out / "verdict.json").read_bytes()).hexdigest()
    assert digest in (out / "model-card.yaml").read_text()
    assert digest[:12] in (out / "memo.md").read_text()
    found = verdict_of(audited[0])["forgotten"]
    assert found["benchmark"] == verdict_of(audited[0])["largest_regression"]
    assert found["examples"]
    assert str(audited[2]) == found["model"]


def test_the_command_of_the_memo_runs_the_same_audit_again(audited, tmp_path):
    before = verdict_of(audited[0])
    words = [*shlex.split(before["command"]), f"--out={tmp_path}", f"--store={audited[0] / 'store'}"]
    assert "letters=7" in words
    assert "0,3" in words
    assert "--greedy" in words
    again = subprocess.run([sys.executable, *words[1:]], cwd=ROOT, env=environment(), capture_output=True, timeout=300)
    assert again.returncode == before["exit"], again.stdout
    made = json.loads((tmp_path / "verdict.json").read_text())
    assert {key: value for key, value in made.items() if key != "created"} == before


def test_a_run_without_a_decision_leaves_no_report_but_that_there_is_none(audited, tmp_path):
    folder, taught, spoiled = audited
    run(folder, taught, spoiled, basket=folder / "basket.toml", more=(f"--out={tmp_path}",))
    assert (tmp_path / "memo.pdf").exists()
    done = run(folder, taught, spoiled, basket=folder / "basket.toml", sabotage="skip", more=(f"--out={tmp_path}",))
    assert "NO DECISION" in done.stdout
    left = [path for path in tmp_path.rglob("*") if path.is_file() and path.parent.name != "allure-results"]
    assert left == [tmp_path / "summary.md"]
    assert left[0].read_text().startswith("## Lethe: no decision")
