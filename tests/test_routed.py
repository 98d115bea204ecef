"""A routed model: its scores are those of base and adapter, item by item, and no model runs for it."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from harness.audit import Options, prepare
from harness.baskets import load_basket
from harness.checkpoints import check
from harness.router import Router
from harness.specs import Unusable, parse_model
from mitigations.isolation import isolate
from tests.test_isolation import DOMAIN, FRESH, GENERAL
from tests.tiny_audit import WORDS, write_basket


@pytest.fixture(scope="module")
def isolated(tiny_base, tiny_adapter, tmp_path_factory) -> Path:
    """An adapter that is switched on for questions that begin as half of the tiny benchmarks' do."""
    base = check(parse_model(str(tiny_base)))
    adapter = check(parse_model(str(tiny_adapter)), base)
    asked = [f"{first} {second} {n}?" for first in WORDS[:8] for second in WORDS for n in range(3)]
    out = tmp_path_factory.mktemp("isolated") / "out"
    return isolate(base, adapter, [*asked, *DOMAIN], GENERAL, out, **FRESH).path


@pytest.fixture(scope="module")
def audit(tiny_base, tiny_adapter, isolated, tmp_path_factory):
    folder = tmp_path_factory.mktemp("routed")
    given = Options(str(tiny_base), (str(isolated), str(tiny_adapter)), folder / "out", folder / "store", device="cpu")
    return prepare(load_basket(write_basket(folder)), given)


def test_the_directory_is_a_model_of_its_own(isolated, audit):
    assert parse_model(str(isolated)).kind == "routed"
    routed, adapter = audit.candidates
    assert routed.digest not in (adapter.digest, audit.base.digest)
    assert not routed.is_adapter
    assert routed.routed.digest == adapter.digest


@pytest.mark.parametrize("name", ["choices", "letters"])
def test_each_item_has_the_score_of_the_side_that_it_was_handed_to(audit, isolated, name):
    routed, adapter = audit.candidates
    router = Router.load(isolated / "router")
    found, base, tuned = (audit.scores(model, name, 0) for model in (routed, audit.base, adapter))
    handed = {item.id: bool(router.domain([audit.benchmarks[name].question(item)])[0]) for item in audit.items(name)}
    assert 0 < sum(handed.values()) < len(handed)
    for item, on in handed.items():
        assert found[item] == (tuned if on else base)[item]


def test_no_model_runs_for_it(audit, monkeypatch):
    for side in audit.sides.values():
        for name in audit.benchmarks:
            audit.scores(side, name, 0)
    cells, _ = audit.planned()
    assert len(cells) == len(set(cells)) == 2 * len(list(audit.work())) // 3
    monkeypatch.setattr("harness.evaluate.reader", None)
    assert audit.comparison(audit.candidates[0], "letters", seeds=(0,)).flips > 0


def test_another_router_is_another_model(isolated, audit, tmp_path):
    import shutil

    moved = shutil.copytree(isolated, tmp_path / "moved")
    router = Router.load(moved / "router")
    replace(router, threshold=router.threshold + 1).save(moved / "router")
    with pytest.raises(Unusable, match="is not the one that"):
        check(parse_model(str(moved)), audit.base)
    note = json.loads((moved / "lethe.json").read_text())
    from harness.router import router_digest

    note["router"]["digest"] = router_digest(moved / "router")
    (moved / "lethe.json").write_text(json.dumps(note))
    assert check(parse_model(str(moved)), audit.base).digest != audit.candidates[0].digest


def test_it_cannot_be_a_base(isolated):
    with pytest.raises(Unusable, match="cannot be the base"):
        check(parse_model(str(isolated)))
