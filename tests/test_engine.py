"""The engine against the plain model: same numbers whatever shares a prefix, a batch or a slot."""

from __future__ import annotations

import random

import pytest
import torch
from lm_eval.api.instance import Instance
from lm_eval.models.huggingface import HFLM

from harness.backends import open_lm, stream
from harness.engine import Engine
from harness.slots import SHARED_PREFIX
from tests.conftest import tiny_model, tiny_tokenizer

FEW_SHOT = "".join(f"Q: what is {n} + {n}?\nA: it is {2 * n}\n\n" for n in range(12))


def engine(**options) -> Engine:
    model = tiny_model()
    model.set_attn_implementation(SHARED_PREFIX)
    return Engine(model, tiny_tokenizer(), **options)


def hugging_face(batch_size: int = 4) -> HFLM:
    return HFLM(pretrained=tiny_model(), tokenizer=tiny_tokenizer(), batch_size=batch_size)


def choices(prefix: str = "", questions: int = 7) -> list[Instance]:
    """Questions of unlike length with three continuations each, one of them empty of letters."""
    made = []
    for n in range(questions):
        context = f"{prefix}Q: what is {'very ' * (n % 4)}{n}?\nA:"
        made += [
            Instance("loglikelihood", {}, (context, text), k, metadata=("t", f"{n}", 1))
            for k, text in enumerate([" yes", " no, not at all", " 42"])
        ]
    return made


def writings(prefix: str = "", count: int = 9, **settings) -> list[Instance]:
    settings = {"until": ["\n\n"], "max_gen_toks": 24, "do_sample": False} | settings
    return [
        Instance(
            "generate_until", {}, (f"{prefix}Q: {'tell ' * (n % 5)}me {n}\nA:", settings), 0, metadata=("t", f"{n}", 1)
        )
        for n in range(count)
    ]


@pytest.mark.parametrize("prefix", ["", FEW_SHOT], ids=["no-prefix", "few-shot"])
def test_loglikelihoods_equal_those_of_lm_eval(prefix):
    requests = choices(prefix)
    ours, theirs = engine().loglikelihood(requests), hugging_face().loglikelihood(requests, disable_tqdm=True)
    assert [greedy for _, greedy in ours] == [greedy for _, greedy in theirs]
    assert max(abs(a - b) for (a, _), (b, _) in zip(ours, theirs, strict=True)) < 1e-3


@pytest.mark.parametrize("prefix", ["", FEW_SHOT], ids=["no-prefix", "few-shot"])
def test_texts_equal_those_of_lm_eval(prefix):
    requests = writings(prefix)
    assert engine().generate_until(requests) == hugging_face().generate_until(requests, disable_tqdm=True)


@pytest.mark.parametrize(("pack_tokens", "slots"), [(1, 1), (40, 2), (10_000, 64)])
def test_scores_do_not_depend_on_batches_or_order(pack_tokens, slots):
    requests = choices(FEW_SHOT) + writings(FEW_SHOT)
    order = random.Random(3).sample(range(len(requests)), len(requests))
    reference = dict(stream(engine(), requests))
    shuffled = dict(stream(engine(pack_tokens=pack_tokens, slots=slots), [requests[i] for i in order]))
    for place, i in enumerate(order):
        expected, obtained = reference[i], shuffled[place]
        if isinstance(expected, str):
            assert obtained == expected
        else:
            assert obtained[0] == pytest.approx(expected[0], abs=1e-3)
            assert obtained[1] == expected[1]


def test_a_shared_prefix_goes_through_the_model_once():
    lm = engine(pack_tokens=200)
    requests = choices(FEW_SHOT)
    lm.loglikelihood(requests)
    prefix = len(lm.tok_encode(FEW_SHOT))
    questions = sum(len(lm.encode_request(r)[0]) - prefix for r in requests[::3])
    answers = sum(len(lm.encode_request(r)[1]) for r in requests)
    assert lm.tokens_computed <= prefix + questions + answers


def test_a_text_ends_before_its_stop_string_and_at_its_limit():
    lm = engine()
    free = lm.generate_until(writings(count=4, until=[], max_gen_toks=30))
    stop = free[0][7:9]
    cut = lm.generate_until(writings(count=4, until=[stop], max_gen_toks=30))
    assert cut == [text.split(stop)[0] for text in free]
    short = writings(count=2, until=[], max_gen_toks=5)
    assert lm.generate_until(short) == hugging_face().generate_until(short, disable_tqdm=True)
    assert lm.generate_until(short) != free[:2]


def test_the_context_is_cut_from_the_left_when_it_does_not_fit():
    model = tiny_model(positions=64)
    model.set_attn_implementation(SHARED_PREFIX)
    ours = Engine(model, tiny_tokenizer())
    theirs = HFLM(pretrained=tiny_model(positions=64), tokenizer=tiny_tokenizer(), batch_size=2)
    requests = choices("x" * 100, questions=2)
    pairs = zip(ours.loglikelihood(requests), theirs.loglikelihood(requests, disable_tqdm=True), strict=True)
    assert all(abs(a[0] - b[0]) < 1e-3 for a, b in pairs)
    texts = writings("y" * 100, count=2, max_gen_toks=8)
    assert ours.generate_until(texts) == theirs.generate_until(texts, disable_tqdm=True)


def test_sampled_texts_depend_on_seed_and_item_alone():
    requests = writings(FEW_SHOT, do_sample=True, temperature=1.0, until=[])
    first = engine(seed=1).generate_until(requests)
    assert engine(seed=1, slots=2, pack_tokens=50).generate_until(requests[::-1])[::-1] == first
    assert engine(seed=2).generate_until(requests) != first


def test_a_batch_that_does_not_fit_is_halved_and_scored(monkeypatch):
    lm = engine()
    expected = engine().loglikelihood(choices())
    real = lm._read_tree

    def small_machine(tree, *rest, **options):
        if len(tree.tokens) > 60:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return real(tree, *rest, **options)

    monkeypatch.setattr(lm, "_read_tree", small_machine)
    obtained = lm.loglikelihood(choices())
    assert [g for _, g in obtained] == [g for _, g in expected]
    assert [v for v, _ in obtained] == pytest.approx([v for v, _ in expected], abs=1e-3)


def test_a_single_request_that_does_not_fit_is_an_error_and_no_score(monkeypatch):
    lm = engine()
    monkeypatch.setattr(
        lm, "_read_tree", lambda *a, **k: (_ for _ in ()).throw(torch.OutOfMemoryError("out of memory"))
    )
    with pytest.raises(torch.OutOfMemoryError):
        lm.loglikelihood(choices()[:1])


def test_a_model_whose_attention_takes_no_tree_falls_back_to_lm_eval():
    model = tiny_model()
    assert not isinstance(open_lm(model, tiny_tokenizer(), seed=0), Engine)
    requests = choices(questions=2)
    assert len(dict(stream(open_lm(model, tiny_tokenizer(), seed=0), requests))) == len(requests)


def test_a_model_with_our_attention_gets_the_engine():
    model = tiny_model()
    model.set_attn_implementation(SHARED_PREFIX)
    assert isinstance(open_lm(model, tiny_tokenizer(), seed=0), Engine)


def test_continuations_that_share_a_long_start_are_scored_whole():
    """Choices may differ in their last words only; what they share is longer than what is worth keeping apart."""
    start = " it is " + "very " * 40
    made = [Instance("loglikelihood", {}, ("Q?\nA:", start + end), n) for n, end in enumerate(("good", "bad", "so"))]
    found = engine(pack_tokens=64).loglikelihood(made, disable_tqdm=True)
    expected = hugging_face().loglikelihood(made, disable_tqdm=True)
    for (ours, greedy), (theirs, best) in zip(found, expected, strict=True):
        assert ours == pytest.approx(theirs, abs=1e-3)
        assert greedy == best
