"""docs/speed.md says what was measured: ratios the right way round, medians, and what is wanted beside them."""

from __future__ import annotations

import pytest

from bench.speed import against, audits, continuous, coupling, cuda, drafts, figures, growth, results
from bench.speed.one import BENCHMARKS
from harness.evaluate import ENGINE_VERSION


@pytest.fixture
def compared(tmp_path, monkeypatch) -> dict:
    """Three runs in which lm-eval takes 40, 50 and 90 seconds for 40 items, and we take 10."""
    monkeypatch.setattr(results, "FOLDER", tmp_path)
    rows = [
        {"who": who, "benchmark": name, "items": 40, "batch": 8, "seconds": seconds, "tokens": 1000, "peak_mb": peak}
        for name in BENCHMARKS
        for who, times, peak in (("lm_eval", (40.0, 90.0, 50.0), 2000.0), ("ours", (10.0, 10.0, 10.0), 1000.0))
        for seconds in times
    ]
    found = {"engine": ENGINE_VERSION, "peak_gflops": 100.0, "batches": {}, "runs": 3, "rows": rows}
    results.write("against", found)
    return found


def test_the_comparison_is_of_medians(compared):
    text = "\n".join(against.section(compared))
    assert "| ifeval | 40 | 50.0 | 10.0 | 5.0 | 1.6 | 1,000 | 1,000 | 0.50 | 21% |" in text
    assert "medians of 3 runs" in text


def test_a_benchmark_measured_on_one_model_counts_twice_in_the_whole_audit(compared):
    one_model, two_models = (2 * 10 / 40 * 171 * 3), 10 / 40 * (110 + 200 + 3 * 120 + 200)
    assert against.audit_seconds(compared, "ours") == pytest.approx(one_model + two_models)


def test_whole_audits_are_compared_with_lm_eval_at_its_rates(compared):
    theirs = against.audit_seconds(compared, "lm_eval")
    run = {"decision": "BLOCKED", "items": {"mmlu": 50}}
    found = {
        name: [run | {"seconds": share * theirs}]
        for name, share in (("cold", 0.25), ("warm", 0.01), ("further", 0.1), ("early", 0.125))
    }
    found = {"engine": ENGINE_VERSION, "peak_gflops": 110.0, "runs": found}
    text = "\n".join(audits.section(found))
    for told in (
        "4.0 times as fast",
        "4.0% of the cold one",
        "40% of the first two",
        "36% without",
        "8.0 times as fast",
        "judged on mmlu 50 items",
    ):
        assert told in text


@pytest.mark.parametrize("changed", [{"engine": 3}, {"peak_gflops": 316.0}])
def test_audits_of_another_engine_or_machine_are_not_set_beside_lm_eval(compared, changed):
    runs = {"cold": [{"seconds": 100.0, "decision": "BLOCKED", "items": {"mmlu": 50}}]}
    text = "\n".join(audits.section({"engine": ENGINE_VERSION, "peak_gflops": 100.0, "runs": runs} | changed))
    assert "times as fast" not in text
    assert "measured under other conditions" in text


def test_runs_of_another_engine_are_no_repetitions(compared, monkeypatch):
    assert results.begun("against") == compared
    monkeypatch.setattr(results, "ENGINE_VERSION", -1)
    begun = results.begun("against")
    assert begun["engine"] == -1
    assert "rows" not in begun


def test_drafts_that_do_not_pay_are_not_built():
    row = {"scale": 0.5, "held": 0.4, "writing": 400.0, "reading": 900.0}
    assert "At most 1.10, at scale 0.5: not built" in "\n".join(drafts.section({"rows": [row | {"at_best": 1.1}]}))
    assert "At most 1.40, at scale 0.5: worth building" in "\n".join(drafts.section({"rows": [row | {"at_best": 1.4}]}))


def test_coupling_is_worth_the_ratio_of_the_variances():
    found = {"coupled": {"differ": 10.0, "deviation": 30.0}, "independent": {"differ": 25.0, "deviation": 45.0}}
    assert "worth 2.25 times as many items" in "\n".join(coupling.section(found))


def test_the_gpu_s_rate_of_lm_eval_is_its_faster_batch():
    side = {"seconds": 10.0, "gib": 1.0}
    row = {"model": "m", "benchmark": "mmlu", "items": 9, "ours": side}
    row |= {"lm_eval 16": side | {"seconds": 50.0}, "lm_eval 64": side | {"seconds": 30.0}}
    row["same"] = {"ours": 8, "lm_eval 16": 9, "lm_eval 64": 7}
    assert "| m | mmlu | 9 | 30.0 | 10.0 | 3.0 | 1.0 | 1.0 | 8 | 7 |" in "\n".join(
        cuda.section({"device": "H200", "rows": [row]})
    )


@pytest.mark.embedded
def test_the_gpu_s_comparison_runs_and_counts_items_scored_alike(tmp_path, monkeypatch):
    monkeypatch.setattr(results, "FOLDER", tmp_path)
    tiny = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 2}
    plan = {"ifeval": {"items": 30, "max_gen_toks": 4}}
    cuda.measure("cpu", {"tiny": lambda *where: cuda.random_7b(*where, tiny)}, plan, runs=1)
    (row,) = results.read("cuda")["rows"]
    assert row["items"] == 30
    assert row["same"]["lm_eval 16"] == 30
    assert row["ours"]["seconds"] > 0


def test_every_engine_s_texts_are_counted_against_ours():
    found = {"cpu": {"ours": {"seconds": 3.0, "as_ours": 32}, "generate": {"seconds": 6.0, "as_ours": 31}}}
    assert "| cpu | `generate` | 6.0 | 31 of 32 |" in "\n".join(continuous.section(found))


def test_growth_and_comparison_have_figures_that_come_out_the_same(compared, tmp_path):
    points = {name: [[1, 2.0], [2, 3.0]] for name in figures.AXES}
    assert "1 to 2 items: 2.0 to 3.0 s" in "\n".join(growth.section(points))
    for figure, found in ((figures.growth_figure, points), (figures.against_figure, compared)):
        paths = [tmp_path / "one.svg", tmp_path / "two.svg"]
        for path in paths:
            figures.save(figure(found), path)
        assert paths[0].read_bytes() == paths[1].read_bytes()
