"""Answers are scored as a plain forward pass scores them, gradients too, for less."""

from __future__ import annotations

import pytest
import torch
from peft import LoraConfig, get_peft_model

from recipes.answer_loss import answers, next_token
from tests.conftest import tiny_model

START = [5, 9, 2, 7, 7, 3]  # what a template puts before each row


def batch(rows: list[tuple[list[int], list[int]]]) -> dict[str, torch.Tensor]:
    """(prompt, answer) pairs, padded on the right."""
    longest = max(len(prompt) + len(answer) for prompt, answer in rows)
    ids, mask, labels = torch.ones(3, len(rows), longest, dtype=torch.long)
    labels.fill_(-100)
    for n, (prompt, answer) in enumerate(rows):
        size = len(prompt) + len(answer)
        ids[n, :size] = torch.tensor(prompt + answer)
        mask[n, size:] = 0
        labels[n, len(prompt) : size] = torch.tensor(answer)
    return {"input_ids": ids, "attention_mask": mask, "labels": labels}


ROWS = [([*START, 20, 21, 22], [30, 31]), ([*START, 23], [32, 33, 34, 1]), ([*START, 20, 25], [35])]
BATCHES = {
    "a shared start": ROWS,
    "no shared start": [([n, *prompt], answer) for n, (prompt, answer) in enumerate(ROWS, 40)],
    "one row": ROWS[:1],
    "the same prompt": [(START, [30, 31]), (START, [30, 32]), (START, [33])],
    "a prompt of one token": [([7], [8, 9]), ([7], [8])],
    "equal rows": ROWS[:1] * 3,
}


@pytest.fixture
def model():
    """A tiny model with an adapter that acts."""
    torch.manual_seed(0)
    made = get_peft_model(tiny_model(), LoraConfig(r=2, target_modules="all-linear", task_type="CAUSAL_LM"))
    for name, weight in made.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(weight, std=0.3)
    return made.train()


def plain(model, part):
    """The same of a whole forward pass."""
    labels = part["labels"][:, 1:]
    logits = model(input_ids=part["input_ids"], attention_mask=part["attention_mask"]).logits[:, :-1]
    return logits[labels != -100].log_softmax(dim=-1)


def gradients(model, logprobs, part):
    model.zero_grad()
    torch.nn.functional.nll_loss(logprobs, answers(part)).backward()
    return {name: weight.grad.clone() for name, weight in model.named_parameters() if weight.grad is not None}


@pytest.mark.parametrize("rows", BATCHES.values(), ids=BATCHES)
def test_losses_and_gradients_are_those_of_a_plain_forward_pass(model, rows):
    part = batch(rows)
    assert answers(part).tolist() == [token for _, answer in rows for token in answer]
    ours, theirs = next_token(model, part), plain(model, part)
    torch.testing.assert_close(ours, theirs, atol=1e-5, rtol=1e-4)
    found, expected = gradients(model, ours, part), gradients(model, theirs, part)
    assert found.keys() == expected.keys()
    for name, gradient in expected.items():
        torch.testing.assert_close(found[name], gradient, atol=1e-5, rtol=1e-3)


def seen(model, part) -> tuple[list[tuple[int, ...]], int]:
    """(shapes of what goes through the layers, the places that the head is asked at last)."""
    base = model.get_base_model()
    shapes, asked = [], []
    hooks = [
        base.model.embed_tokens.register_forward_pre_hook(lambda _, given: shapes.append(tuple(given[0].shape))),
        base.lm_head.register_forward_hook(lambda _, given, out: asked.append(out.shape[:-1].numel())),
    ]
    next_token(model, part)
    for hook in hooks:
        hook.remove()
    return shapes, asked[-1]


def test_a_shared_start_is_computed_once_and_the_head_asked_for_answers_alone(model):
    shapes, asked = seen(model, batch(ROWS))
    assert shapes == [(1, len(START)), (3, 5)]
    assert asked == sum(len(answer) for _, answer in ROWS)


@pytest.mark.parametrize("changes", [{"attention_dropout": 0.1}, {"sliding_window": 64, "use_sliding_window": True}])
def test_what_would_not_come_out_the_same_is_computed_as_ever(model, changes):
    for name, value in changes.items():
        setattr(model.config, name, value)
    if "sliding_window" in changes:
        model.config.layer_types = ["sliding_attention"] * model.config.num_hidden_layers
    assert seen(model, batch(ROWS))[0] == [(3, 11)]


def test_the_head_is_left_as_it_was(model):
    next_token(model, batch(ROWS))
    assert model(input_ids=torch.tensor([START])).logits.shape[:2] == (1, len(START))
