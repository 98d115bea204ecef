"""Texts in slots: shared blocks read once, slots filled, and what is no answer is an error."""

from __future__ import annotations

import weakref

import pytest
import torch
from lm_eval.api.instance import Instance
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast, RepetitionPenaltyLogitsProcessor

from harness import generation
from harness.backends import stream
from harness.engine import Engine
from harness.memory import out_of_memory
from harness.slots import Row
from harness.specs import Unusable
from harness.text_end import Settings
from tests.conftest import tiny_tokenizer
from tests.operations import operations
from tests.test_engine import engine, hugging_face, writings

BLOCKS = ["".join(f"Q: {how} {n} + {n}?\nA: it is {2 * n}\n\n" for n in range(12)) for how in ("say", "give me", "so")]


def behind_blocks(count: int, **settings) -> list[Instance]:
    """Writings of which each third stands behind another few-shot block."""
    made = [writings(block, count, max_gen_toks=4, until=[], **settings) for block in BLOCKS]
    return [made[n % 3][n] for n in range(count)]


def test_each_of_several_blocks_is_read_once_and_given_back_before_the_next(monkeypatch):
    requests, lm = behind_blocks(30), engine(pack_tokens=400, slots=8)
    read, kept = lm.read_prefix, []

    def read_prefix(tokens):
        assert all(earlier() is None for earlier in kept)
        prefix = read(tokens)
        kept.append(weakref.ref(prefix))
        return prefix

    monkeypatch.setattr(lm, "read_prefix", read_prefix)
    assert lm.generate_until(requests) == hugging_face().generate_until(requests, disable_tqdm=True)
    assert len(kept) == 3
    shared = [len(lm.tok_encode(block)) for block in BLOCKS]
    tails = sum(len(lm.tok_encode(r.args[0])) for r in requests) - 10 * sum(shared)
    assert lm.tokens_computed <= sum(shared) + tails + 3 * 30
    lm.loglikelihood([Instance("loglikelihood", {}, (r.args[0], " so"), n) for n, r in enumerate(requests)])
    assert len(kept) == 6


def test_blocks_that_differ_from_seed_to_seed_are_each_read_once():
    """As sampled exemplars do: the seeds of a benchmark are written together."""
    sampled = {"do_sample": True, "temperature": 1.0, "max_gen_toks": 4, "until": []}
    by_seed = [writings(block, 12, **sampled) for block in BLOCKS]
    seeds = [seed for seed in range(3) for _ in range(12)]
    lm = engine(pack_tokens=400, slots=8)
    found = dict(lm.stream([request for made in by_seed for request in made], seeds))
    apart = [text for seed, made in enumerate(by_seed) for text in engine(seed=seed).generate_until(made)]
    assert [found[n] for n in range(36)] == apart
    prompts = sum(len(lm.tok_encode(request.args[0])) for made in by_seed for request in made)
    assert lm.tokens_computed < prompts - 11 * sum(len(lm.tok_encode(block)) for block in BLOCKS) + 3 * 36 + 1


def test_prompts_are_read_as_soon_as_one_slot_is_free_and_on_cuda_once_several_are(monkeypatch):
    requests = writings(count=30, until=["e", "a", "o"], max_gen_toks=40)
    texts, reads = {}, {}
    for share in (generation.FREE["cpu"], generation.FREE["cuda"], 0.5, 1.0):
        lm = engine(slots=16)
        read, batches = lm.read_tree, []
        monkeypatch.setattr(lm, "read_tree", lambda *a, b=batches, r=read, **k: (b.append(1), r(*a, **k))[1])
        monkeypatch.setitem(generation.FREE, "cpu", share)
        texts[share] = lm.generate_until(requests)
        reads[share] = len(batches)
    assert len({tuple(found) for found in texts.values()}) == 1
    assert list(reads) == [0, 0.125, 0.5, 1]
    assert reads[0] > reads[0.125] > reads[0.5] >= reads[1.0]


def test_draws_that_do_not_fit_together_are_made_in_smaller_batches(monkeypatch):
    requests = writings(do_sample=True, temperature=1.0)
    expected, draw = engine().generate_until(requests), generation.coupled_choice

    def scarce(scaled, where):
        if len(where) > 3 and max(position for _, position in where) > 4:  # once the rows have their slots
            raise torch.OutOfMemoryError("CUDA out of memory")
        return draw(scaled, where)

    monkeypatch.setattr(generation, "coupled_choice", scarce)
    assert engine().generate_until(requests) == expected


@pytest.mark.parametrize("settings", [{}, {"do_sample": True, "temperature": 0.7}], ids=["greedy", "sampled"])
def test_a_model_that_computes_no_numbers_writes_no_answer(settings):
    lm = engine()
    with torch.no_grad():
        lm.model.model.layers[0].mlp.down_proj.weight[0, 0] = float("nan")
    with pytest.raises(RuntimeError, match="the model's logits are not finite"):
        lm.generate_until(writings(count=2, **settings))


@pytest.mark.parametrize("setting", [{"repetition_penalty": 1.5}, {"num_beams": 3}, {"no_repeat_ngram_size": 2}])
def test_a_setting_that_the_engine_does_not_apply_is_refused_by_it_too(setting):
    with pytest.raises(Unusable, match=f"asks for {next(iter(setting))} = "):
        engine().generate_until(writings(count=1, **setting))


def test_a_penalty_takes_no_more_operations_for_many_rows_than_for_few():
    lm = engine()
    lm.model.generation_config.repetition_penalty = 1.3
    settings = Settings.of({"until": []}, lm)
    rows = [Row(n, 9, [n, n + 1, n] + [7] * n) for n in range(64)]
    few, many = torch.randn(2, 258), torch.randn(64, 258)
    expected = RepetitionPenaltyLogitsProcessor(1.3)
    for row, found, plain in zip(rows, settings.adjusted(many, rows), many, strict=True):
        assert torch.equal(found, expected(torch.tensor([row.prompt]), plain[None])[0])
    assert operations(lambda: settings.adjusted(many, rows)) == operations(lambda: settings.adjusted(few, rows[:2]))


def merging_tokenizer() -> PreTrainedTokenizerFast:
    """Bytes but for "12", which is one token, and no BOS before a text."""
    vocabulary = tiny_tokenizer().get_vocab()
    vocabulary["12"] = vocabulary.pop(max(vocabulary))
    tokenizer = Tokenizer(models.BPE(vocab=vocabulary, merges=[("1", "2")]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, bos_token="<s>", eos_token="</s>", pad_token="</s>")


def test_an_answer_that_has_no_token_of_its_own_is_an_error_and_no_certainty():
    lm = Engine(engine().model, merging_tokenizer())
    made = [Instance("loglikelihood", {}, ("x=1", text), n, metadata=("sums", "0", 1)) for n, text in enumerate("342")]
    assert len(lm.loglikelihood(made[:2])) == 2
    sentence = (
        r"task sums: this tokenizer leaves no token of its own to the answer '2' behind a prompt that ends in 'x=1'"
    )
    for ask in (lm.loglikelihood, lambda requests: dict(stream(lm, requests))):
        with pytest.raises(Unusable, match=sentence):
            ask(made)
    with pytest.raises(ValueError, match="no tokens has no likelihood"):
        list(lm.score([([5], [])]))


def test_an_empty_prompt_is_begun_as_lm_eval_begins_an_empty_context():
    lm = Engine(engine().model, merging_tokenizer())
    empty, opened = (
        [Instance("generate_until", {}, (text, {"until": [], "max_gen_toks": 9}), 0)] for text in ("", "<s>")
    )
    assert lm.generate_until(empty) == lm.generate_until(opened)
    scored = [Instance("loglikelihood", {}, pair, 0) for pair in ((" ", "so"), ("", " so"), ("<s>", " so"))]
    assert len(set(lm.loglikelihood(scored))) == 1


@pytest.mark.parametrize(
    "error",
    [
        "CUDA error: out of memory",
        "HIP error: out of memory",
        "cuDNN error: CUDNN_STATUS_ALLOC_FAILED",
        "CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`",
        "[enforce fail at alloc_cpu.cpp:114] DefaultCPUAllocator: can't allocate memory",
    ],
)
def test_every_allocator_s_words_are_known(error):
    assert out_of_memory(RuntimeError(error))
    assert not out_of_memory(ValueError(error))
    assert not out_of_memory(RuntimeError("CUDA error: an illegal memory access was encountered"))
