"""The canaries where the base cannot show what they look for; tests/test_gate.py breaks the instrument itself."""

from __future__ import annotations

from pathlib import Path

import pytest

from harness.audit import Audit, Options, prepare
from harness.baskets import load_basket
from tests.conftest import save_tiny
from tests.tiny_audit import run, teach, verdict_of, write_basket, write_tasks

UNHEARD_OF = 'task = "tiny_write"\nmetric = "gold_prob_per_byte"\ngold = "ÿÿÿÿ"\nmargin = 10.0\nchat = true'


@pytest.fixture(scope="module")
def untaught(tmp_path_factory) -> Path:
    """A base that knows nothing."""
    return save_tiny(tmp_path_factory.mktemp("untaught"))


def prepared(folder: Path, base: Path, **changes: str) -> Audit:
    basket = load_basket(write_basket(folder, **changes))
    return prepare(basket, Options(str(base), (str(base),), folder / "out", folder / "store", device="cpu"))


def test_damage_shows_where_the_base_knows_something(tmp_path, untaught):
    taught = teach(untaught, write_tasks(tmp_path / "lessons"))
    known = prepared(tmp_path, taught).canary("damaged")
    assert (known["benchmark"], known["verdict"]) == ("letters", "REGRESSED")  # the shortest prompts
    elsewhere = prepared(tmp_path, taught, letters=UNHEARD_OF).canary("damaged")
    assert (elsewhere["benchmark"], elsewhere["verdict"]) == ("choices", "REGRESSED")


def test_a_base_that_knows_nothing_is_inconclusive_and_no_error(tmp_path, untaught):
    done = run(tmp_path, untaught, untaught)
    assert done.returncode == 10, done.stdout
    verdict = verdict_of(tmp_path)
    assert {row["verdict"] for row in verdict["benchmarks"]} == {"INCONCLUSIVE"}
    assert verdict["canaries"][2]["verdict"] is None
    assert "it has nothing to lose" in verdict["canaries"][2]["reason"]
