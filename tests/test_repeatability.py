"""A hundred audits of a model against itself, over batch sizes, orders and seeds: nothing regresses, nothing flips.

On a tiny model in the project's tests; on the embedded model with `make parity`.
"""

from __future__ import annotations

import random
from dataclasses import replace

import pytest

from fixtures.embedded import chemistry_data
from harness import assets
from harness.baskets import load_basket
from harness.benchmarks import LoadedBenchmark, load_benchmarks
from harness.checkpoints import check
from harness.compare import compare
from harness.engine import Engine
from harness.models import LoadedModels
from harness.specs import Policy, parse_model
from harness.store import Cell, Score
from harness.verdict import REGRESSED, judge
from tests.conftest import save_tiny
from tests.tiny_audit import ROOT

AUDITS = 100
SEEDS = 5
ITEMS = 6
METRICS = {"instructions": "prompt_level_strict_acc", "chemistry": "exact_match"}
SAMPLED = {"instructions": 24, "chemistry": 8}  # benchmark -> new tokens; both sampled, at temperature 0.7


@pytest.fixture(scope="module")
def benchmarks() -> list[LoadedBenchmark]:
    chemistry_data()
    basket = load_basket(ROOT / "fixtures" / "baskets" / "quick.toml")
    settings = [
        replace(basket.named(name), items=30, temperature=0.7, max_gen_toks=tokens) for name, tokens in SAMPLED.items()
    ]
    return list(load_benchmarks(replace(basket, benchmarks=tuple(settings))).values())


@pytest.mark.parametrize("model", ["tiny", pytest.param("embedded", marks=pytest.mark.parity)])
def test_a_hundred_audits_of_a_model_against_itself(model, benchmarks, tmp_path):
    path = save_tiny(tmp_path / "tiny") if model == "tiny" else assets.base_model()
    checked, models = check(parse_model(str(path))), LoadedModels("cpu", "float32", False)
    with models.active(checked) as loaded:
        tokenizer = models.tokenizer(checked)
        reference = {
            (b.name, seed): answers(Engine(loaded, tokenizer, seed=seed), b, b.items[:ITEMS], seed)
            for b in benchmarks
            for seed in range(SEEDS)
        }
        for number in range(AUDITS):
            drawn = random.Random(number)
            benchmark, seed = drawn.choice(benchmarks), drawn.randrange(SEEDS)
            engine = Engine(
                loaded, tokenizer, seed=seed, slots=drawn.randint(1, 7), pack_tokens=drawn.choice([50, 200, 1024])
            )
            items = drawn.sample(benchmark.items[:ITEMS], ITEMS)
            found = answers(engine, benchmark, items, seed)
            expected = reference[benchmark.name, seed]
            assert all(same(found[i.id].responses, expected[i.id].responses) for i in items), number
            metric, ids = METRICS[benchmark.name], [(i.id, "") for i in items]
            compared = compare(benchmark.name, metric, ids, {seed: expected}, {seed: found})
            assert judge(compared, 0.05, 0.0, Policy()).verdict != REGRESSED
            assert compared.flips == 0


def answers(engine: Engine, benchmark: LoadedBenchmark, items, seed: int) -> dict[str, Score]:
    """What the engine makes of some items, by item id."""
    requests = [benchmark.requests(item, seed, engine.apply_chat_template) for item in items]
    flat = [(n, k) for n, made in enumerate(requests) for k in range(len(made))]
    responses = [[None] * len(made) for made in requests]
    for index, answer in engine.stream([requests[n][k] for n, k in flat]):
        n, k = flat[index]
        responses[n][k] = answer
    found = {}
    for item, made, given in zip(items, requests, responses, strict=True):
        metrics = benchmark.score(item, made, given)
        found[item.id] = Score(Cell("m", benchmark.digest, seed), item.id, metrics, given)
    return found


def same(one: list, other: list) -> bool:
    """Equal texts, and log-likelihoods but for their last digits, which depend on the batch."""
    return all(
        a == b if isinstance(a, str) else a[0] == pytest.approx(b[0], abs=1e-3) for a, b in zip(one, other, strict=True)
    )
