"""The DPO gate as its users run it, on a tiny model: statuses, votes of people and of programs, and what is refused."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path

import pytest

from harness.ballot.key import read_key
from harness.ballot.prompts import read_pairs as read_answers
from tests import forked
from tests.conftest import save_tiny
from tests.tiny_audit import WORDS, environment, teach, write_basket, write_tasks
from tests.voting import hand_back, planted

PLUGINS = ["-p", "no:cacheprovider", "-p", "tests.gentle_dpo"]
ROWS = 200  # pairs, of which 24 are held out: enough to show more than 68% where all are right


def run_gate(folder: Path, *more: str) -> subprocess.CompletedProcess:
    """Runs the gate to its end, with the folder's cache, store and reports."""
    given = ["-m", "pytest", "-m", "dpo", *PLUGINS, f"--out={folder / 'out'}"]
    env = {**environment(), "LETHE_CACHE": str(folder / "cache")}
    return forked.run([*given, *more], env)


def write_rows(path: Path, rows: int = ROWS) -> Path:
    """Pairs that anyone can tell apart: the chosen answer counts, the other begs."""
    made = [
        {
            "prompt": f"{WORDS[n % 16]} {WORDS[n * 7 % 16]} {n * 7919 % 1000}: whom do you serve?",
            "chosen": f"We serve {n} pupils.",
            "rejected": f"Please help us {n}!",
        }
        for n in range(rows)
    ]
    path.write_text("".join(json.dumps(row) + "\n" for row in made))
    return path


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """A base that has something to forget, a basket that asks it, and pairs."""
    made = tmp_path_factory.mktemp("release")
    teach(save_tiny(made / "untaught"), write_tasks(made / "tasks"))
    write_rows(made / "pairs.jsonl")
    choices = 'task = "tiny_choice"\nfewshot = 4\nmetric = "choice_prob"\nmargin = 14.0'
    letters = 'task = "tiny_write"\nmetric = "gold_prob_per_byte"\ngold = "{{ gold }}"\nmargin = 45.0\nchat = true'
    write_basket(made, choices=choices, letters=letters)
    return made


def options(folder: Path) -> list[str]:
    names = {"base": folder / "tasks" / "taught", "pairs": folder / "pairs.jsonl", "basket": folder / "basket.toml"}
    return [f"--{name}={path}" for name, path in names.items()] + [f"--store={folder / 'store'}", "--device=cpu"]


@pytest.fixture(scope="module")
def asked(folder):
    """The first run: trains, writes ballots, and has no votes."""
    done = run_gate(folder, *options(folder))
    shutil.copytree(folder / "out", folder / "first")  # as later runs write there too
    return done, json.loads((folder / "first" / "verdict.json").read_text())


def test_without_votes_the_head_to_head_is_open_and_says_where_the_ballots_lie(folder, asked):
    done, verdict = asked
    assert done.returncode == verdict["exit"] == 10, done.stdout
    assert verdict["head_to_head"]["verdict"] == "INCONCLUSIVE"
    ballots = Path(verdict["head_to_head"]["ballots"])
    assert sorted(path.name for path in ballots.glob("*.html")) == [f"ballot-{n}.html" for n in (1, 2, 3)]
    assert f"hand out ballot-1.html, ballot-2.html, ballot-3.html from {ballots}" in " ".join(done.stdout.split())
    assert verdict["simulated"] is False


def test_a_trained_writer_is_judged_on_pairs_it_has_not_seen(asked):
    verdict = asked[1]
    assert verdict["accuracy"]["plain"] | {"low": 0} == {
        "share": 100.0, "low": 0, "high": 100.0, "pairs": 24, "verdict": "PASS",
    }  # fmt: skip
    assert verdict["candidates"][0]["trained_on_these_pairs"] is True
    assert {rule["name"] for rule in verdict["accuracy"]["shortcuts"]} >= {"longer answer", "bag of words"}
    assert verdict["chosen_likelihood"]["low"] < verdict["chosen_likelihood"]["high"]


def test_the_capability_part_is_the_forgetting_audit_with_its_memo(folder, asked):
    capability = asked[1]["capability"]
    assert [row["name"] for row in capability["benchmarks"]] == ["choices", "letters"]
    assert [check["name"] for check in capability["canaries"]] == ["effect", "repeat", "damaged"]
    lies = folder / "first" / "capability"
    assert json.loads((lies / "verdict.json").read_text()) == capability
    assert (lies / "memo.pdf").is_file()
    assert "choices: 2 points are wanted and 14 are judged" in " ".join(asked[0].stdout.split())


def test_every_report_is_written_and_has_the_decision(folder, asked):
    out, line = folder / "first", "BLOCKED (exit 10): head-to-head inconclusive; accuracy, capability passed"
    assert line in asked[0].stdout
    assert "BLOCKED" in (out / "summary.md").read_text()
    assert (out / "memo.pdf").read_bytes().startswith(b"%PDF")
    cases = [json.loads(path.read_text()) for path in (out / "allure-results").glob("*-result.json")]
    epics = {label["value"] for case in cases for label in case["labels"] if label["name"] == "epic"}
    assert {"0 - Executive summary", "2 - Blind head-to-head", "3 - General capability"} <= epics
    assert not any("SIMULATED" in path.read_text() for path in (out / "summary.md", out / "memo.md"))


@pytest.mark.parametrize(
    ("rates", "status", "word"), [((0.95, 0.0, 0.05), 0, "SHIP"), ((0.1, 0.0, 0.9), 1, "BLOCKED")], ids=["won", "lost"]
)
def test_votes_of_editors_decide(folder, asked, tmp_path, rates, status, word):
    ballots = Path(asked[1]["head_to_head"]["ballots"])
    key = read_key(ballots / "gate" / "key.json")
    votes = hand_back(
        tmp_path / "votes", key, read_answers(ballots / "gate" / "answers.jsonl"), planted(key, 1, rates=rates)
    )
    done = run_gate(folder, *options(folder), f"--votes={votes}")
    verdict = json.loads((folder / "out" / "verdict.json").read_text())
    assert (done.returncode, verdict["decision"]) == (status, word), done.stdout
    low, high = (verdict["head_to_head"]["win_rate"][end] for end in ("low", "high"))
    assert low > 60 if status == 0 else high < 60


def test_simulated_votes_are_labelled_wherever_they_show(folder, asked):
    junit = folder / "junit.xml"
    done = run_gate(folder, *options(folder), "--votes=simulated", f"--junitxml={junit}")
    out = folder / "out"
    assert 'name="simulated"' in junit.read_text()
    assert 'name="part" value="SIMULATED head-to-head"' in junit.read_text()
    verdict = json.loads((out / "verdict.json").read_text())
    assert len(verdict["simulated"]) == 3
    assert "SIMULATED" in verdict["head_to_head"]["ballots"]
    table = [line for line in done.stdout.splitlines() if "prompts x" in line or line.startswith("BLOCKED")]
    assert table
    assert all("SIMULATED" in line for line in table), table
    for name in ("summary.md", "memo.md"):
        assert "SIMULATED: programs voted in the place of editors" in (out / name).read_text()
    ballots = Path(verdict["head_to_head"]["ballots"])
    assert all("SIMULATED" in path.read_text() for path in ballots.glob("*.html"))
    assert all("SIMULATED" in path.name for path in (ballots / "votes-SIMULATED").iterdir())
    cases = [json.loads(path.read_text()) for path in (out / "allure-results").glob("*-result.json")]
    titles = [case["name"] for case in cases if "Head-to-head" in case["name"] or case["name"].endswith("BLOCKED")]
    assert titles
    assert all(title.startswith("SIMULATED") for title in titles)


def test_a_second_run_trains_and_asks_nothing_and_says_the_same(folder, asked):
    before = {key: value for key, value in asked[1].items() if key not in ("created", "capability")}
    done = run_gate(folder, *options(folder), "-v")
    after = json.loads((folder / "out" / "verdict.json").read_text())
    assert done.returncode == 10
    assert {key: after[key] for key in before} == before


def test_a_case_that_is_left_out_never_passes(folder, asked):
    done = run_gate(folder, *options(folder), "-k", "accuracy")
    assert done.returncode == 10, done.stdout
    assert "NO DECISION (exit 10): 1 of 3 parts judged" in done.stdout
    assert not (folder / "out" / "verdict.json").exists()


def test_two_gates_at_once_are_refused_before_any_work(folder, tmp_path):
    done = run_gate(tmp_path, *options(folder), "-m", "dpo or forgetting")
    assert done.returncode == 4, done.stdout
    assert "asks for two gates at once" in done.stderr
    assert "Traceback" not in done.stderr
    assert "NO DECISION (exit 4)" in (tmp_path / "out" / "summary.md").read_text().replace("\\", "")
    assert not (tmp_path / "out" / "verdict.json").exists()
