"""The plots: what they show of a verdict, that names are text in them, and that they are the same every time."""

from __future__ import annotations

import xml.etree.ElementTree as ElementTree

import pytest

from harness.report import plots
from harness.report.tradeoff import front, runs
from tests import verdicts
from tests.verdicts import HOSTILE, gain, row

SVG = "{http://www.w3.org/2000/svg}"


def texts(svg: bytes) -> list[str]:
    return ["".join(found.itertext()) for found in ElementTree.fromstring(svg).iter(f"{SVG}text")]


@pytest.mark.parametrize("made", [verdicts.ship, verdicts.inconclusive, verdicts.blocked, verdicts.worst_case])
def test_the_same_verdict_gives_the_same_bytes(made):
    assert plots.forest(made()["benchmarks"], "95%") == plots.forest(made()["benchmarks"], "95%")
    assert plots.pareto(made()) == plots.pareto(made())


def test_the_forest_names_every_benchmark_with_its_change_and_range():
    found = texts(plots.forest(verdicts.blocked()["benchmarks"], "95%"))
    for text in ("mmlu", "ifeval", "gsm8k", "−11.1 [−13.1, −9.1]", "−0.4 [−2.4, +1.6]"):
        assert text in found
    assert any("95% confidence" in text for text in found)


def test_each_benchmark_has_its_own_limit_in_the_forest():
    wide, narrow = (
        plots.forest([row("mmlu", "PASS", -0.4, margin=margin)], "95%", named=False) for margin in (3.0, 9.0)
    )
    assert wide != narrow
    assert "−8" in texts(narrow)
    assert "−8" not in texts(wide)


def test_several_candidates_are_told_apart():
    rows = [row("mmlu", "PASS", -0.4, model="first"), row("mmlu", "PASS", -0.4, model="second")]
    assert {"mmlu (first)", "mmlu (second)"} <= set(texts(plots.forest(rows, "95%")))


@pytest.mark.parametrize("name", ["<script>alert(1)</script>", "$x^2$ & $y$", "中文阅读", "نموذج", "W" * 300, HOSTILE])
def test_a_name_is_text_and_no_markup(name):
    svg = plots.forest([row(name, "PASS", -0.4)], "95%")
    assert not list(ElementTree.fromstring(svg).iter(f"{SVG}script"))
    shown = [text for text in texts(svg) if text.strip("\u2068\u2069")[:5] == name[:5]]
    assert len(shown) == 1
    assert len(shown[0]) <= 32


def test_nothing_is_fetched_by_a_plot():
    root = ElementTree.fromstring(plots.pareto(verdicts.blocked()))
    assert not [
        e for e in root.iter() if any(k.endswith("href") and not v.startswith("#") for k, v in e.attrib.items())
    ]


def test_the_gain_beside_the_loss_shows_candidate_base_and_mitigations():
    found = texts(plots.pareto(verdicts.blocked()))
    assert {"base", "candidate", "merge, scale 0.25", "replay, share 0.1"} <= set(found)
    assert "isolation" not in found  # it could not be tried


def test_without_a_domain_set_there_is_no_plot_of_the_gain():
    assert plots.pareto(verdicts.ship() | {"domain": []}) is None


def test_a_loss_is_measured_by_its_own_margin():
    document = verdicts.document(
        [row("a", "PASS", -2.0, margin=4.0), row("b", "REGRESSED", -3.0, margin=1.0)], "BLOCKED", 1
    )
    found = {run.name: run for run in runs(document)}
    assert (found["candidate"].worst, found["candidate"].share) == ("b", -3.0)
    assert found["base"].share == 0


@pytest.mark.parametrize(("verdict", "good"), [("PASS", True), ("INCONCLUSIVE", None), ("REGRESSED", False)])
def test_only_a_candidate_that_passed_counts_as_good(verdict, good):
    document = verdicts.document([row("a", "PASS", 0.0), row("b", verdict, -1.0)], "BLOCKED", 1)
    assert [run.good for run in runs(document) if run.name == "candidate"] == [good]


def test_the_front_holds_what_no_other_beats_on_both_counts():
    names = [run.name for run in front(runs(verdicts.blocked()))]
    assert names == ["base", "merge, scale 0.25", "candidate"]  # replay loses more than merge at the same gain


def test_runs_of_a_recipe_are_marks_of_their_own():
    document = verdicts.document(
        [row("a", "PASS", -1.0, model="recipe of 2 runs")], "SHIP", 0,
        candidates=[{"spec": name, "digest": "0" * 64, "adapter": True} for name in ("one", "two")],
        training_runs=[row("a", "PASS", -0.5, model="one"), row("a", "PASS", -1.5, model="two")],
        domain=[gain(model="one"), gain(model="two", change=9.0)],
    )  # fmt: skip
    assert [(run.name, run.share) for run in runs(document)[1:]] == [("candidate 1", -0.1), ("candidate 2", -0.3)]


def test_names_beside_marks_lie_on_no_other_and_inside_the_plot():
    rows = [row("a", "REGRESSED", -61.0)]
    tried = [
        verdicts.mitigation(name, "no", rows, {"scale": 0.5}, gain=7.9) for name in ("merge", "replay", "isolation")
    ]
    svg = ElementTree.fromstring(plots.pareto(verdicts.document(rows, "BLOCKED", 1, mitigations=tried)))
    heights = [
        float(found.get("y")) for found in svg.iter(f"{SVG}text")
        if "".join(found.itertext()).partition(",")[0] in ("merge", "replay", "isolation", "candidate")
    ]  # fmt: skip
    assert len(heights) == 4
    assert all(abs(one - other) >= 9.5 for n, one in enumerate(heights) for other in heights[:n])
    assert max(heights) < 2.9 * 72 * 0.84, "above the axis"
