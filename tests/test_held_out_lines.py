"""The lines that show a held-out accuracy: nothing that was measured is left out."""

from __future__ import annotations

from harness.preference_accuracy import held_out_accuracy
from harness.report.held_out import held_out_lines
from harness.shortcuts import Rule
from tests.test_margins import planted


def test_the_lines_show_verdict_length_faults_runs_base_and_rules():
    given = planted({"jargon": 0.95, "wrong sum": 0.75}, each=200, runs=3)
    rule = Rule("longer answer", tuple([1.0, 0.0] * 200), {}, {})
    found = held_out_accuracy(given, [rule])
    text = "\n".join(lines := held_out_lines(found))
    assert lines[0].startswith("PASS: 8")
    assert "over 3 training runs" in lines[0]
    for name in (
        "accuracy per token",
        "accuracy at equal length",
        "base's own likelihood",
        "ahead of the base by",
        "jargon",
        "tone",
        "wrong sum",
    ):
        assert sum(line.startswith(name + "  ") for line in lines) == 1, name
    share, _ = found.by_fault["jargon"]
    assert f"{100 * share.estimate:.1f}  [{100 * share.low:.1f}, {100 * share.high:.1f}]" in text
    assert "longer answer              50.0  +3" in text
    assert sum(line.startswith("training runs") for line in lines) == 1


def test_what_was_not_measured_has_no_line():
    text = "\n".join(held_out_lines(held_out_accuracy(planted({"jargon": 0.9}, each=20, runs=1))))
    assert "training runs" not in text
    assert "rules" not in text
