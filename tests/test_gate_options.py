"""Which options a gate reads: one of another gate is refused, as what it asks for would silently not be done."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import pytest

from fixtures.gate_options import OPTIONS, READS, out_of, refuse_others
from fixtures.prepared import _made_by_us, out_folder
from fixtures.selection import GATES
from harness.specs import Unusable
from tests import forked
from tests.tiny_audit import environment, write_basket


def test_every_option_of_ours_is_read_by_a_gate(pytestconfig):
    groups = [group for group in pytestconfig._parser._groups if group.name.startswith("lethe")]
    assert {option.dest for group in groups for option in group.options} == OPTIONS
    assert set(READS) == set(GATES)


@pytest.mark.parametrize("gate", GATES)
def test_an_option_of_another_gate_is_refused(gate):
    refuse_others(SimpleNamespace(**dict.fromkeys(READS[gate], "given")), gate)
    for name in OPTIONS.difference(READS[gate]):
        with pytest.raises(Unusable, match=f"--{name.replace('_', '-')} is of another gate"):
            refuse_others(SimpleNamespace(**{name: "given"}), gate)


def test_a_home_directory_is_one_in_every_path(monkeypatch, tmp_path):
    monkeypatch.setenv("HOME", str(tmp_path))
    assert out_of("~/reports") == tmp_path / "reports"
    assert out_of(None) == Path("out")


@pytest.mark.parametrize("side", [0, 1])
def test_nothing_is_tried_on_what_an_earlier_run_has_made(tmp_path, monkeypatch, side):
    monkeypatch.setenv("HOME", str(tmp_path))
    for path in (tmp_path / "out" / "mitigations" / "merge", "~/out/mitigations/merge"):
        specs = ["org/base", "./lora"]
        specs[side] = str(path)
        assert _made_by_us(specs, tmp_path / "out")
    assert not _made_by_us(["org/base", "./lora"], tmp_path / "out")


def test_a_verdict_where_the_basket_says_does_not_outlive_a_run_that_cannot_start(tmp_path):
    basket = write_basket(tmp_path)
    basket.write_text(f'{basket.read_text()}\n[run]\nout = "{tmp_path / "gate"}"\n')
    (tmp_path / "gate").mkdir()
    (tmp_path / "gate" / "verdict.json").write_text('{"decision": "SHIP"}')
    given = ["-m", "pytest", "-m", "forgetting", "-p", "no:cacheprovider", f"--basket={basket}"]
    done = forked.run([*given, "--base=./nowhere", "--candidate=./nowhere"], environment())
    assert done.returncode == 4, done.stdout
    assert not (tmp_path / "gate" / "verdict.json").exists()
    assert "no decision" in (tmp_path / "gate" / "summary.md").read_text()


def test_reports_go_where_the_basket_says_unless_the_command_line_does(tmp_path):
    def found(basket: Path, out: str | None = None) -> Path:
        return out_folder(SimpleNamespace(option=SimpleNamespace(basket=basket, out=out)))

    named = tmp_path / "named.toml"
    named.write_text('[run]\nout = "gate"\n[[benchmark]]\nname = "arc"\ntask = "arc"\nmetric = "acc"\nmargin = 2\n')
    assert found(named) == Path("gate")
    assert found(named, "mine") == Path("mine")
    assert found(tmp_path / "nowhere.toml") == Path("out")
