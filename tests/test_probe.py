"""Which models the engine may read, and that those that it may not have their own attention back."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch
from lm_eval.models.huggingface import HFLM
from transformers import AutoConfig, AutoModelForCausalLM

from harness import attention
from harness.attention import LETHE
from harness.backends import open_lm, reader, stream
from harness.engine import Engine
from harness.models import LoadedModels
from tests.conftest import tiny_model, tiny_tokenizer
from tests.spoiling import checked
from tests.test_engine import FEW_SHOT, choices, writings

SMALL = {
    "vocab_size": 258, "hidden_size": 48, "intermediate_size": 96, "num_hidden_layers": 2, "num_attention_heads": 6,
    "num_key_value_heads": 2, "head_dim": 8, "max_position_embeddings": 2048, "initializer_range": 0.3,
    "bos_token_id": 0, "eos_token_id": 1, "pad_token_id": 1,
}  # fmt: skip
OLD = {"vocab_size": 258, "initializer_range": 0.3, "bos_token_id": 0, "eos_token_id": 1}
EXPERTS = {"num_local_experts": 4, "num_experts_per_tok": 1, "interleave_moe_layer_step": 1, "no_rope_layers": [1, 1]}
LONGROPE = {
    "rope_type": "longrope", "rope_theta": 10000.0, "short_factor": [1.0] * 4, "long_factor": [1, 4, 8, 16],
    "original_max_position_embeddings": 128, "factor": 16.0,
}  # fmt: skip

UNLIKE = {  # models whose attention, cache or positions are not plain, or cannot be chosen
    "bloom": ("bloom", {**OLD, "hidden_size": 48, "n_layer": 2, "n_head": 6}),
    "codegen": ("codegen", {**OLD, "n_embd": 48, "n_layer": 2, "n_head": 4, "rotary_dim": 4, "n_positions": 2048}),
    "falcon": ("falcon", {**OLD, "hidden_size": 48, "num_hidden_layers": 2, "num_attention_heads": 6}),
    "gemma2": ("gemma2", {**SMALL, "sliding_window": 4096, "attn_logit_softcapping": 2.0}),
    "gpt_neo": (
        "gpt_neo",
        {**OLD, "hidden_size": 48, "num_layers": 2, "num_heads": 6, "attention_types": [[["global", "local"], 1]]},
    ),
    "mamba": ("mamba", {"vocab_size": 258, "hidden_size": 48, "num_hidden_layers": 2}),
    "chunks": ("llama4_text", {**SMALL, **EXPERTS, "intermediate_size_mlp": 96, "attention_chunk_size": 64}),
    "longrope": ("llama", {**SMALL, "rope_parameters": LONGROPE}),
    "window": ("mistral", {**SMALL, "sliding_window": 32}),
}


def built(kind: str, settings: dict, path):
    """A seeded model of any family, saved and checked."""
    torch.manual_seed(0)
    AutoModelForCausalLM.from_config(AutoConfig.for_model(kind, **settings)).save_pretrained(path)
    tiny_tokenizer().save_pretrained(path)
    return checked(path)


def answers(lm, requests) -> list:
    found = dict(stream(lm, requests))
    return [found[n] for n in range(len(requests))]


def check_equal_to_lm_eval(lm, model) -> None:
    """Short and long prompts together, scored and continued, against lm-eval's backend with the model as it loads."""
    theirs = HFLM(pretrained=AutoModelForCausalLM.from_pretrained(model.path), tokenizer=tiny_tokenizer(), batch_size=1)
    scored = [*choices(questions=2), *choices(FEW_SHOT, questions=2)]
    written = [*writings(count=2, max_gen_toks=8), *writings(FEW_SHOT, count=2, max_gen_toks=8)]
    pairs = zip(answers(lm, scored), theirs.loglikelihood(scored, disable_tqdm=True), strict=True)
    assert all(a == pytest.approx(b, abs=1e-3) and greedy == best for (a, greedy), (b, best) in pairs)
    assert answers(lm, written) == theirs.generate_until(written, disable_tqdm=True)


@pytest.mark.parametrize(("kind", "settings"), UNLIKE.values(), ids=UNLIKE)
def test_a_model_that_the_engine_cannot_read_scores_as_in_lm_eval(tmp_path, kind, settings):
    model = built(kind, settings, tmp_path / kind)
    with reader(LoadedModels(), model, 0) as lm:
        assert not isinstance(lm, Engine)
        check_equal_to_lm_eval(lm, model)


LONG = len(tiny_tokenizer().encode(FEW_SHOT)) + 80  # tokens: no row of these tests is longer
WINDOWS = {
    "mistral": ("mistral", {**SMALL, "sliding_window": LONG + 1}),
    "gemma3": ("gemma3_text", {**SMALL, "sliding_window": LONG + 1}),
    "longrope": ("llama", {**SMALL, "rope_parameters": {**LONGROPE, "original_max_position_embeddings": LONG + 1}}),
}


@pytest.mark.parametrize(("kind", "settings"), WINDOWS.values(), ids=WINDOWS)
@pytest.mark.parametrize("longest", [LONG, LONG + 1, None])
def test_a_window_that_no_row_fills_is_none(tmp_path, kind, settings, longest):
    model = built(kind, settings, tmp_path / kind)
    asked = SimpleNamespace(longest=lambda tokenizer: longest, refuse_sampling=lambda reader: None) if longest else None
    with reader(LoadedModels(asked=asked), model, 0) as lm:
        assert isinstance(lm, Engine) == (longest == LONG)
        check_equal_to_lm_eval(lm, model)


@pytest.mark.parametrize(
    ("kind", "settings"),
    [
        ("gemma2", {"sliding_window": 4096, "attn_logit_softcapping": 5e4}),
        ("llama4_text", {**EXPERTS, "intermediate_size_mlp": 96, "attention_chunk_size": 4096}),
    ],
    ids=["capped scores", "chunks"],
)
def test_what_short_rows_cannot_show_the_configuration_does(tmp_path, kind, settings):
    model = built(kind, {**SMALL, **settings}, tmp_path / kind)
    with LoadedModels().active(model) as loaded:
        assert not isinstance(open_lm(loaded, tiny_tokenizer(), 0, longest=lambda: 64), Engine)


def with_ours(dtype: torch.dtype, sharper: float = 1.0):
    """A tiny model with our attention; sharper: what its logits are multiplied with."""
    model = tiny_model().to(dtype)
    model.lm_head.weight.data *= sharper
    model.set_attn_implementation(LETHE)
    return model


HALF = [torch.bfloat16, torch.float16]


@pytest.mark.parametrize("sharper", [1.0, 4.0])
@pytest.mark.parametrize("dtype", HALF, ids=str)
def test_a_model_in_half_precision_gets_the_engine(dtype, sharper):
    """As large a logit as real models give, of which one step of bfloat16 is an eighth."""
    assert isinstance(open_lm(with_ours(dtype, sharper), tiny_tokenizer(), 0), Engine)


def forgets_prefix(name: str, monkeypatch) -> None:
    real = getattr(attention, name)
    place = {"_attend_tree": 5, "_attend_step": 6}[name]
    monkeypatch.setattr(
        attention, name, lambda *given: real(*(None if n == place else part for n, part in enumerate(given)))
    )


def sees_siblings(monkeypatch) -> None:
    """Every token of a segment attends to all of it, other branches too."""
    real = attention._softmax_attention

    def attend(query, key, value, mask, *more):
        return real(query, key, value, None if mask is None else torch.zeros_like(mask), *more)

    monkeypatch.setattr(attention, "_softmax_attention", attend)


WRONG = {
    "trees with masks that hide nothing": sees_siblings,
    "trees without their prefix": lambda patch: forgets_prefix("_attend_tree", patch),
    "steps without their prefix": lambda patch: forgets_prefix("_attend_step", patch),
}


@pytest.mark.parametrize("dtype", [torch.float32, *HALF], ids=str)
@pytest.mark.parametrize("spoil", WRONG.values(), ids=WRONG)
def test_attention_that_misses_something_is_noticed_in_every_precision(monkeypatch, dtype, spoil):
    model = with_ours(dtype)
    spoil(monkeypatch)
    assert not isinstance(open_lm(model, tiny_tokenizer(), 0), Engine)


@pytest.mark.parametrize("window", [24, 28])
@pytest.mark.parametrize("dtype", [torch.float32, *HALF], ids=str)
def test_attention_that_is_shorter_than_ours_is_noticed_whatever_the_configuration_says(monkeypatch, dtype, window):
    """The model's own attention sees so many tokens, ours all."""
    from transformers.integrations.sdpa_attention import sdpa_attention_forward
    from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

    def narrow(module, query, key, value, mask, *more, **options):
        at = torch.arange(key.shape[2])
        seen = (at[:, None] >= at) & (at[:, None] - at < window)
        return sdpa_attention_forward(module, query, key, value, seen[None, None], *more, **options)

    model = with_ours(dtype)
    monkeypatch.setitem(ALL_ATTENTION_FUNCTIONS, "sdpa", narrow)
    assert not isinstance(open_lm(model, tiny_tokenizer(), 0), Engine)
