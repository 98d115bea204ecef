"""What cannot be asked of a model is said before any benchmark is evaluated, and rows are not longer than was said."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path

import pytest

from harness.audit import Audit, Options, prepare
from harness.backends import stream
from harness.baskets import load_basket
from harness.engine import Engine
from harness.specs import Unusable
from tests.conftest import save_tiny, tiny_tokenizer
from tests.spoiling import said, write_json
from tests.test_engine import choices, writings
from tests.tiny_audit import write_basket

SAMPLED = 'task = "tiny_write"\nmetric = "exact_match"\nmargin = 10.0\nchat = true\ntemperature = 0.7'


def prepared(folder: Path, base: Path, backend: str = "hf", workers: int = 1, **changes: str) -> Audit:
    options = Options(
        str(base), (str(base),), folder / "out", folder / "store", backend=backend, device="cpu", workers=workers
    )
    return prepare(load_basket(write_basket(folder, **changes)), options)


@pytest.fixture
def vllm(monkeypatch):
    """Lets vLLM seem to be installed."""
    find = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name, *more: name == "vllm" or find(name, *more))


def test_a_sampled_benchmark_is_asked_of_the_engine_alone(tmp_path, tiny_base, vllm):
    sentence = said(prepared, tmp_path, tiny_base, "vllm", letters=SAMPLED)
    assert "benchmark 'letters' is sampled at temperature 0.7 and answered by --backend vllm" in sentence
    assert "set temperature = 0 in the basket" in sentence
    assert prepared(tmp_path, tiny_base, "vllm").models.backend == "vllm"


@pytest.mark.parametrize("spoil", [{"no_repeat_ngram_size": 3}, {}], ids=["generation settings", "none"])
def test_a_model_that_the_engine_does_not_read_is_said_before_it_evaluates_anything(tmp_path, spoil):
    base = save_tiny(tmp_path / "base")
    write_json(base / "generation_config.json", **spoil)
    audit = prepared(tmp_path, base, letters=SAMPLED)
    if spoil:
        sentence = said(audit.scores, audit.base, "choices", 0)
        assert f"'letters' is sampled at temperature 0.7 and answered by lm-eval's own backend for '{base}'" in sentence
        assert audit.store.count(audit.planned()[0]) == 0
    else:
        assert audit.scores(audit.base, "choices", 0)


def test_vllm_and_several_workers_are_refused_as_all_would_claim_one_gpu(tmp_path, tiny_base, vllm):
    sentence = said(prepared, tmp_path, tiny_base, "vllm", 2)
    assert "--backend vllm with -n 2: every worker would claim the same GPU; leave -n out" in sentence
    assert prepared(tmp_path, tiny_base, "hf", 2).models.backend == "hf"


def test_the_longest_row_is_no_shorter_than_any_that_is_read(tmp_path, tiny_base):
    audit = prepared(tmp_path, tiny_base, letters=SAMPLED + '\ngold = "{{ gold }}"')
    seen = [0]

    class Measured(Engine):
        def __init__(self, *given, **options):
            super().__init__(*given, **options)
            read = self.read_tree
            self.read_tree = lambda tree, prefix, *rest, **more: (
                seen.append(max(tree.depths) + 1 + (prefix.length if prefix else 0))
                or read(tree, prefix, *rest, **more)
            )

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("harness.backends.Engine", Measured)
        for name in audit.benchmarks:
            for seed in audit.seeds(name):
                audit.scores(audit.base, name, seed)
    longest = audit.models.asked.longest(tiny_tokenizer())
    assert max(seen) <= longest <= 3 * max(seen)


class AllAtOnce:
    """As lm-eval's vLLM class, which with data_parallel_size opens new engines at each call."""

    def __init__(self):
        self.calls = []

    def loglikelihood(self, requests, disable_tqdm):
        self.calls.append(len(requests))
        return [(-1.0, False)] * len(requests)

    def generate_until(self, requests, disable_tqdm):
        self.calls.append(len(requests))
        return [json.dumps(len(requests))] * len(requests)


def test_vllm_gets_all_requests_of_a_kind_at_once():
    lm = AllAtOnce()
    requests = [*choices(questions=100), *writings(count=300)]
    assert len(dict(stream(lm, requests))) == 600
    assert lm.calls == [300, 300]


def test_other_backends_never_sample_without_the_common_noise():
    with pytest.raises(Unusable, match="set temperature = 0"):
        dict(stream(AllAtOnce(), writings(do_sample=True, temperature=0.7)))
