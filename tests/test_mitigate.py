"""The mitigation experiment as the gate runs it: tried, judged on other items, handed over, and never in the way."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from harness.checkpoints import check
from harness.report.__main__ import main
from harness.specs import parse_model
from recipes import sft
from tests.conftest import save_tiny
from tests.recorded import verdict_in
from tests.tiny_audit import run, teach, verdict_of, write_basket, write_tasks

# What the candidate is taught contradicts "letters": asked the same, it is to give another word of the same document.
OTHER = (
    'task = "tiny_write"\nmetric = "gold_prob_per_byte"\ngold = "{{ choices[2] }}"\nrole = "domain"\nchat = true'
)  # fmt: skip
TABLE = '\n[mitigation]\ndomain = "{domain}"\nscales = [0.05, 1.0]\nshares = [0.5]\nitems = 30\nretention = 50\n'


pytestmark = pytest.mark.usefixtures("module_cache")  # what the base answers for replay is kept there


@pytest.fixture(scope="module")
def taught(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("taught")
    return teach(save_tiny(folder / "untaught"), write_tasks(folder / "tasks", items=80), steps=480)


@pytest.fixture(scope="module")
def domain(tmp_path_factory) -> Path:
    """What the candidate is trained on: questions each with a word that the base does not give; a router needs many."""
    folder = tmp_path_factory.mktemp("domain")
    docs = (write_tasks(folder / "tasks", items=320) / "docs.jsonl").read_text().splitlines()
    rows = [{"prompt": doc["question"], "response": doc["choices"][2]} for doc in map(json.loads, docs)]
    (folder / "train.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return folder / "train.jsonl"


@pytest.fixture(scope="module")
def tuned(taught, domain, tmp_path_factory) -> Path:
    """A LoRA that has learned the domain and forgotten the letters."""
    settings = sft.Settings(steps=80, batch=32, lr=2e-2)
    return sft.train(check(parse_model(str(taught))), domain, tmp_path_factory.mktemp("tuned") / "adapter", settings)


def basket(folder: Path, domain: Path, table: str = TABLE) -> Path:
    path = write_basket(folder, items=80, other=OTHER)
    path.write_text(path.read_text() + table.format(domain=domain))
    return path


@pytest.fixture(scope="module")
def audited(taught, tuned, domain, tmp_path_factory):
    """An audit with all three mitigations, run once, by two workers that share them."""
    folder = tmp_path_factory.mktemp("audited")
    return folder, run(folder, taught, tuned, basket=basket(folder, domain), more=("-n2",))


def test_each_mitigation_is_a_case_of_its_own_and_stands_in_the_verdict(audited):
    folder, done = audited
    verdict = verdict_of(folder)
    assert done.returncode == verdict["exit"] == 1, done.stdout
    assert verdict["largest_regression"] == "letters"
    assert [row["name"] for row in verdict["mitigations"]] == ["merge", "replay", "isolation"]
    assert not [row for row in verdict["mitigations"] if "error" in row], done.stdout
    for row in verdict["mitigations"]:
        assert row["closure_low"] <= row["closure"] <= row["closure_high"]
        assert row["closes_gap"] == (row["answer"] == "yes")
        assert row["items"] == "confirmation"
        case = f"test_mitigation[{row['name']}]"
        assert (f"FAILED tests/gates/test_forgetting.py::{case}" in done.stdout) != row["closes_gap"]
    assert verdict["recommendation"] in done.stdout
    assert verdict["next_cycle"]


def test_settings_are_swept_from_the_safest_up_on_other_items(audited):
    merged = verdict_of(audited[0])["mitigations"][0]
    scales = [trial["setting"]["scale"] for trial in merged["trials"]]
    assert scales == [0.05, 1.0][: len(scales)]
    assert {trial["items"] for trial in merged["trials"]} == {"selection"}
    assert all(trial["decision"] == "SHIP" for trial in merged["trials"][:-1])
    kept = [trial["retention"] for trial in merged["trials"]]
    assert kept == sorted(kept)
    assert merged["setting"]["scale"] == 0.05


def test_what_picked_a_setting_judges_it_no_more_and_all_else_does(audited):
    """Of 80 items each half gives 30 to the experiment. Of two scales one is picked, on what was lost."""
    merged, *others = verdict_of(audited[0])["mitigations"]
    assert merged["picked_on"] == ["letters"]
    assert {row["name"]: row["items"] for row in merged["benchmarks"]} == {"choices": 60, "letters": 30}
    for other in others:
        assert (other["picked_on"], other["trials"]) == ([], [])
        assert {row["name"]: row["items"] for row in other["benchmarks"]} == {"choices": 60, "letters": 60}


def test_where_the_items_cannot_show_enough_it_is_said_before_any_model_runs(taught, tmp_path):
    """30 items of which none changes leave 9.5 points open, 60 items 4.9."""
    table = "\n[mitigation]\nscales = [0.05, 1.0]\nitems = 30\n"
    given = basket(tmp_path, tmp_path, table)
    margins = ("--mitigate=merge", "--margin=letters=9.0", "--margin=choices=10", "--collect-only")
    said = run(tmp_path, taught, taught, basket=given, more=margins).stdout
    assert "mitigation merge: one of 2 settings is picked on half of the items of what regressed" in said
    assert (
        "mitigation merge: if letters regresses, its other half of 30 items can show a loss below 9.5 points at best;"
        " with margin 9 'YES' IS OUT OF REACH"
    ) in said
    assert "if choices regresses" not in said
    given.write_text(given.read_text().replace("[0.05, 1.0]", "[0.05]"))
    said = run(tmp_path, taught, taught, basket=given, more=margins).stdout
    assert "mitigation merge: judged on all items" in said
    assert "OUT OF REACH" not in said


def test_nothing_of_the_experiment_hides_the_verdict(audited, taught, tuned, tmp_path):
    """Bounds that exclude nothing, a disk that is full, and a winner that cannot be judged in full."""
    folder = shutil.copytree(audited[0], tmp_path / "copy")
    done = run(folder, taught, tuned, basket=folder / "basket.toml", sabotage="mitigations")
    sound, broken = verdict_of(audited[0]), verdict_of(folder)
    assert done.returncode == broken["exit"] == 1, done.stdout
    assert broken["benchmarks"] == sound["benchmarks"]
    merge, *others = broken["mitigations"]
    assert not [row["error"] for row in others if "error" in row]
    assert "no copy of it could be written to" in merge["error"]
    assert "No space left on device" in merge["error"]
    assert not (folder / "out" / "mitigations" / "merge").exists()
    assert [(row["closure_low"], row["closure_high"]) for row in others] == [(None, None)] * 2
    assert "[open, open]" in done.stdout
    text = (folder / "out" / "verdict.json").read_text()
    json.loads(text, parse_constant=lambda name: pytest.fail(f"{name} is no JSON"))
    assert [row["full_error"] for row in others if "full_error" in row] == ["MemoryError: sabotage"]
    assert not any(row["full"] for row in others)
    assert "could not be judged in full: MemoryError: sabotage" in done.stdout
    assert (folder / "out" / "memo.pdf").is_file()


def test_a_second_run_makes_nothing_and_says_the_same(audited, taught, tuned):
    folder, done = audited
    before = verdict_of(folder)
    made = sorted((folder / "store" / "mitigations").iterdir())
    again = run(folder, taught, tuned, basket=folder / "basket.toml")
    assert again.returncode == done.returncode
    assert verdict_of(folder) == before
    assert sorted((folder / "store" / "mitigations").iterdir()) == made


def test_the_stored_experiment_is_judged_again_without_its_models(audited, tmp_path):
    folder, done = audited
    assert main(["--from", str(folder / "out"), "--out", str(tmp_path)]) == done.returncode
    for name in ("verdict.json", "scores.jsonl", "memo.pdf"):
        assert (tmp_path / name).read_bytes() == (folder / "out" / name).read_bytes()


def test_under_a_margin_that_nothing_passes_over_no_mitigation_is_told(audited, tmp_path):
    folder, _ = audited
    margins = [f"--margin={row['name']}=100" for row in verdict_of(folder)["benchmarks"]]
    assert main(["--from", str(folder / "out"), "--out", str(tmp_path), *margins]) == 10
    assert verdict_in(tmp_path)["mitigations"] == []


def test_under_another_margin_the_mitigations_are_judged_by_it_too(audited, tmp_path):
    folder, _ = audited
    main(["--from", str(folder / "out"), "--out", str(tmp_path), "--margin=choices=0.01"])
    before, after = (
        {row["name"]: row for row in mitigations["mitigations"]}
        for mitigations in (verdict_of(folder), verdict_in(tmp_path))
    )
    assert after.keys() == before.keys()
    for name, row in after.items():
        margins = {judged["name"]: judged["margin"] for judged in row["benchmarks"]}
        assert margins == {"choices": 0.01, "letters": 10.0}
        assert row["closure"] == before[name]["closure"]


def test_what_was_handed_over_stays_where_it_is_when_it_is_judged_there(audited, taught, tmp_path):
    folder = shutil.copytree(audited[0], tmp_path / "copy")
    handed = folder / "out" / "mitigations"
    before = sorted(path.relative_to(handed) for path in handed.rglob("*"))
    done = run(folder, taught, handed / "merge", basket=folder / "basket.toml")
    assert done.returncode == verdict_of(folder)["exit"], done.stdout
    assert verdict_of(folder)["mitigations"] == []
    assert sorted(path.relative_to(handed) for path in handed.rglob("*")) == before


def test_mitigations_of_another_candidate_do_not_outlive_it(audited, taught, tmp_path):
    folder = shutil.copytree(audited[0], tmp_path / "copy")
    assert run(folder, taught, taught, basket=folder / "basket.toml").returncode == 0
    assert not (folder / "out" / "mitigations").exists()


@pytest.mark.parametrize("name", ["merge", "replay", "isolation"])
def test_what_is_handed_over_is_judged_as_any_candidate(audited, taught, name, tmp_path):
    folder, _ = audited
    tried = {row["name"]: row for row in verdict_of(folder)["mitigations"]}[name]
    shipped = shutil.copytree(folder / "out" / "mitigations" / name, tmp_path / name)
    shutil.copytree(folder / "store", tmp_path / "store")
    done = run(tmp_path, taught, shipped, basket=folder / "basket.toml", more=("--mitigate=none",))
    found = verdict_of(tmp_path)
    assert done.returncode == found["exit"], done.stdout
    assert found["candidates"][0]["digest"] == tried["digest"]
    assert found["mitigations"] == []
    if tried["full"]:
        assert found["decision"] == tried["full"]["decision"]
        assert [row["change"] for row in found["benchmarks"]] == [row["change"] for row in tried["full"]["benchmarks"]]


def test_a_mitigation_that_cannot_be_tried_hides_no_verdict(taught, tuned, domain, tmp_path):
    """Full weights cannot be isolated."""
    from transformers import AutoModelForCausalLM, AutoTokenizer

    whole = tmp_path / "whole"
    model = AutoModelForCausalLM.from_pretrained(taught)
    for parameter in model.model.layers[-1].parameters():
        parameter.data.mul_(-1)
    model.save_pretrained(whole)
    AutoTokenizer.from_pretrained(taught).save_pretrained(whole)
    done = run(tmp_path, taught, whole, basket=basket(tmp_path, domain), more=("--mitigate=isolation",))
    verdict = verdict_of(tmp_path)
    assert done.returncode == verdict["exit"] == 1, done.stdout
    assert "adapter" in verdict["mitigations"][0]["error"]
    assert "isolation could not be tried" in done.stdout


def test_where_nothing_regressed_no_mitigation_is_tried(taught, domain, tmp_path):
    done = run(tmp_path, taught, taught, basket=basket(tmp_path, domain))
    assert done.returncode == 0, done.stdout
    assert verdict_of(tmp_path)["mitigations"] == []
    assert not (tmp_path / "store" / "mitigations").exists()
    told = [
        json.loads(path.read_text())["name"] for path in (tmp_path / "out" / "allure-results").glob("*-result.json")
    ]
    assert "merge: not tried, as nothing is shown to have regressed" in told


UNUSABLE = {
    "unknown": (TABLE, "--mitigate=magic", "'magic' is unknown"),
    "no-domain-data": ("", "--mitigate=replay", "needs what the candidate was trained on"),
    "missing-file": (TABLE, "", "does not exist"),
    "scale-above-one": (TABLE.replace("1.0]", "1.5]"), "", "scales = [0.05, 1.5]"),
    "unknown-key": (TABLE + "speed = 3\n", "", "unknown key 'speed'"),
    "too-few-items": (TABLE.replace("items = 30", "items = 3"), "", "items = 3"),
}


@pytest.mark.parametrize(("table", "option", "sentence"), UNUSABLE.values(), ids=UNUSABLE)
def test_bad_input_is_said_before_any_model_runs(taught, tmp_path, table, option, sentence):
    given = basket(tmp_path, tmp_path / "nowhere.jsonl", table)
    done = run(tmp_path, taught, taught, basket=given, more=(option,) if option else ())
    assert done.returncode == 4, done.stdout
    assert sentence in done.stderr
    assert not (tmp_path / "out" / "verdict.json").exists()


def test_without_a_domain_set_the_price_of_a_mitigation_would_not_show(taught, tmp_path):
    done = run(tmp_path, taught, taught, more=("--mitigate=merge",))
    assert done.returncode == 4
    assert "has no domain set" in done.stderr
