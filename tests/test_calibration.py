"""The calibration: small versions of its claims on recorded scores, and the page against a recomputation."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from bench.calibration import __main__ as calibrate
from bench.calibration import claims, coverage, early, page, planted, size
from bench.calibration.record import METRICS, RECORDED, load, record
from bench.calibration.results import Results, pair
from harness.specs import Policy
from harness.verdict import INCONCLUSIVE, judge_early

DOCS = Path(__file__).resolve().parent.parent / "docs"
SPOILED = next(r for r in planted.RECORDINGS if r.label == "mmlu, accuracy")
FRESH = next(r for r in planted.RECORDINGS if r.fresh)


# ---- the recorded scores ---------------------------------------------------------------------------------------------


def strings(value) -> Iterator[str]:
    """Every text in a JSON value, keys too."""
    if isinstance(value, dict):
        yield from (text for pair in value.items() for part in pair for text in strings(part))
    elif isinstance(value, list):
        yield from (text for part in value for text in strings(part))
    elif isinstance(value, str):
        yield value


def test_the_recorded_scores_hold_ids_and_numbers_but_no_text():
    recorded = json.loads(RECORDED.read_text())
    names = {"base", "candidate", "benchmarks", "seeds", "items", "scores", "embedded:base", "embedded:chemistry"}
    names |= {*METRICS, *(metric for metrics in METRICS.values() for metric in metrics)}
    assert not [s for s in strings(recorded) if s not in names and not re.fullmatch(r"[a-z0-9_]+:[0-9a-f]{12}", s)]
    assert RECORDED.stat().st_size < 400_000


@pytest.mark.parametrize(
    ("benchmark", "shape"), [("mmlu", (171, 3)), ("gsm8k", (110, 3)), ("ifeval", (200, 1)), ("instructions", (120, 3))]
)
def test_every_recorded_score_is_one_of_a_pair(benchmark, shape):
    for metric in METRICS[benchmark]:
        found = load(benchmark, metric)
        assert found.base.shape == found.candidate.shape == shape
        assert len(set(found.items)) == shape[0]
        assert min(found.base.min(), found.candidate.min()) >= 0
        assert max(found.base.max(), found.candidate.max()) <= 1


def rows(models=("base", "candidate"), items=("t:1", "t:0"), seeds=(1, 0)) -> list[dict]:
    return [
        {
            "model": model,
            "benchmark": name,
            "seed": seed,
            "item": item,
            "metrics": dict.fromkeys(METRICS[name], 1 / (2 + seed)) | {"other": 0.5},
            "responses": ["a text"],
        }
        for model in models
        for name in METRICS
        for item in items
        for seed in seeds
    ]


def test_recording_keeps_scores_in_order_and_drops_the_rest():
    found = record(rows())["benchmarks"]["ifeval"]
    assert (found["seeds"], found["items"]) == ([0, 1], ["t:0", "t:1"])
    assert found["scores"] == {METRICS["ifeval"][0]: dict.fromkeys(("base", "candidate"), [[0.5, 0.333333]] * 2)}
    assert "a text" not in json.dumps(record(rows()))


def test_half_an_audit_is_not_recorded():
    with pytest.raises(ValueError, match="mmlu has 7 scores of 2 items under 2 seeds, but each item needs one a side"):
        record(rows()[1:])
    with pytest.raises(ValueError, match=r"model 'second' is neither of .*; record an audit of one candidate"):
        record(rows(models=("base", "second")))


# ---- planted losses --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("recording", planted.RECORDINGS, ids=lambda recording: recording.label)
def test_a_planted_loss_is_as_large_as_it_says(recording):
    rng, scores = np.random.default_rng(0), load(recording.benchmark, recording.metric).base
    for loss in (0.0, 0.05):
        changes = [planted.plant(rng, scores, recording, loss).change.mean() for _ in range(400)]
        assert np.mean(changes) == pytest.approx(-loss, abs=0.0025)


def test_more_than_the_base_scores_cannot_be_lost():
    with pytest.raises(ValueError, match=r"loss is 0.2, but the base scores 0.100 and cannot lose more"):
        planted.plant(np.random.default_rng(0), np.array([[1.0]] + [[0.0]] * 9), SPOILED, 0.2)


@pytest.mark.parametrize("recording", planted.RECORDINGS, ids=lambda recording: recording.label)
def test_five_points_lost_in_real_scores_do_not_pass(recording):
    assert planted.verdicts(recording, 0.05, repeats=100).get("PASS", 0.0) <= 0.01


def test_no_loss_passes_unless_the_answers_differ_anyway():
    assert planted.verdicts(SPOILED, 0.0, repeats=50) == {"PASS": 1.0}
    assert 0.15 < planted.discordance(FRESH) < 0.25


def test_the_margin_itself_passes_as_rarely_as_promised():
    assert planted.verdicts(SPOILED, planted.MARGIN, repeats=600).get("PASS", 0.0) <= 0.05 + 3 * 0.009


# ---- early stopping on recorded pairs --------------------------------------------------------------------------------


def test_recorded_pairs_far_from_their_margin_need_half_of_the_items_or_fewer():
    shares = {name: pair(name, repeats=100) for name in ("mmlu", "ifeval", "instructions")}
    assert shares["instructions"].resampled.batched <= 0.2 * early.ITEMS
    assert all(found.resampled.batched <= 0.5 * early.ITEMS for found in shares.values())
    assert all(found.resampled.wrong <= 0.05 for found in shares.values())
    assert all(found.recorded.wrong <= 0.05 for found in shares.values())


@pytest.mark.parametrize(("benchmark", "margin"), [("instructions", 0.05), ("ifeval", 0.05)])
def test_the_items_counted_are_those_at_which_the_gate_stops(benchmark, margin):
    found = load(benchmark)
    order = np.random.default_rng(1).permutation(len(found.items))
    counted = early.stops(lambda rng: found.change.mean(axis=1)[order], margin, seed=0, repeats=1)
    for end in (*range(early.BATCH, len(order), early.BATCH), len(order)):
        seen = order[:end]
        part = type(found)(
            found.name,
            found.metric,
            tuple(found.items[i] for i in seen),
            tuple(found.strata[i] for i in seen),
            found.seeds,
            found.base[seen],
            found.candidate[seen],
        )
        verdict = judge_early(part, len(order), margin, 0.0, Policy()).verdict
        if verdict != INCONCLUSIVE:
            break
    assert counted.batched == end
    assert (counted.passed, counted.regressed) == (float(verdict == "PASS"), float(verdict == "REGRESSED"))


def test_the_right_verdict_about_a_whole_benchmark():
    lost = np.array([-1.0, 0.0, 0.0, 0.0])
    assert [early.truth(lost, margin) for margin in (0.2, 0.25, 0.3)] == ["REGRESSED", None, "PASS"]


# ---- the page --------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def text() -> str:
    return (DOCS / "calibration.md").read_text(encoding="utf-8")


def row(text: str, after: str, *start: str) -> list[str]:
    """The cells of the first table row behind `after` that begins with `start`."""
    lines = text[text.index(after) :].splitlines()
    return next(line for line in lines if line.startswith("| " + " | ".join(start) + " |"))[2:-2].split(" | ")


@pytest.mark.parametrize("rule", size.RULES)
def test_the_table_of_false_passes_is_recomputed(text, rule):
    worst = size.false_passes(200, 0.03, rule).max()
    assert row(text, f"**{rule}**", "200")[1 + size.MARGINS.index(0.03)] == f"{100 * worst:.2f}"


def test_the_power_is_recomputed(text):
    power = size.power(200, 0.03, 0.10)
    assert f"passes with {100 * power['Lethe']:.1f}%" in " ".join(text.split())
    assert abs(power["Lethe"] - power["Tango"]) <= 0.02


def test_the_table_of_coverage_is_recomputed(text):
    """A tenth of the repeats, so within three standard errors of both."""
    found = coverage.coverage(3, 0.02, coverage.REPEATS // 10)
    for cell, share in zip(row(text, "SD of seeds", "3", "2")[2:], found.values(), strict=True):
        error = np.sqrt(share * (1 - share) * 1.1 / (coverage.REPEATS // 10))
        assert float(cell) / 100 == pytest.approx(share, abs=3 * error)


def test_the_table_of_planted_losses_is_recomputed(text):
    shares = planted.verdicts(SPOILED, 0.05)
    expected = f"{100 * shares.get('PASS', 0):.1f} / {100 * shares['REGRESSED']:.1f}"
    assert row(text, "| recorded scores", SPOILED.label)[1 + planted.LOSSES.index(0.05)] == expected


def test_the_tables_of_early_stopping_are_recomputed(text):
    stops = early.simulated(-0.10)
    assert row(text, "looking at each", "−10.0")[1:3] == [f"{stops.each:.0f}", f"{stops.batched:.0f}"]
    assert row(text, "recorded real pairs", "instructions")[5] == f"{pair('instructions').recorded.batched:.0f}"


def test_the_page_says_that_every_claim_is_met(text):
    promised = [claim.promise for claim in claims.claims(made_up())]
    assert [row(text, "| claim", promise)[3] for promise in promised] == ["yes"] * len(promised)


def made_up() -> Results:
    """Results that break every promise, quick to make."""
    rng = np.random.default_rng(0)
    every = [(n, margin, rule) for n in size.ITEMS for margin in size.MARGINS for rule in size.RULES]
    stops = early.Stops(900.0, 950.0, 800.0, 1000.0, 0.1, 0.2, 0.3)
    return Results(
        sizes={key: rng.uniform(0.06, 1, size.STEPS) for key in every},
        power={"Lethe": 0.3, "Tango": 0.4},
        coverage={(k, sd): dict.fromkeys(coverage.METHODS, 0.9) for k in coverage.SEEDS for sd in coverage.SEED_SDS},
        planted={(r.label, loss): {"PASS": 0.5} for r in planted.RECORDINGS for loss in planted.LOSSES},
        discordance={r.label: 0.1 for r in planted.RECORDINGS},
        early=dict.fromkeys(early.CHANGES, stops),
        pairs={name: pair(name, repeats=2) for name in METRICS},
    )


def test_a_broken_promise_is_said():
    broken = claims.claims(made_up())
    assert not any(claim.met for claim in broken)
    assert page.render(made_up()).count("**NO**") == len(broken)


def test_the_page_and_its_figures_come_out_the_same_byte_for_byte(tmp_path):
    digests = []
    for name in ("once", "again"):
        calibrate.write(made_up(), tmp_path / name)
        files = sorted(path for path in (tmp_path / name).rglob("*") if path.is_file())
        digests.append({path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in files})
    assert digests[0] == digests[1]
    assert set(digests[0]) == {"calibration.md", "size.svg", "coverage.svg", "planted.svg", "early.svg"}


def test_every_figure_of_the_page_is_there_and_bears_no_date(text):
    named = re.findall(r"\]\((calibration/\w+\.svg)\)", text)
    assert sorted(named) == sorted(f"calibration/{path.name}" for path in (DOCS / "calibration").iterdir())
    assert not [name for name in named if "dc:date" in (DOCS / name).read_text(encoding="utf-8")]
