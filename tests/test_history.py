"""Several audits of successive fine-tunes: what they lost together, and what cannot stand in one line."""

from __future__ import annotations

import json
import xml.etree.ElementTree as ElementTree
from pathlib import Path

import numpy as np
import pytest

from harness.report import history
from harness.report.__main__ import main
from tests.recorded import recorded, scores_of, write

ITEMS = 1000
BASE = {"arith": scores_of(0.6, ITEMS, 1), "recall": scores_of(0.5, ITEMS, 1, key=1)}
SETTINGS = {"arith": {"margin": 5.0}}
HOSTILE = "<script>\x1b[31m|`#x[$"


def lost(points: float, before=BASE["arith"]) -> np.ndarray:
    """The base's answers, of which this share of all items went from right to wrong."""
    after = before.copy()
    right = np.flatnonzero(before[:, 0])
    after[right[: round(points / 100 * len(before))]] = 0
    return after


def audit(out: Path, arith: float, name: str = "tuned", base=BASE, **more) -> Path:
    """An audit of a candidate that lost so many points of arith since the base."""
    candidate = {**base, "arith": lost(arith, base["arith"])}
    write(recorded(out, base, candidate, names=("base", name), settings=SETTINGS, **more))
    return out


@pytest.fixture
def drift(tmp_path) -> list[Path]:
    """Three steps that lose three points each, under a margin of five."""
    return [audit(tmp_path / f"step{n}", 3.0 * n, f"step{n}") for n in (1, 2, 3)]


def test_a_drift_that_each_step_s_margin_hides_is_named(drift, tmp_path, capsys):
    assert main(["history", *map(str, drift), "--out", str(tmp_path / "h")]) == 0
    said = capsys.readouterr().out
    rows = [text.split() for text in said.splitlines() if text.startswith("arith ")]
    assert [(row[1], row[2], row[6], row[-1]) for row in rows] == [
        ("1", "−3.0", "PASS", "PASS"), ("2", "−6.0", "INCONCLUSIVE", "PASS"), ("3", "−9.0", "REGRESSED", "PASS")
    ]  # fmt: skip
    assert [row[7] for row in rows] == ["−3.0"] * 3
    assert "arith: DRIFT: −9.0 [" in said
    assert "points since the base, margin 5, though each of the 3 steps alone passed." in said
    assert "recall:" not in said


def test_what_cannot_be_told_is_not_called_a_drift_nor_a_pass(drift):
    found = history.sentences(history.read(drift[:2]))
    assert len(found) == 1
    assert found[0].startswith("arith: not shown to be within its margin: −6.0 [")
    assert found[0].endswith("though each of the 2 steps alone passed.")


def test_a_step_that_lost_it_all_is_a_regression_and_no_hidden_drift(tmp_path):
    steps = [audit(tmp_path / "a", 1, "a"), audit(tmp_path / "b", 12, "b"), audit(tmp_path / "c", 13, "c")]
    found = history.sentences(history.read(steps))
    assert found[0].startswith("arith: REGRESSED (first at step 2): −13.0 [")
    assert "passed" not in found[0]


def test_steps_within_the_margin_say_nothing(tmp_path):
    steps = [audit(tmp_path / str(n), 0.5 * n, f"m{n}") for n in (1, 2)]
    assert history.sentences(history.read(steps)) == []


def test_a_step_is_paired_with_the_one_before_item_by_item(tmp_path):
    """Two candidates that lost other items: as many since the base, and each has what the other lost."""
    first = audit(tmp_path / "a", 3, "a")
    other = {**BASE, "arith": BASE["arith"].copy()}
    other["arith"][np.flatnonzero(BASE["arith"][:, 0])[-30:]] = 0
    write(recorded(tmp_path / "b", BASE, other, names=("base", "b"), settings=SETTINGS))
    alone = history.read([first, tmp_path / "b"]).points["arith"][1].alone
    assert (alone.lost, alone.gained, alone.change) == (30, 30, 0)


def test_audits_against_another_base_are_refused(drift, tmp_path, capsys):
    candidate = {**BASE, "arith": lost(9)}
    write(recorded(tmp_path / "other", BASE, candidate, names=("step1", "step2"), settings=SETTINGS))
    assert main(["history", str(drift[0]), str(tmp_path / "other"), "--out", str(tmp_path / "h")]) == 4
    said = capsys.readouterr().err
    assert "was judged against step1" in said
    assert "audit every step against the original base" in said
    assert not (tmp_path / "h").exists()


def other_metric(folder: Path) -> None:
    told = json.loads((folder / "verdict.json").read_text())
    told["benchmarks"][0]["metric"] = "f1"
    (folder / "verdict.json").write_text(json.dumps(told))


def test_a_benchmark_that_differs_is_named_and_left_out_of_the_line(drift, tmp_path):
    changed = audit(tmp_path / "changed", 20, "step3", digests={"arith": "another-digest"})
    found = history.read([*drift[:2], changed])
    assert [point.row is None for point in found.points["arith"]] == [False, False, True]
    text = "\n".join(history.lines(found))
    assert "arith: not comparable: it is another benchmark (digest another-dige, before arith-digest)" in text
    assert "−20.0" not in text
    assert "−6.0 [" in text
    assert "since the base at step 2" in text
    other_metric(drift[1])
    assert "decided by f1, and before by acc" in "\n".join(history.lines(history.read(drift[:2])))


def test_a_benchmark_that_an_audit_lacks_is_named(drift, tmp_path):
    one = {"arith": BASE["arith"]}
    write(recorded(tmp_path / "less", one, {"arith": lost(4)}, names=("base", "b"), settings=SETTINGS))
    text = "\n".join(history.lines(history.read([drift[0], tmp_path / "less"])))
    assert "recall: not comparable: it is not in this audit's basket" in text


def told(folder: Path, **changes) -> None:
    """Changes the policy that an audit was judged by."""
    document = json.loads((folder / "verdict.json").read_text())
    document["policy"] |= changes
    (folder / "verdict.json").write_text(json.dumps(document))


def test_a_step_behind_one_that_is_not_comparable_is_not_known_alone(tmp_path):
    """It would be two steps, or all since the base."""
    changed = audit(tmp_path / "b", 4, "b", digests={"arith": "another-digest"})
    found = history.read([audit(tmp_path / "a", 3, "a"), changed, audit(tmp_path / "c", 9, "c")])
    assert [point.alone is None for point in found.points["arith"]] == [False, True, True]
    assert "arith: this step alone is unknown: step 2 is not comparable." in "\n".join(history.sentences(found))


def test_steps_that_were_judged_otherwise_are_named(drift):
    told(drift[1], alpha=0.4)
    told(drift[2], stopping="early")
    found = history.read(drift)
    text = "\n".join(history.lines(found))
    assert "holds with 95%, 60% confidence (by step)" in text
    assert "step 2 ran or was judged otherwise, which may show: alpha 0.4 instead of 0.05." in text
    assert found.points["arith"][2].alone is None


def test_other_items_or_no_scores_leave_the_step_alone_unknown(drift, tmp_path):
    fewer = {name: values[:400] for name, values in BASE.items()}
    other = audit(tmp_path / "fewer", 3, "b", base=fewer)
    text = "\n".join(history.lines(history.read([drift[0], other])))
    assert "arith: this step alone is unknown: arith: the step before was judged on other items" in text
    (drift[1] / "scores.jsonl").unlink()
    found = history.read(drift)
    assert [point.alone is None for point in found.points["arith"]] == [False, True, True]
    text = "\n".join(history.lines(found))
    assert "scores.jsonl was not kept" in text
    assert "arith: REGRESSED: −9.0" in text  # what no one saw is not called hidden
    assert "alone passed" not in text


def test_an_audit_of_several_candidates_is_no_step(drift, tmp_path, capsys):
    write(recorded(tmp_path / "two", BASE, BASE, {**BASE, "arith": lost(2)}, settings=SETTINGS))
    assert main(["history", str(drift[0]), str(tmp_path / "two")]) == 4
    assert "judged 2 candidates, and a history follows one fine-tune after another" in capsys.readouterr().err


def test_another_machine_and_the_same_model_are_said(drift, tmp_path):
    audit(tmp_path / "again", 3, "step1")
    told = json.loads((tmp_path / "again" / "verdict.json").read_text())
    told["packages"]["torch"] = "3.0"
    (tmp_path / "again" / "verdict.json").write_text(json.dumps(told))
    found = history.sentences(history.read([drift[0], tmp_path / "again"]))
    assert "step 2 ran or was judged otherwise, which may show: torch 3.0 instead of 2.0." in found
    assert "step 2 judged the same model as step 1." in found


def test_the_same_audits_give_the_same_bytes(drift, tmp_path):
    for out in ("one", "two"):
        assert main(["history", *map(str, drift), "--out", str(tmp_path / out)]) == 0
    for name in ("history.md", "history.svg"):
        assert (tmp_path / "one" / name).read_bytes() == (tmp_path / "two" / name).read_bytes()


def texts(path: Path) -> str:
    return " ".join(" ".join(node.itertext()) for node in ElementTree.parse(path).iter() if node.text)


def test_the_figure_has_a_panel_a_benchmark_and_a_point_a_step(drift, tmp_path):
    found = history.read(drift)
    history.write(found, tmp_path / "h")
    shown = texts(tmp_path / "h" / "history.svg")
    for word in ("arith", "recall", "base", "step 3", "within the margin", "cannot tell", "regressed"):
        assert word in shown
    assert "domain set" not in shown


def test_foreign_names_show_as_text(tmp_path, capsys):
    arrays = {HOSTILE: BASE["arith"]}
    steps = []
    for n in (1, 2):
        candidate = {HOSTILE: lost(6 * n)}
        write(recorded(tmp_path / str(n), arrays, candidate, names=(HOSTILE, f"{HOSTILE}{n}")))
        steps.append(str(tmp_path / str(n)))
    assert main(["history", *steps, "--out", str(tmp_path / "h")]) == 0
    assert "\x1b" not in capsys.readouterr().out
    markdown = (tmp_path / "h" / "history.md").read_text()
    assert "<script>" not in markdown
    assert "\x1b" not in markdown
    table = [text for text in markdown.splitlines() if text.startswith("|")]
    assert {text.replace("\\|", "").count("|") for text in table} == {8}
    assert "<script>" in texts(tmp_path / "h" / "history.svg")
    assert "script" not in {
        node.tag.rpartition("}")[2] for node in ElementTree.parse(tmp_path / "h" / "history.svg").iter()
    }
