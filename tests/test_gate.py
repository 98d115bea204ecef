"""The gate as its users run it: exit statuses, and that nothing turns into a pass that has not passed."""

from __future__ import annotations

import json
import re
import shutil
import signal
import sqlite3
import subprocess
from pathlib import Path

import pytest
from safetensors.torch import load_file, save_file

from tests.conftest import save_adapter, save_tiny
from tests.tiny_audit import ROOT, command, environment, run, verdict_of, write_basket


@pytest.fixture(scope="module")
def shipped(tmp_path_factory, taught) -> Path:
    """The folder of an audit of a model against itself."""
    folder = tmp_path_factory.mktemp("shipped")
    done = run(folder, taught, taught, fresh=True)
    assert done.returncode == 0, done.stdout
    assert "SHIP (exit 0): all 2 benchmarks lost less than their margins" in done.stdout
    return folder


def test_a_model_against_itself_ships_without_a_flip(shipped):
    verdict = verdict_of(shipped)
    assert verdict["decision"] == "SHIP"
    assert [row["flips"] for row in verdict["benchmarks"]] == [0, 0]


@pytest.fixture(scope="module")
def blocked(tmp_path_factory, taught, spoiled):
    """An audit of an adapter that spoils its base, run once."""
    folder = tmp_path_factory.mktemp("blocked")
    return folder, run(folder, taught, spoiled)


def test_a_spoiled_model_is_blocked(blocked):
    folder, done = blocked
    verdict = verdict_of(folder)
    assert done.returncode == verdict["exit"] == 1, done.stdout
    regressed = [row for row in verdict["benchmarks"] if row["verdict"] == "REGRESSED"]
    assert regressed
    assert all(row["high"] < -row["margin"] for row in regressed)
    assert verdict["largest_regression"] in [row["name"] for row in regressed]
    assert [c["name"] for c in verdict["canaries"]] == ["effect", "repeat", "damaged"]
    assert all(change > 0 for change in verdict["canaries"][0]["logit_change"].values())
    assert verdict["canaries"][2]["verdict"] == "REGRESSED"
    assert f"BLOCKED (exit 1): {regressed[0]['name']}" in done.stdout


@pytest.mark.parametrize("more", [("-n", "2"), ("-n", "2", "--dist", "loadgroup")], ids=["load", "loadgroup"])
def test_two_workers_reach_the_same_verdict_cell_for_cell(tmp_path, taught, spoiled, blocked, more):
    done = run(tmp_path, taught, spoiled, more=(*more, "-v"))
    assert done.returncode == 1, done.stdout
    assert _same(verdict_of(tmp_path)["benchmarks"], verdict_of(blocked[0])["benchmarks"])
    assert _same(_rows(tmp_path), _rows(blocked[0]))
    if "loadgroup" in more:  # a model stays on the worker, and so on the GPU, that has loaded it
        workers = re.findall(r"\[(gw\d)\].*test_evaluation\[(base|candidate)-", done.stdout)
        assert len(workers) == 6
        assert len(set(workers)) == 2


def test_a_second_run_evaluates_nothing_and_says_the_same(tmp_path, taught, spoiled, blocked):
    before = verdict_of(blocked[0])
    done = run(blocked[0], taught, spoiled, sabotage="kill:1")  # would die at the first score it wrote
    assert done.returncode == 1
    assert verdict_of(blocked[0]) == before


def test_a_margin_on_the_command_line_wins(tmp_path, blocked, taught, spoiled):
    margins = ("--margin", "choices=100", "--margin", "letters=100")
    done = run(blocked[0], taught, spoiled, more=(*margins, f"--out={tmp_path / 'out'}"))
    verdict = verdict_of(tmp_path)
    assert [row["margin"] for row in verdict["benchmarks"]] == [100, 100]
    assert done.returncode == verdict["exit"] != 1


@pytest.mark.parametrize("moment", range(5))
def test_a_killed_run_resumes_where_it_was(tmp_path, taught, spoiled, blocked, moment):
    """SIGKILL once the store holds so many rows; no row that was there is written again."""
    total = len(_rows(blocked[0]))
    wanted = 1 + moment * (total - 2) // 4
    killed = run(tmp_path, taught, spoiled, sabotage=f"kill:{wanted}")
    assert killed.returncode == -signal.SIGKILL, killed.stdout
    survived = _rows(tmp_path)
    assert wanted <= len(survived) < total
    done = run(tmp_path, taught, spoiled)
    assert done.returncode == 1, done.stdout
    assert _same(verdict_of(tmp_path)["benchmarks"], verdict_of(blocked[0])["benchmarks"])
    assert {key: row for key, row in _rows(tmp_path).items() if key in survived} == survived
    assert len(_rows(tmp_path)) == total


@pytest.mark.parametrize(
    "more", [("-k", "not letters"), ("--deselect", "tests/gates/test_forgetting.py::test_decision")]
)
def test_a_gate_that_is_left_out_never_passes(tmp_path, taught, more):
    done = run(tmp_path, taught, taught, more=more)
    assert done.returncode == 10, done.stdout
    assert "NO DECISION" in done.stdout


def test_a_gate_that_is_skipped_never_passes(tmp_path, taught):
    done = run(tmp_path, taught, taught, sabotage="skip")
    assert done.returncode == 10, done.stdout
    assert "a gate that did not run has not passed" in done.stdout


def test_a_benchmark_that_cannot_fail_is_inconclusive(tmp_path, taught):
    basket = write_basket(tmp_path, letters='task = "tiny_write"\nmetric = "exact_match"\nmargin = 5.0')
    done = run(tmp_path, taught, taught, basket=basket)
    assert done.returncode == 10, done.stdout
    assert "within the margin of the floor" in done.stdout
    assert "letters inconclusive" in done.stdout


def test_a_machine_that_fails_gives_no_verdict(tmp_path, taught, spoiled):
    done = run(tmp_path, taught, spoiled, sabotage="memory")
    assert done.returncode == 3, done.stdout
    assert "NO DECISION (exit 3): the run broke" in done.stdout
    assert not (tmp_path / "out" / "verdict.json").exists()


def test_stopping_early_saves_items_and_ends_at_the_same_one_again(tmp_path, taught, spoiled):
    basket = write_basket(tmp_path, items=400)
    done = run(tmp_path, taught, spoiled, basket=basket, more=("--stop-early",))
    verdict = verdict_of(tmp_path)
    row = next(row for row in verdict["benchmarks"] if row["name"] == "letters")
    assert done.returncode == 1, done.stdout
    assert row["verdict"] == "REGRESSED"
    assert row["items"] < row["planned"] == 400
    assert "for all 400 items" in row["reason"]
    assert (
        f"stopped early: {verdict['items']['evaluated']} of {verdict['items']['planned']} scores needed" in done.stdout
    )
    again = run(tmp_path, taught, spoiled, basket=basket, more=("--stop-early",), sabotage="kill:1")
    assert again.returncode == 1
    assert verdict_of(tmp_path) == verdict


def test_several_runs_of_a_recipe_are_judged_together_and_shown_alone(tmp_path, taught, tmp_path_factory):
    runs = [save_adapter(tmp_path / f"run{seed}", taught, scale=0.5, seed=seed) for seed in range(3)]
    done = run(tmp_path, taught, *runs, more=("--recipe",))
    verdict = verdict_of(tmp_path)
    assert done.returncode == verdict["exit"] == 1, done.stdout
    assert [row["name"] for row in verdict["benchmarks"]] == ["choices", "letters"]
    assert "about the recipe, from 3 training runs" in verdict["benchmarks"][1]["reason"]
    assert len(verdict["training_runs"]) == 6
    alone = [row["change"] for row in verdict["training_runs"] if row["name"] == "letters"]
    assert verdict["benchmarks"][1]["change"] == pytest.approx(sum(alone) / 3)


def test_several_candidates_without_a_recipe_must_each_pass(tmp_path, taught, spoiled):
    done = run(tmp_path, taught, taught, spoiled)
    verdict = verdict_of(tmp_path)
    assert done.returncode == 1, done.stdout
    assert [(row["model"], row["name"]) for row in verdict["benchmarks"]] == [
        (str(model), name) for model in (taught, spoiled) for name in ("choices", "letters")
    ]


@pytest.mark.parametrize(("sabotage", "canary"), [("flip", "repeat"), ("immune", "damaged")])
def test_an_instrument_that_does_not_work_gives_no_verdict(tmp_path, taught, spoiled, sabotage, canary):
    done = run(tmp_path, taught, spoiled, sabotage=sabotage)
    assert done.returncode == 3, done.stdout
    assert f"canary '{canary}'" in done.stdout
    assert not (tmp_path / "out" / "verdict.json").exists()


def test_answers_that_decide_nothing_may_be_written_under_the_first_seed_alone(tmp_path, taught, spoiled):
    body = (
        'task = "tiny_write"\nmetric = "gold_prob_per_byte"\ngold = "{{ gold }}"\nmargin = 10.0\nchat = true\n'
        'answers = "first"\ntemperature = 0.7'
    )
    few_shot = 'task = "tiny_choice"\nfewshot = 4\nmetric = "gold_prob_per_byte"\ngold = "{{ gold }}"\n'
    done = run(
        tmp_path, taught, spoiled, basket=write_basket(tmp_path, letters=body, choices=few_shot + 'answers = "first"')
    )
    assert done.returncode in (1, 10), done.stdout
    rows = {row["name"]: row for row in verdict_of(tmp_path)["benchmarks"]}
    assert rows["choices"]["seeds"] == [0, 1]
    assert "acc" in rows["choices"]["others"]
    assert "exact_match" in rows["letters"]["others"]
    held = [(seed, set(found)) for (_, _, seed, _), (found, _) in _rows(tmp_path).items()]
    assert {seed for seed, found in held if found != {"gold_prob_per_byte"}} == {0}
    assert {seed for seed, _ in held} == {0, 1}


PARTIAL = {
    "the decision alone": (("-k", "decision"), 10),
    "nothing at all": (("-k", "no_such_test"), 5),
    "a list of the tests": (("--collect-only",), 5),
}


@pytest.mark.parametrize(("more", "status"), PARTIAL.values(), ids=PARTIAL)
def test_a_run_that_did_not_judge_everything_leaves_no_verdict(tmp_path, taught, shipped, more, status):
    """Even where all scores are stored and a verdict.json of an earlier run says SHIP."""
    shutil.copytree(shipped, tmp_path, dirs_exist_ok=True)
    done = run(tmp_path, taught, taught, more=more)
    assert done.returncode == status, done.stdout
    assert f"NO DECISION (exit {status})" in done.stdout
    assert (tmp_path / "out" / "verdict.json").exists() == ("--collect-only" in more)


def test_input_that_cannot_be_used_leaves_no_verdict_of_an_earlier_run(tmp_path, taught, shipped):
    shutil.copytree(shipped, tmp_path, dirs_exist_ok=True)
    assert run(tmp_path, taught, "nonsense").returncode == 4
    assert not (tmp_path / "out" / "verdict.json").exists()


def test_a_failure_beside_the_gate_never_ships(tmp_path, taught, shipped):
    shutil.copytree(shipped, tmp_path, dirs_exist_ok=True)
    done = run(tmp_path, taught, taught, sabotage="fail")
    assert done.returncode == 3, done.stdout
    assert not (tmp_path / "out" / "verdict.json").exists()


@pytest.mark.parametrize(
    ("sabotage", "why"),
    [
        ("internal", "the run broke, with 2 of 2 benchmarks judged"),
        ("summary", "the run broke: the reports cannot be written (KeyError: 'sabotage')"),
    ],
)
def test_what_breaks_after_the_decision_was_made_leaves_none(tmp_path, taught, shipped, sabotage, why):
    shutil.copytree(shipped, tmp_path, dirs_exist_ok=True)
    done = run(tmp_path, taught, taught, sabotage=sabotage)
    assert done.returncode == 3, done.stdout
    assert f"NO DECISION (exit 3): {why}; nothing may ship on this." in done.stdout
    out = tmp_path / "out"
    assert not (out / "verdict.json").exists()
    assert not [path for path in out.rglob("*.*") if path.suffix in (".md", ".json") and "SHIP" in path.read_text()]


def test_the_status_does_not_need_the_terminal(tmp_path, taught, spoiled, blocked):
    shutil.copytree(blocked[0], tmp_path, dirs_exist_ok=True)
    done = run(tmp_path, taught, spoiled, more=("-p", "no:terminal"))
    assert done.returncode == 1, done.stderr
    assert verdict_of(tmp_path)["decision"] == "BLOCKED"


def test_without_a_marker_no_gate_runs(tmp_path):
    done = subprocess.run(["make", "-n", "test"], cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert "pytest" in done.stdout
    collected = subprocess.run(
        [*command(tmp_path, tmp_path)[:3], "--collect-only", "-q", "tests/gates"],
        cwd=ROOT, env=environment(), capture_output=True, text=True, timeout=120,
    )  # fmt: skip
    assert collected.returncode == 5, collected.stdout


BAD_INPUT = {
    "unknown form": (("nonsense",), (), "has no form that is known"),
    "no config": (("{empty}",), (), "has neither config.json nor adapter_config.json"),
    "nan weights": (("{nan}",), (), "has NaN or Inf in"),
    "other tokenizer": (("{other}",), (), "differ, so their scores cannot be paired"),
    "an adapter that does nothing": (("{idle}",), (), "changes no logit of its base"),
    "no cuda": (("{base}",), ("--device", "cuda"), "has no CUDA device"),
    "repeated seeds": (("{base}",), ("--seeds", "1,1"), "repeats a seed"),
    "no such margin": (("{base}",), ("--margin", "nope=3"), "benchmark 'nope' is not in basket"),
    "margin of zero": (("{base}",), ("--margin", "letters=0"), "is no loss in points"),
    "no such basket": (("{base}",), ("--basket", "nowhere.toml"), "does not exist"),
    "no candidate": ((), (), "no candidate to judge"),
    "one run of a recipe": (("{base}",), ("--recipe",), "--recipe judges several training runs together"),
    "an untrained run": (("{base}", "{base}"), ("--recipe",), "are the same model"),
    "a half marker expression": (("{base}",), ("-m", "forgetting and"), "is no marker expression"),
    "reports into a file": (("{base}",), ("--out={base}/config.json/out",), "cannot be written"),
    "unknown backend": (("{base}",), ("--backend", "abacus"), "--backend abacus is unknown"),
}


@pytest.fixture(scope="module")
def models(tmp_path_factory, taught):
    """Directories that each have one thing wrong."""
    folder = tmp_path_factory.mktemp("bad")
    (folder / "empty").mkdir()
    nan = save_tiny(folder / "nan")
    weights = load_file(nan / "model.safetensors")
    weights["lm_head.weight"][0, 0] = float("nan")
    save_file(weights, nan / "model.safetensors", metadata={"format": "pt"})
    other = save_tiny(folder / "other", template="{{ messages }}")
    idle = save_adapter(folder / "idle", taught, scale=0.0)
    return {"empty": folder / "empty", "nan": nan, "other": other, "idle": idle, "base": taught}


@pytest.mark.parametrize(("candidates", "more", "sentence"), BAD_INPUT.values(), ids=BAD_INPUT)
def test_bad_input_is_one_sentence_and_status_4(tmp_path, taught, models, candidates, more, sentence):
    given = [text.format(**models) for text in candidates]
    done = run(tmp_path, taught, *given, more=tuple(text.format(**models) for text in more))
    said = done.stdout + done.stderr
    assert done.returncode == 4, said
    assert sentence in said
    assert "Traceback" not in said


BAD_BASKETS = {
    "unknown task": ('task = "no_such_task"', "lm-eval has no task 'no_such_task'"),
    "too many items": ('task = "tiny_write"\nitems = 4000', "asks for 4000 items and its documents hold 40"),
    "answers longer than the model": (
        'task = "tiny_write"\nmetric = "exact_match"\nmax_gen_toks = 2048',
        "set a smaller max_gen_toks",
    ),
    "unknown metric": ('task = "tiny_write"\nmetric = "elo"', "has no metric 'elo'"),
}


@pytest.mark.parametrize(("body", "sentence"), BAD_BASKETS.values(), ids=BAD_BASKETS)
def test_a_basket_that_cannot_work_is_one_sentence_and_status_4(tmp_path, taught, body, sentence):
    done = run(tmp_path, taught, taught, basket=write_basket(tmp_path, letters=body))
    said = done.stdout + done.stderr
    assert done.returncode == 4, said
    assert sentence in said


def test_a_missing_chat_template_is_said_before_any_model_runs(tmp_path):
    bare = save_tiny(tmp_path / "bare", template=None)
    done = run(tmp_path, bare, bare)
    assert done.returncode == 4
    assert "has no chat template, which the basket needs" in done.stdout + done.stderr


def _rows(folder) -> dict:
    with sqlite3.connect(folder / "store" / "scores.sqlite") as db:
        rows = db.execute("SELECT model, benchmark, seed, item, metrics, responses FROM scores").fetchall()
    return {row[:4]: [json.loads(part) for part in row[4:]] for row in rows}


def _same(one, other) -> bool:
    """Equal, but for the last digits of numbers, which a reason repeats: another batch adds in another order."""
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(_same(one[key], other[key]) for key in one if key != "reason")
    if isinstance(one, list):
        return len(one) == len(other) and all(map(_same, one, other))
    return other == pytest.approx(one, abs=1e-3) if isinstance(one, float) else one == other
