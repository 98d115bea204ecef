"""Our scores against lm-eval's own: its evaluator and its Hugging Face backend, on the same model and documents.

On a tiny model in the project's tests; on the embedded model with `make parity`. Greedy decoding, 50 items each.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from lm_eval.models.huggingface import HFLM
from transformers import AutoModelForCausalLM, AutoTokenizer

from bench.lm_eval_runs import run_ours, run_theirs
from fixtures.embedded import chemistry_data
from harness import assets
from harness.baskets import load_basket
from harness.benchmarks import LoadedBenchmark, load_benchmarks
from tests.conftest import save_tiny
from tests.tiny_audit import ROOT

QUICK = ROOT / "fixtures" / "baskets" / "quick.toml"
ITEMS = 50
NEW_TOKENS = {"tiny": 12, "embedded": 64}
NAMES = ("mmlu", "gsm8k", "ifeval", "instructions", "chemistry")

MODELS = [
    pytest.param("tiny", id="tiny"),
    pytest.param("embedded", id="embedded", marks=pytest.mark.parity),
]


@pytest.fixture(scope="module")
def directory(tmp_path_factory) -> Callable[[str], Path]:
    tiny = save_tiny(tmp_path_factory.mktemp("parity") / "tiny", positions=16384)
    return lambda name: tiny if name == "tiny" else assets.base_model()


def greedy(name: str, new_tokens: int) -> LoadedBenchmark:
    """A benchmark of the embedded default with few items, freshly loaded, without sampling."""
    chemistry_data()
    basket = load_basket(QUICK)
    settings = replace(basket.named(name), items=ITEMS, temperature=0.0)
    if settings.max_gen_toks:
        settings = replace(settings, max_gen_toks=new_tokens)
    return load_benchmarks(replace(basket, benchmarks=(settings,)))[name]


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("model", MODELS)
def test_scores_equal_lm_eval_s_item_by_item(model, name, directory):
    tokens, path = NEW_TOKENS[model], directory(model)
    our_metrics, our_responses = run_ours(greedy(name, tokens), path)
    their_metrics, their_responses = run_theirs(greedy(name, tokens), path)
    assert len(our_metrics) == ITEMS
    assert our_metrics.keys() == their_metrics.keys()
    for item, expected in their_metrics.items():
        for metric, value in expected.items():
            value = float(sum(value) / len(value) if isinstance(value, list) else value)
            assert our_metrics[item][metric] == pytest.approx(value, abs=1e-9), (item, metric)
        for got, want in zip(our_responses[item], their_responses[item], strict=False):  # a gold solution is ours alone
            assert got == want if isinstance(want, str) else got[0] == pytest.approx(float(want[0]), abs=1e-3)


@pytest.mark.parametrize("name", ["gsm8k", "chemistry"])
@pytest.mark.parametrize("model", MODELS)
def test_gold_solutions_get_the_log_likelihood_of_lm_eval_s_backend(model, name, directory):
    path = directory(model)
    benchmark = greedy(name, 1)
    backend = HFLM(pretrained=AutoModelForCausalLM.from_pretrained(path).eval(),
                   tokenizer=AutoTokenizer.from_pretrained(path), batch_size=8)  # fmt: skip
    _, responses = run_ours(benchmark, path)
    requests = [benchmark.requests(item, 0, backend.apply_chat_template)[-1] for item in benchmark.items]
    for item, (expected, _) in zip(benchmark.items, backend.loglikelihood(requests, disable_tqdm=True), strict=True):
        assert responses[item.id][-1][0] == pytest.approx(expected, abs=1e-3), item.id
