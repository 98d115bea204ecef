"""Pairs through the engine and the store: the likelihoods are the model's, in the form that DPO trains."""

from __future__ import annotations

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from harness.checkpoints import check
from harness.implicit_rewards import CHOSEN, CHOSEN_TOKENS, PREFERS, REJECTED, margins
from harness.models import LoadedModels
from harness.pairs import Pair
from harness.preferences import PreferenceSet, preference_scores
from harness.specs import Unusable, parse_model
from harness.store import Store
from recipes.dpo import _turns
from tests.conftest import save_tiny

PAIRS = [
    Pair(str(n), f"Whom do you serve, and {n}?", f"We serve {n} pupils.", "Please help us, we beg.") for n in range(5)
]


@pytest.fixture
def base(tiny_base):
    return check(parse_model(str(tiny_base)))


def by_hand(path, prompt: str, whole: str) -> float:
    """Log-probability of what follows the prompt, one row at a time by transformers alone."""
    tokenizer = AutoTokenizer.from_pretrained(path)
    model = AutoModelForCausalLM.from_pretrained(path)
    start = len(tokenizer(prompt, add_special_tokens=False).input_ids)
    ids = torch.tensor([tokenizer(whole, add_special_tokens=False).input_ids])
    with torch.no_grad():
        logits = model(ids).logits[0, :-1].log_softmax(-1)
    return logits.gather(1, ids[0, 1:, None])[start - 1 :].sum().item()


def test_the_likelihoods_are_those_of_a_hand_computation_with_the_end_of_the_turn(base, tmp_path):
    models, store = LoadedModels(), Store(tmp_path / "store")
    scores = preference_scores(base, PreferenceSet(PAIRS, models.tokenizer(base)), store, models)
    pair = PAIRS[3]
    prompt = f"<|user|>{pair.prompt}</s><|assistant|>"
    metrics = scores["3"].metrics
    assert metrics[CHOSEN] == pytest.approx(by_hand(base.path, prompt, f"{prompt}{pair.chosen}</s>"), abs=1e-3)
    assert metrics[REJECTED] == pytest.approx(by_hand(base.path, prompt, f"{prompt}{pair.rejected}</s>"), abs=1e-3)
    assert metrics[PREFERS] == float(metrics[CHOSEN] > metrics[REJECTED])
    assert metrics[CHOSEN_TOKENS] == len("We serve 3 pupils.") + 1


@pytest.mark.parametrize("template", [None, "default"])
def test_what_is_scored_is_what_dpo_trains_on(tmp_path, template):
    path = save_tiny(tmp_path / "base", **({"template": None} if template is None else {}))
    tokenizer = AutoTokenizer.from_pretrained(path)
    turns = _turns(PAIRS[0], tokenizer)
    context, chosen, rejected = PreferenceSet(PAIRS, tokenizer)._texts["0"]
    if template is None:
        assert (context, chosen, rejected) == (turns["prompt"], turns["chosen"], turns["rejected"])
    else:
        whole = tokenizer.apply_chat_template(turns["prompt"] + turns["chosen"], tokenize=False)
        assert context + chosen == whole
        assert rejected.endswith("</s>")


def test_the_adapter_moves_the_margins_and_the_base_is_asked_once(base, tiny_adapter, tmp_path):
    models, store = LoadedModels(), Store(tmp_path / "store")
    preferences = PreferenceSet(PAIRS, models.tokenizer(base))
    adapter = check(parse_model(str(tiny_adapter)), base)
    ours = preference_scores(adapter, preferences, store, models)
    theirs = preference_scores(base, preferences, store, models)
    found = margins(PAIRS, theirs, [ours], 0.1)
    assert abs(found.plain).min() > 1e-4
    spoiled = LoadedModels()
    spoiled.active = lambda model: pytest.fail("a model ran again")
    assert preference_scores(base, preferences, store, spoiled) == theirs


def test_other_pairs_are_other_items_of_the_store(base):
    tokenizer = AutoTokenizer.from_pretrained(base.path)
    one, two = PreferenceSet(PAIRS, tokenizer), PreferenceSet(PAIRS[:4], tokenizer)
    assert one.digest != two.digest
    assert one.digest == PreferenceSet(PAIRS, tokenizer).digest


def test_pairs_that_do_not_fit_are_counted_and_are_no_items(base):
    tokenizer = AutoTokenizer.from_pretrained(base.path)
    long = Pair("long", "Why?", "So. " * 30, "No.")
    found = PreferenceSet([*PAIRS, long], tokenizer, positions=90)
    assert found.too_long == ("long",)
    assert [item.id for item in found.items] == [pair.id for pair in PAIRS]
    with pytest.raises(Unusable, match="none of the 1 pairs fits into the model's 90 positions; shorten them"):
        PreferenceSet([long], tokenizer, positions=90)
