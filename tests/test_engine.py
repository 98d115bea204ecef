"""The engine against the plain model: same numbers whatever shares a prefix, a batch or a slot."""

from __future__ import annotations

import random

import pytest
import torch
from lm_eval.api.instance import Instance
from lm_eval.models.huggingface import HFLM

from harness.attention import LETHE
from harness.backends import open_lm, stream
from harness.engine import Engine
from harness.slots import Slots
from harness.specs import Unusable
from tests.conftest import tiny_model, tiny_tokenizer

FEW_SHOT = "".join(f"Q: what is {n} + {n}?\nA: it is {2 * n}\n\n" for n in range(12))


def engine(**options) -> Engine:
    model = tiny_model()
    model.set_attn_implementation(LETHE)
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
    model.set_attn_implementation(LETHE)
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


def test_a_prompt_that_is_continued_and_scored_is_read_once():
    """As the gold solution of a question that the model also answers."""
    texts = writings(FEW_SHOT)
    golds = [Instance("loglikelihood", {}, (r.args[0], " it is so and so"), 1, metadata=r.metadata) for r in texts]
    together, apart = engine(), engine()
    found = dict(stream(together, [*texts, *golds]))
    assert [found[n] for n in range(len(texts))] == apart.generate_until(texts)
    for n, (value, greedy) in enumerate(apart.loglikelihood(golds), len(texts)):
        assert found[n] == (pytest.approx(value, abs=1e-3), greedy)
    prompts = sum(len(together.tok_encode(r.args[0])) for r in texts)
    assert together.tokens_computed < apart.tokens_computed - prompts / 10


def small_machine(lm, monkeypatch, tokens: int, rows: int) -> None:
    """Lets an engine run out of memory above so many tokens of one pass or rows of one step."""
    read, step = lm.read_tree, Slots.forward

    def read_tree(tree, *rest, **options):
        if len(tree.tokens) > tokens:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return read(tree, *rest, **options)

    def forward(slots):
        if len(slots.rows) > rows:
            raise RuntimeError("DefaultCPUAllocator: can't allocate memory")
        return step(slots)

    monkeypatch.setattr(lm, "read_tree", read_tree)
    monkeypatch.setattr(Slots, "forward", forward)


@pytest.mark.parametrize("temperature", [0.0, 1.0])
@pytest.mark.parametrize(("tokens", "rows"), [(60, 100), (1000, 3), (60, 1)])
def test_texts_that_do_not_fit_together_are_written_in_smaller_batches(monkeypatch, tokens, rows, temperature):
    sampled = {"do_sample": True, "temperature": temperature} if temperature else {}
    requests = writings(**sampled)
    expected = engine(seed=3).generate_until(requests)
    lm = engine(seed=3)
    small_machine(lm, monkeypatch, tokens, rows)
    assert lm.generate_until(requests) == expected


@pytest.mark.parametrize("positions", [500, 1000])
def test_rows_whose_slots_do_not_fit_are_written_in_fewer_slots(monkeypatch, positions):
    requests = writings(count=8)
    expected = engine().generate_until(requests)
    reserve = Slots._reserve

    def scarce(slots, rows, length, *layers):
        if max([rows, *(len(store) for store in slots._keys)]) * length > positions:
            raise torch.OutOfMemoryError("CUDA out of memory")
        reserve(slots, rows, length, *layers)

    monkeypatch.setattr(Slots, "_reserve", scarce)
    assert max(len(tiny_tokenizer().encode(r.args[0])) for r in requests) * 8 + 8 > 200
    assert engine(slots=64).generate_until(requests) == expected


def test_a_text_that_does_not_fit_alone_is_an_error_and_no_answer(monkeypatch):
    lm = engine()
    small_machine(lm, monkeypatch, tokens=5, rows=9)
    with pytest.raises(torch.OutOfMemoryError):
        lm.generate_until(writings())


def test_a_text_ends_at_every_token_that_the_model_names_as_its_end():
    requests = writings(until=[], max_gen_toks=20)
    free = engine().generate_until(requests)
    letter = next(c for c in free[0] if c.isascii())
    ends = [1, tiny_tokenizer().encode(letter)[-1]]
    lm, theirs = engine(), hugging_face()
    lm.model.generation_config.eos_token_id = theirs.model.generation_config.eos_token_id = ends
    found = lm.generate_until(requests)
    assert found == theirs.generate_until(requests, disable_tqdm=True)
    assert found[0] == free[0][: free[0].index(letter) + 1]


def test_the_models_own_repetition_penalty_acts_as_in_lm_eval():
    requests = writings(until=[], max_gen_toks=20)
    lm, theirs = engine(), hugging_face()
    lm.model.generation_config.repetition_penalty = theirs.model.generation_config.repetition_penalty = 1.3
    found = lm.generate_until(requests)
    assert found == theirs.generate_until(requests, disable_tqdm=True)
    assert found != engine().generate_until(requests)


def test_a_batch_that_does_not_fit_is_halved_and_scored(monkeypatch):
    lm = engine()
    expected = engine().loglikelihood(choices())
    small_machine(lm, monkeypatch, tokens=60, rows=9)
    obtained = lm.loglikelihood(choices())
    assert [g for _, g in obtained] == [g for _, g in expected]
    assert [v for v, _ in obtained] == pytest.approx([v for v, _ in expected], abs=1e-3)


def test_a_single_request_that_does_not_fit_is_an_error_and_no_score(monkeypatch):
    lm = engine()
    monkeypatch.setattr(lm, "read_tree", lambda *a, **k: (_ for _ in ()).throw(torch.OutOfMemoryError("out of memory")))
    with pytest.raises(torch.OutOfMemoryError):
        lm.loglikelihood(choices()[:1])


def test_a_model_whose_attention_takes_no_tree_falls_back_to_lm_eval():
    model = tiny_model()
    assert not isinstance(open_lm(model, tiny_tokenizer(), seed=0), Engine)
    requests = choices(questions=2)
    assert len(dict(stream(open_lm(model, tiny_tokenizer(), seed=0), requests))) == len(requests)


def test_a_model_whose_own_settings_change_greedy_decoding_takes_lm_evals_backend():
    model = tiny_model()
    model.set_attn_implementation(LETHE)
    model.generation_config.no_repeat_ngram_size = 3
    assert not isinstance(open_lm(model, tiny_tokenizer(), seed=0), Engine)


def test_lm_evals_backend_never_samples_without_the_common_noise():
    lm = open_lm(tiny_model(), tiny_tokenizer(), seed=0)
    with pytest.raises(Unusable, match="set temperature = 0"):
        dict(stream(lm, writings(do_sample=True, temperature=0.7)))


def test_lm_evals_backend_halves_what_does_not_fit(monkeypatch):
    expected = dict(stream(open_lm(tiny_model(), tiny_tokenizer(), seed=0), writings()))
    lm = open_lm(tiny_model(), tiny_tokenizer(), seed=0)
    real = lm.generate_until

    def generate_until(requests, **options):
        if len(requests) > 2:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return real(requests, **options)

    monkeypatch.setattr(lm, "generate_until", generate_until)
    assert dict(stream(lm, writings())) == expected


def test_a_model_with_our_attention_gets_the_engine():
    model = tiny_model()
    model.set_attn_implementation(LETHE)
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


def test_what_several_seeds_ask_alike_is_read_once_and_sampled_with_the_noise_of_each():
    one = writings(count=4, do_sample=True, temperature=1.5)
    apart = [text for seed in (0, 1) for text in engine(seed=seed).generate_until(one)]
    together, alone = engine(), engine()
    found = dict(together.stream([*one, *one], [0] * 4 + [1] * 4))
    assert [found[n] for n in range(8)] == apart
    assert apart[:4] != apart[4:]
    alone.generate_until(one)
    prompts = sum(len(alone.tok_encode(request.args[0])) for request in one)
    steps = sum(len(together.tok_encode(text)) for text in apart)
    assert together.tokens_computed < 2 * prompts + steps


@pytest.mark.parametrize(
    "error", [torch.OutOfMemoryError("out"), RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED")]
)
def test_shots_that_cannot_be_kept_are_read_with_each_question(monkeypatch, error):
    requests = choices(FEW_SHOT) + writings(FEW_SHOT)
    expected, lm = dict(stream(engine(), requests)), engine(pack_tokens=400)

    def fails(tokens):
        raise error

    monkeypatch.setattr(lm, "read_prefix", fails)
    for n, answer in stream(lm, requests):
        if isinstance(answer, str):
            assert answer == expected[n]
        else:
            assert answer[0] == pytest.approx(expected[n][0], abs=1e-3)
