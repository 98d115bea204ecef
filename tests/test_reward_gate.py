"""The reward gate as its users run it, on a tiny model: statuses, reports, what is refused, and what never passes."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path
from types import SimpleNamespace

import pytest

from fixtures.reward_prepared import prepared
from harness.specs import Unusable
from tests import forked
from tests.conftest import save_tiny
from tests.tiny_audit import WORDS, environment

ROWS = 640  # pairs, of which 80 are held out: enough to show more than 72% where all are right
KINDS = ("brevity", "tone")


def run_gate(folder: Path, *more: str) -> subprocess.CompletedProcess:
    given = ["-m", "pytest", "-m", "reward", "-p", "no:cacheprovider", f"--out={folder / 'out'}"]
    env = {**environment(), "LETHE_CACHE": str(folder / "cache")}
    return forked.run([*given, *more], env)


def write_rows(path: Path, rows: int = ROWS, turned: str | None = None) -> Path:
    """Pairs that anyone can tell apart by a mark at the end; turned: the category that is judged the other way."""
    made = []
    for n in range(rows):
        good, bad = f"We sent order {n}{'!' * (n % 8 // 7)}!!!", f"No idea, {n}???"  # lengths differ not by one value
        kind = KINDS[n % 2]
        chosen, rejected = (bad, good) if kind == turned else (good, bad)
        prompt = f"{WORDS[n % 16]} {WORDS[n * 7 % 16]} {n * 7919 % 1000}: where is {kind} {n}?"
        made.append({"prompt": prompt, "chosen": chosen, "rejected": rejected, "category": kind})
    path.write_text("".join(json.dumps(row) + "\n" for row in made))
    return path


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    made = tmp_path_factory.mktemp("reward")
    save_tiny(made / "base", layers=3)
    write_rows(made / "pairs.jsonl")
    return made


def options(folder: Path) -> list[str]:
    names = {"base": folder / "base", "pairs": folder / "pairs.jsonl", "store": folder / "store", "device": "cpu"}
    return [f"--{name}={value}" for name, value in names.items()]


@pytest.fixture(scope="module")
def shipped(folder):
    done = run_gate(folder, *options(folder), "--seeds=0,1")
    shutil.copytree(folder / "out", folder / "first")  # as later runs write there too
    return done, json.loads((folder / "first" / "verdict.json").read_text())


def test_a_sound_reward_model_ships(shipped):
    done, verdict = shipped
    assert (done.returncode, verdict["decision"]) == (0, "SHIP"), done.stdout
    assert verdict["accuracy"]["overall"]["low"] > 72
    assert set(verdict["accuracy"]["categories"]) == set(KINDS)
    assert [row["pairs"] for row in verdict["accuracy"]["categories"].values()] == [40, 40]
    assert [row["run"] for row in verdict["accuracy"]["runs"]] == ["seed0", "seed1"]
    assert all(row["trained_on_these_pairs"] for row in verdict["candidates"])
    assert not [check["name"] for check in verdict["diagnostics"] if check["blocks"] and check["verdict"] != "OK"]


def test_every_report_is_written_and_has_the_decision(folder, shipped):
    out, line = folder / "first", shipped[1]["line"]
    assert line in shipped[0].stdout
    assert "Lethe: SHIP" in (out / "summary.md").read_text()
    assert (out / "report.pdf").read_bytes().startswith(b"%PDF")
    assert "Bradley" in (out / "methodology.md").read_text()
    assert len((out / "scores.jsonl").read_text().splitlines()) == 2 * 80
    cases = [json.loads(path.read_text()) for path in (out / "allure-results").glob("*-result.json")]
    epics = {label["value"] for case in cases for label in case["labels"] if label["name"] == "epic"}
    assert {"0 - Executive summary", "1 - Targets", "2 - Diagnostics", "3 - Training"} <= epics


def test_one_run_alone_cannot_show_that_runs_agree_and_nothing_is_trained_or_scored_again(folder, shipped):
    done = run_gate(folder, *options(folder), "--seeds=0")
    verdict = json.loads((folder / "out" / "verdict.json").read_text())
    assert done.returncode == verdict["exit"] == 10, done.stdout
    assert "agreement, length-gap not asked" in verdict["line"]
    assert "text/s" not in done.stderr  # the bar of the lower layers
    first = shipped[1]
    assert verdict["candidates"] == first["candidates"][:1]
    assert verdict["accuracy"]["runs"] == first["accuracy"]["runs"][:1]
    assert verdict["scores"] == {"seed0": first["scores"]["seed0"]}


def test_a_model_that_judges_a_category_the_wrong_way_round_is_blocked(folder, shipped, tmp_path):
    """Trained on pairs that want the opposite of what its judges want, in one category."""
    given = [row["spec"] for row in shipped[1]["candidates"]]
    pairs = write_rows(tmp_path / "turned.jsonl", turned="tone")
    named = [option for option in options(folder) if not option.startswith("--pairs")]
    done = run_gate(folder, *named, f"--pairs={pairs}", *(f"--candidate={spec}" for spec in given))
    verdict = json.loads((folder / "out" / "verdict.json").read_text())
    assert (done.returncode, verdict["decision"]) == (1, "BLOCKED"), done.stdout
    blocked = [check["name"] for check in verdict["diagnostics"] if check["verdict"] == "BLOCK"]
    assert "reversed" in blocked
    assert verdict["accuracy"]["categories"]["tone"]["verdict"] == "MISSED"
    assert verdict["candidates"][0]["trained_on_these_pairs"] is None


def test_a_case_that_is_left_out_never_passes(folder, shipped):
    done = run_gate(folder, *options(folder), "--seeds=0,1", "-k", "test_target")
    assert done.returncode == 10, done.stdout
    assert "3 of 20 targets and diagnostics judged" in done.stdout
    assert not (folder / "out" / "verdict.json").exists()


# ---- what is refused, before a model is loaded -----------------------------------------------------------------------


@pytest.fixture
def given(tmp_path, folder, own_cache) -> dict:
    """Options of a gate that can run."""
    names = ("candidate", "basket", "seeds", "votes", "recipe", "stop_early", "greedy", "mitigate", "backend", "dtype")
    return dict.fromkeys((*names, "train_pairs", "target", "trust_remote_code")) | {
        "base": str(folder / "base"), "pairs": folder / "pairs.jsonl", "out": str(tmp_path / "out"), "margin": [],
        "store": str(tmp_path / "store"), "device": "cpu",
    }  # fmt: skip


def release(given: dict, **changed):
    plugins = SimpleNamespace(getplugin=lambda name: None)
    return prepared(SimpleNamespace(option=SimpleNamespace(**given | changed), pluginmanager=plugins))


@pytest.mark.parametrize(
    ("changed", "sentence"),
    [
        ({"pairs": Path("nowhere.jsonl")}, "data 'nowhere.jsonl' does not exist"),
        ({"target": ["tone"]}, "--target tone is no NAME=POINTS; write as in --target overall=75."),
        ({"target": ["wit=60"]}, "there is a target for 'wit', a category that no pair has"),
        ({"train_pairs": -1}, "--train-pairs -1 is out of range; write a whole number from 0"),
        ({"candidate": ["nowhere/at/all/"]}, "model 'nowhere/at/all/' is a directory that does not exist"),
        (
            {"candidate": ["a"], "train_pairs": 10},
            "--train-pairs is of trainings, and --candidate names",
        ),
        ({"candidate": ["a"], "seeds": "0"}, "--seeds are of trainings here, and --candidate names what is trained"),
        ({"seeds": "one"}, "--seeds one are no whole numbers; write as in --seeds 0,1,2."),
        ({"mitigate": "merge"}, "--mitigate is of another gate and does nothing here; leave it out."),
        ({"votes": "none"}, "--votes is of another gate and does nothing here; leave it out."),
        ({"base": "served:http://localhost:1#m"}, "has no weights to score with; name a hub id, a directory or"),
        ({"basket": Path("fixtures/baskets/dpo.toml")}, "basket 'dpo.toml'"),
    ],
)
def test_what_cannot_be_used_is_one_sentence(given, changed, sentence):
    with pytest.raises(Unusable) as refused:
        release(given, **changed)
    assert sentence in str(refused.value)
    assert str(refused.value).endswith(".")


def test_the_base_is_no_reward_model(given, tiny_adapter, tiny_base):
    with pytest.raises(Unusable, match="has no head that gives one score"):
        release(given, base=str(tiny_base), candidate=[str(tiny_adapter)])
