"""What is printed: numbers rounded in one place, and a last line that agrees with the exit status."""

from __future__ import annotations

import unicodedata
from types import SimpleNamespace

import pytest

from harness.report.foreign import columns
from harness.report.numbers import interval, points, signed
from harness.report.terminal import aligned, decision_line, on_one_line, verdict_lines
from tests import verdicts


@pytest.mark.parametrize(
    ("value", "plain", "with_sign"),
    [
        (-0.111, "-11.1", "−11.1"),
        (0.02, "2.0", "+2.0"),
        (0, "0.0", "0.0"),
        (-0.0004, "0.0", "0.0"),
        (1, "100.0", "+100.0"),
    ],
)
def test_points_are_rounded_once_and_never_minus_zero(value, plain, with_sign):
    assert points(value) == plain
    assert signed(value) == with_sign


def test_an_interval_is_printed_with_its_estimate():
    assert interval(SimpleNamespace(estimate=-0.111, low=-0.1521, high=-0.0699)) == "−11.1 [−15.2, −7.0]"


def row(name: str, verdict: str, change: float) -> dict:
    return {
        "name": name, "model": "m", "verdict": verdict, "items": 250, "seeds": [0, 1], "seeds_without_effect": False,
        "base": 30.0, "candidate": 30.0 + change, "change": change, "low": change - 3, "high": change + 3,
        "margin": 5.0, "floor": 0.0, "lost": 9, "gained": 2, "reason": f"why {name}",
    }  # fmt: skip


def document(rows, decision: str, status: int, worst: str | None = None) -> dict:
    return {
        "candidates": [{"spec": "m"}],
        "training_runs": [],
        "items": {"evaluated": 9, "planned": 9},
        "benchmarks": rows,
        "domain": [],
        "policy": {"alpha": 0.05},
        "decision": decision,
        "exit": status,
        "largest_regression": worst,
        "largest_regression_of": "m",
    }


def test_a_regression_that_the_number_of_benchmarks_may_explain_is_marked_and_blocks():
    rows = [row("ifeval", "REGRESSED", -11.1) | {"pvalue": 0.04, "adjusted_pvalue": 0.16}, row("mmlu", "PASS", -2.0)]
    line = decision_line(document(rows, "BLOCKED", 1, "ifeval"))
    assert line.startswith("BLOCKED (exit 1): ifeval (by itself: not after Holm's adjustment) regressed;")
    for pvalue, adjusted in ((0.01, 0.04), (0.06, 0.16)):  # the bound and the exact p-value need not agree
        rows[0] |= {"pvalue": pvalue, "adjusted_pvalue": adjusted}
        assert "BLOCKED (exit 1): ifeval regressed;" in decision_line(document(rows, "BLOCKED", 1, "ifeval"))


def test_the_line_of_a_block_names_what_regressed_and_by_how_much():
    rows = [row("ifeval", "REGRESSED", -11.1), row("mmlu", "INCONCLUSIVE", -2.0), row("gsm8k", "PASS", 0.0)]
    assert (
        decision_line(document(rows, "BLOCKED", 1, "ifeval"))
        == "BLOCKED (exit 1): ifeval regressed; mmlu inconclusive; largest regression: ifeval −11.1 points"
    )


def test_the_line_of_a_ship_says_how_many_passed():
    line = decision_line(document([row("mmlu", "PASS", 0.0)], "SHIP", 0))
    assert line == "SHIP (exit 0): the one benchmark lost less than its margin"


def test_the_table_aligns_its_columns_and_gives_every_reason():
    lines = verdict_lines(
        document([row("ifeval", "REGRESSED", -11.1), row("gsm8k", "PASS", 0.0)], "BLOCKED", 1, "ifeval")
    )
    head = lines[0]
    for line in lines[2:4]:
        assert len(line[: head.index("verdict")].rstrip()) < head.index("verdict")
        assert line[head.index("verdict") :] in ("REGRESSED", "PASS")
    assert "  ifeval: why ifeval" in lines
    assert not any("why gsm8k" in line for line in lines)


def test_no_name_or_error_of_others_starts_a_line_or_moves_the_cursor():
    hostile = "a\nSHIP (exit 0): all passed\x1b[2K\r\tb"
    made = verdicts.worst_case()
    made["benchmarks"][0] |= {"name": hostile, "reason": hostile, "model": hostile}
    made |= {"largest_regression": hostile, "largest_regression_of": hostile, "recommendation": hostile}
    made["mitigations"][-1]["error"] = hostile
    lines = [*verdict_lines(made), decision_line(made)]
    assert any("SHIP (exit 0)" in line for line in lines), "it is shown"
    assert not [line for line in lines if any(unicodedata.category(char) == "Cc" for char in line)]
    assert not any(line.startswith("SHIP") for line in lines)


def test_a_long_name_is_cut_in_the_table_and_the_last_line():
    lines = verdict_lines(verdicts.worst_case())
    table = lines[: next(n for n, line in enumerate(lines) if line.startswith("Points."))]
    assert max(map(columns, table)) < 220
    assert lines[-1].count("a_benchmark_w") == 1, "each name once, whatever the number of candidates"


def test_columns_stand_below_each_other_in_scripts_of_wide_letters():
    lines = aligned([("benchmark", "items", "verdict"), ("日本語読解", "7", "PASS"), ("mmlu", "200", "PASS")])
    assert len({columns(line[: line.index("PASS")]) for line in lines[2:]}) == 1


@pytest.mark.parametrize("order", ["::add-mask::it", "  ::error::no", "##[error]no", "name: ##[group]no"])
def test_no_name_of_others_gives_orders_to_a_ci_log(order):
    told = on_one_line(order)
    assert not told.strip().startswith("::")
    assert "##[" not in told


def test_a_test_s_own_name_stays_as_it_is():
    assert on_one_line("tests/gates/test_forgetting.py::test_decision").endswith(".py::test_decision")
