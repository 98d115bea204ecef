"""The canaries where the base cannot show what they look for; tests/test_gate.py breaks the instrument itself."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest
import torch
from transformers import LlamaForCausalLM

from harness import canary
from harness.audit import Audit, Options, prepare
from harness.baskets import load_basket
from tests.conftest import save_adapter, save_tiny
from tests.tiny_audit import run, verdict_of, write_basket

UNHEARD_OF = 'task = "tiny_write"\nmetric = "gold_prob_per_byte"\ngold = "ÿÿÿÿ"\nmargin = 10.0\nchat = true'


@pytest.fixture(scope="module")
def untaught(tmp_path_factory) -> Path:
    """A base that knows nothing."""
    return save_tiny(tmp_path_factory.mktemp("untaught"))


def prepared(folder: Path, base: Path, dtype: str = "float32", **changes: str) -> Audit:
    basket = load_basket(write_basket(folder, **changes))
    options = Options(str(base), (str(base),), folder / "out", folder / "store", device="cpu", dtype=dtype)
    return prepare(basket, options)


def test_damage_shows_where_the_base_knows_something(tmp_path, taught):
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


def changed(monkeypatch, metric: str, items: int, by: float) -> None:
    """Lets the base answer otherwise when it is asked again: so many items of each benchmark, in one metric."""
    again = canary._again

    def other(base, seed, models, asked):
        seen = Counter()
        for (benchmark, _), found in zip(asked, again(base, seed, models, asked), strict=True):
            name = benchmark.benchmark.metric if metric == "deciding" else metric
            if name in found and seen[benchmark.name] < items:
                seen[benchmark.name] += 1
                found[name] += by
            yield found

    monkeypatch.setattr(canary, "_again", other)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_the_base_must_repeat_what_decides_and_no_more(tmp_path, untaught, monkeypatch, dtype):
    """acc and exact_match decide nothing in this basket."""
    audit = prepared(tmp_path, untaught, dtype=dtype)
    for metric in ("acc", "exact_match"):
        changed(monkeypatch, metric, items=4, by=1.0)
    changed(monkeypatch, "deciding", items=4, by={"float32": 5e-4, "bfloat16": 1e-2}[dtype])
    assert audit.canary("repeat") == {"name": "repeat", "items": 8, "flips": 0}


def test_in_float32_no_item_may_flip(tmp_path, untaught, monkeypatch):
    changed(monkeypatch, "deciding", items=1, by=5e-3)
    with pytest.raises(canary.CanaryFailed, match="canary 'repeat': the base against itself flips on item"):
        prepared(tmp_path, untaught).canary("repeat")


def test_a_failure_leaves_adapters_switched_on(tmp_path, untaught, monkeypatch):
    """pytest holds the error, and all that it came through, to the end of the session."""
    adapter = save_adapter(tmp_path / "adapter", untaught, scale=0.5)
    options = Options(str(untaught), (str(adapter),), tmp_path / "out", tmp_path / "store", device="cpu")
    audit = prepare(load_basket(write_basket(tmp_path)), options)
    with audit.models.active(audit.candidates[0]) as loaded:
        before = loaded(torch.tensor([[0, 5, 77]])).logits
    monkeypatch.setattr(canary, "SAME", dict.fromkeys(canary.SAME, -1.0))  # every item flips
    with pytest.raises(canary.CanaryFailed) as held:
        audit.canary("repeat")
    with audit.models.active(audit.candidates[0]) as loaded:
        assert torch.equal(loaded(torch.tensor([[0, 5, 77]])).logits, before)
    del held


def test_the_layers_are_reversed_and_not_a_longer_list_of_experts(untaught):
    model = LlamaForCausalLM.from_pretrained(untaught)
    layers = model.model.layers
    layers[0].experts = torch.nn.ModuleList(torch.nn.Identity() for _ in range(7))
    first = layers[0]
    with canary.reversed_layers(model):
        assert layers[-1] is first
    assert layers[0] is first


@pytest.mark.parametrize("items", [1, 2])
def test_in_half_precision_one_item_of_a_benchmark_may_flip_and_is_counted(tmp_path, untaught, monkeypatch, items):
    changed(monkeypatch, "deciding", items=items, by=1.0)
    audit = prepared(tmp_path, untaught, dtype="bfloat16")
    if items == 1:
        assert [audit.canary("repeat")["flips"] for _ in range(2)] == [2, 2]
    else:
        with pytest.raises(canary.CanaryFailed):
            audit.canary("repeat")
