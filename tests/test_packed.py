"""Texts that are read behind one copy of what they begin with get the states that they have alone."""

from __future__ import annotations

import pytest
import torch
from transformers import (
    GPT2Config,
    GPT2Model,
    GPTNeoConfig,
    GPTNeoModel,
    LlamaConfig,
    LlamaForCausalLM,
    LlamaModel,
    MambaConfig,
    MambaModel,
    MistralConfig,
    MistralModel,
)

from harness.packed import length, longest_packed, pack, shared
from recipes.shared_prompts import share_prompts

SIZES = {"vocab_size": 50, "hidden_size": 32, "num_hidden_layers": 2}
HEADS = SIZES | {"num_attention_heads": 4, "num_key_value_heads": 2, "intermediate_size": 48}
GROUPS = [
    [[1, 2, 3, 4, 5], [1, 2, 3, 9, 8, 7, 6]],
    [[5, 5], [5, 5, 5]],  # one begins with all of the other
    [[7, 8, 9]],
    [[1], [2, 3]],  # nothing alike
    [[4, 4, 6], [4, 4, 7], [4, 4, 8, 9]],
]


def alone(model, text):
    return model(input_ids=torch.tensor([text]), use_cache=False).last_hidden_state[0]


@pytest.mark.parametrize("attention", ["sdpa", "eager"])
def test_packed_texts_have_the_states_that_they_have_alone(attention):
    torch.manual_seed(0)
    model = LlamaModel._from_config(LlamaConfig(**HEADS), attn_implementation=attention).eval()
    rows = pack(GROUPS)
    with torch.no_grad():
        states = model(**rows.asked).last_hidden_state
        each = [alone(model, text) for group in GROUPS for text in group]
    assert not torch.isnan(states).any()
    assert torch.allclose(states[rows.row, rows.end], torch.stack([own[-1] for own in each]), atol=1e-5)
    for row, where, own in zip(rows.row, rows.where, each, strict=True):
        assert torch.allclose(states[row, where[: len(own)]], own, atol=1e-5)


def test_gradients_are_those_of_texts_read_alone():
    torch.manual_seed(0)
    model = LlamaModel(LlamaConfig(**HEADS))
    rows = pack(GROUPS[:2])
    model(**rows.asked).last_hidden_state[rows.row, rows.end].sin().sum().backward()
    weight = model.layers[0].self_attn.q_proj.weight
    packed, weight.grad = weight.grad, None
    sum(alone(model, text)[-1].sin().sum() for group in GROUPS[:2] for text in group).backward()
    assert torch.allclose(packed, weight.grad, atol=1e-5)


def test_a_model_that_shares_prompts_gives_trls_batches_the_states_and_loss_that_it_gave_before():
    torch.manual_seed(0)
    model = LlamaForCausalLM(LlamaConfig(**HEADS)).eval()
    texts = [group[side] for side in (0, 1) for group in GROUPS[:2]]  # the chosen answers, then the others
    width = max(map(len, texts)) + 3  # as a collator may pad
    batch = {
        "input_ids": torch.tensor([text + [0] * (width - len(text)) for text in texts]),
        "attention_mask": torch.tensor([[1] * len(text) + [0] * (width - len(text)) for text in texts]),
    }
    labels = batch["input_ids"].masked_fill(batch["attention_mask"] == 0, -100)
    real = batch["attention_mask"].bool()
    with torch.no_grad():
        before = model(**batch, labels=labels, use_cache=False)
        share_prompts(model)
        after = model(**batch, labels=labels, use_cache=False)
    assert after.logits.shape == before.logits.shape
    assert torch.allclose(after.logits[real], before.logits[real], atol=1e-5)
    assert torch.allclose(after.loss, before.loss, atol=1e-6)


def pair_batch(pairs) -> dict[str, torch.Tensor]:
    """As trl's collator makes it: the chosen answers' texts, then the others', padded."""
    texts = [pair[side] for side in (0, 1) for pair in pairs]
    width = max(map(len, texts))
    return {
        "input_ids": torch.tensor([text + [0] * (width - len(text)) for text in texts]),
        "attention_mask": torch.tensor([[1] * len(text) + [0] * (width - len(text)) for text in texts]),
    }


def trained_above(below: int):
    """A model whose last block is trained, and how often its first block has run."""
    torch.manual_seed(0)
    model = LlamaForCausalLM(LlamaConfig(**HEADS)).eval()
    model.requires_grad_(False)
    model.model.layers[1].requires_grad_(True)
    share_prompts(model, below)
    ran = []
    model.model.layers[0].register_forward_hook(lambda *_: ran.append(1))
    return model, ran


def test_blocks_that_no_step_changes_run_once_a_pair_and_states_and_gradients_are_the_same():
    found, runs = {}, {}
    for below in (0, 1):
        model, ran = trained_above(below)
        steps = [[GROUPS[0], GROUPS[1]], [GROUPS[1], GROUPS[3]], [GROUPS[0], GROUPS[3]], [GROUPS[3], GROUPS[1]]]
        states = [model(**pair_batch(pairs), use_cache=False).logits for pairs in steps]
        sum(each.sin().mean() for each in states).backward()
        found[below] = [*states, model.model.layers[1].self_attn.q_proj.weight.grad]
        runs[below] = len(ran)
    assert runs == {0: 4, 1: 3}  # four batches, and three pairs
    for before, after in zip(found[0], found[1], strict=True):
        assert torch.allclose(after, before, atol=1e-5)


def test_kept_states_do_not_depend_on_the_batch_that_a_pair_is_first_seen_in():
    found = []
    for first in ([GROUPS[1], GROUPS[0]], [GROUPS[0]]):
        model, ran = trained_above(1)
        model(**pair_batch(first), use_cache=False)
        found.append(model(**pair_batch([GROUPS[0]]), use_cache=False).logits)
        assert len(ran) == len(first)  # the second time from what was kept
    assert torch.equal(*found)


def test_states_are_kept_while_there_is_room(monkeypatch):
    monkeypatch.setattr("harness.blocks.LARGEST", 4 * 32 * length(GROUPS[0]))
    model, ran = trained_above(1)
    for pair in (GROUPS[0], GROUPS[1], GROUPS[0], GROUPS[1]):
        model(**pair_batch([pair]), use_cache=False)
    assert len(ran) == 3  # the second pair is computed each time


@pytest.mark.parametrize("given", [{"attention_dropout": 0.5}, {"attention_dropout": 0.0}])
def test_dropout_is_drawn_anew_each_time(given):
    torch.manual_seed(0)
    model = LlamaForCausalLM(LlamaConfig(**HEADS, **given)).eval()
    share_prompts(model, 1)
    ran = []
    model.model.layers[0].register_forward_hook(lambda *_: ran.append(1))
    model.train()
    one, other = (model(**pair_batch([GROUPS[0]]), use_cache=False).logits for _ in range(2))
    assert torch.equal(one, other) == (len(ran) == 1) == (not given["attention_dropout"])


def test_a_row_holds_the_common_beginning_once():
    assert [shared(group) for group in GROUPS] == [3, 1, 0, 0, 2]
    assert [length(group) for group in GROUPS] == [9, 4, 3, 3, 6]
    assert pack(GROUPS).real.sum(dim=1).tolist() == [9, 4, 3, 3, 6]


def test_only_models_that_read_packed_texts_alike_are_given_them():
    torch.manual_seed(0)
    assert longest_packed(LlamaModel(LlamaConfig(**HEADS)).eval()) == float("inf")
    assert longest_packed(GPT2Model(GPT2Config(vocab_size=50, n_embd=32, n_layer=2, n_head=4)).eval()) == float("inf")
    assert longest_packed(MistralModel(MistralConfig(**HEADS, sliding_window=20)).eval()) == 19
    assert longest_packed(MistralModel(MistralConfig(**HEADS, sliding_window=4)).eval()) == 0
    assert longest_packed(MambaModel(MambaConfig(**SIZES, state_size=4)).eval()) == 0
    neo = GPTNeoConfig(**SIZES, num_heads=4, attention_types=[[["global", "local"], 1]], window_size=64)
    assert longest_packed(GPTNeoModel(neo).eval()) == 0  # its windows are of rows, and longer than what is tried


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_packs_too_and_still_tells_a_model_that_is_not_alike(dtype):
    torch.manual_seed(0)
    assert longest_packed(LlamaModel(LlamaConfig(**HEADS)).to(dtype).eval()) == float("inf")
    short = MistralConfig(**HEADS, sliding_window=4)
    assert longest_packed(MistralModel(short).to(dtype).eval()) == 0


def test_texts_in_groups_of_one_are_read_as_any_batch():
    rows = pack([[text] for group in GROUPS for text in group])
    assert set(rows.asked) == {"input_ids", "attention_mask", "use_cache"}
    model = MambaModel(MambaConfig(**SIZES, state_size=4)).eval()
    with torch.no_grad():
        states = model(**rows.asked).last_hidden_state[rows.row, rows.end]
        each = torch.stack([alone(model, text)[-1] for group in GROUPS for text in group])
    assert torch.allclose(states, each, atol=1e-5)
