"""The embedded default itself: its candidate is what its note says, and the real model answers through our engine."""

from __future__ import annotations

import json
import shlex

import pytest

from fixtures.embedded import chemistry_data
from harness import assets
from harness.backends import open_lm
from harness.baskets import load_basket
from harness.benchmarks import load_benchmarks
from harness.checkpoints import check, weights_digest
from harness.engine import Engine
from harness.evaluate import adapter_effect, cell_of, fill
from harness.fingerprint import file_digest
from harness.models import LoadedModels
from harness.specs import Basket, Benchmark, parse_model
from harness.store import Store
from tests.tiny_audit import ROOT

ADAPTER = ROOT / "fixtures" / "adapters" / "chemistry"
BASKETS = [ROOT / "fixtures" / "baskets" / f"{name}.toml" for name in ("dpo", "quick", "standard")]

pytestmark = pytest.mark.embedded


@pytest.fixture(scope="module")
def note() -> dict:
    return json.loads((ADAPTER / "lethe.json").read_text())


def test_the_candidate_was_trained_on_the_data_that_the_project_makes(note):
    assert note["data"] == file_digest(chemistry_data() / "train.jsonl")
    assert note["base_weights"] == weights_digest(check(parse_model("embedded:base")))


def test_the_candidate_was_trained_with_the_settings_of_its_command(note):
    from recipes import sft

    said = shlex.split(note["command"])
    assert said[:3] == ["python", "-m", "recipes.sft"]
    assert sft.settings_of(said[3:]) == sft.Settings(**note["settings"])


def test_the_candidate_is_small_enough_to_ship():
    assert sum(file.stat().st_size for file in ADAPTER.iterdir()) <= 6_000_000


@pytest.mark.parametrize("basket", BASKETS, ids=lambda path: path.stem)
def test_the_baskets_have_the_four_benchmarks(basket):
    assert [b.name for b in load_basket(basket).skills] == ["mmlu", "gsm8k", "ifeval", "instructions"]


@pytest.mark.parametrize("name", ["quick", "standard"])
def test_a_forgetting_audit_has_a_domain_and_three_seeds(name):
    loaded = load_basket(ROOT / "fixtures" / "baskets" / f"{name}.toml")
    assert [b.name for b in loaded.domains] == ["chemistry"]
    assert loaded.seeds == (0, 1, 2)


def test_the_standard_basket_has_the_margins_of_the_policy():
    basket = load_basket(ROOT / "fixtures" / "baskets" / "standard.toml")
    assert [b.margin for b in basket.skills] == [2, 3, 5, 5]


def test_base_and_candidate_answer_the_domain_set_and_the_candidate_knows_more(tmp_path):
    """A small real run: one loaded model, adapter on and off, scores through the store."""
    chemistry_data()
    base = check(parse_model("embedded:base"))
    candidate = check(parse_model("embedded:chemistry"), base)
    settings = Benchmark("chemistry", "lethe_chemistry", "gold_prob_per_byte", gold="{{ response }}", chat=True,
                         items=30, max_gen_toks=4)  # fmt: skip
    basket = Basket("small", (settings,), tasks=str(ROOT / "fixtures" / "tasks"))
    benchmark = load_benchmarks(basket)["chemistry"]
    store, models = Store(tmp_path), LoadedModels("cpu", "float32", False)
    mean = {}
    for model in (base, candidate):
        assert fill(model, benchmark, [0], store, models) == 30
        assert fill(model, benchmark, [0], store, models) == 0
        scores = store.get(cell_of(model, benchmark, 0, models))
        mean[model.digest] = sum(s.metrics["gold_prob_per_byte"] for s in scores.values()) / 30
    assert mean[candidate.digest] > mean[base.digest] + 0.05
    assert adapter_effect(candidate, models, store) > 1


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_the_engine_reads_the_base_in_every_number_format(dtype):
    models, base = LoadedModels("cpu", dtype), check(parse_model("embedded:base"))
    with models.active(base) as loaded:
        assert isinstance(open_lm(loaded, models.tokenizer(base), 0), Engine)


def test_what_is_embedded_is_named():
    assert assets.embedded_names() == ["base", "chemistry"]
