"""Rehearsal: the base's own answers, without the faulty ones, made once."""

from __future__ import annotations

import json
import re

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from harness.checkpoints import check
from harness.models import LoadedModels
from harness.specs import Unusable, parse_model
from mitigations import rehearsal
from mitigations.rehearsal import rehearse
from tests.conftest import save_adapter, save_tiny

SAID = {
    "Good?": "It is good.",
    "Empty?": " .\n",
    "Looping?": "Start. " + "and again " * 12,
    "Endless?": "abcdefgh " * 25,
    "Same?": "It is good. ",
    "Fine?": "That is fine.",
}


ANSWERS = {"Why?": "Because it is so.", "Who are you?": "A model.", "Count.": "One, two,\nthree."}


@pytest.fixture(autouse=True)
def _cache(tmp_path, monkeypatch):
    monkeypatch.setenv("LETHE_CACHE", str(tmp_path / "cache"))


@pytest.fixture
def base(tiny_base):
    return check(parse_model(str(tiny_base)))


@pytest.fixture
def scripted(monkeypatch):
    """Lets the base answer as `SAID` has it; returns the requests that reached it, by prompt."""
    asked = {}

    def stream(_, requests):
        for n, request in reversed(list(enumerate(requests))):
            prompt = re.fullmatch(r"<\|user\|>(.*)</s><\|assistant\|>", request.args[0])[1]
            asked[prompt] = request
            yield n, SAID[prompt]

    monkeypatch.setattr(rehearsal, "stream", stream)
    return asked


def rows_of(path):
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def test_faulty_answers_and_duplicates_are_dropped_and_counted(base, scripted, tmp_path):
    made = rehearse(base, [*SAID, "Good?"], tmp_path / "new" / "g.jsonl", LoadedModels(), max_tokens=160)
    assert rows_of(made.path) == [{"prompt": prompt, "response": SAID[prompt]} for prompt in ("Good?", "Fine?")]
    assert made.kept == 2
    assert made.dropped == {"duplicate": 2, "empty": 1, "looping": 1, "truncated": 1}
    assert [path.name for path in made.path.parent.iterdir()] == ["g.jsonl"]


def test_the_same_rehearsal_is_made_once(base, scripted, tmp_path):
    first = rehearse(base, list(SAID), tmp_path / "a.jsonl", LoadedModels())
    scripted.clear()
    again = rehearse(base, list(SAID), tmp_path / "b.jsonl", LoadedModels())
    assert not scripted
    assert again.path.read_bytes() == first.path.read_bytes()
    assert (again.kept, again.dropped) == (first.kept, first.dropped)
    rehearse(base, list(SAID), tmp_path / "c.jsonl", LoadedModels(), max_tokens=99)
    assert len(scripted) == len(SAID)


@pytest.fixture(scope="module", params=[True, False], ids=["chat", "plain"])
def taught(request, tmp_path_factory):
    """A tiny model with or without a chat template that has learned to answer three questions and to stop."""
    path = save_tiny(tmp_path_factory.mktemp("taught"), **({} if request.param else {"template": None}))
    tokenizer, model = AutoTokenizer.from_pretrained(path), AutoModelForCausalLM.from_pretrained(path).train()
    texts = [
        f"<|user|>{asked}</s><|assistant|>{said}</s>" if request.param else f"{asked}\n{said}\n\nMore."
        for asked, said in ANSWERS.items()
    ]
    rows = tokenizer(texts, return_tensors="pt", padding=True, padding_side="right")
    optimizer = torch.optim.AdamW(model.parameters(), lr=6e-3)
    for _ in range(60):
        model(**rows, labels=rows.input_ids.masked_fill(rows.attention_mask == 0, -100)).loss.backward()
        optimizer.step()
        optimizer.zero_grad()
    model.save_pretrained(path)
    return check(parse_model(str(path)))


def test_the_base_is_asked_as_it_is_trained_and_its_answer_ends_where_it_ends_it(taught, tmp_path):
    rehearsed = rehearse(taught, list(ANSWERS), tmp_path / "g.jsonl", LoadedModels(), max_tokens=40)
    assert rows_of(rehearsed.path) == [{"prompt": asked, "response": said} for asked, said in ANSWERS.items()]
    assert rehearsed.dropped == {}


def test_an_adapter_that_is_loaded_does_not_answer_for_the_base(taught, tmp_path):
    adapter = check(parse_model(str(save_adapter(tmp_path / "spoiled", taught.path, scale=0.5))), taught)
    models = LoadedModels()
    with models.active(adapter):
        pass
    rehearsed = rehearse(taught, list(ANSWERS), tmp_path / "g.jsonl", models, max_tokens=40)
    assert [row["response"] for row in rows_of(rehearsed.path)] == list(ANSWERS.values())


def test_without_a_usable_answer_there_is_no_rehearsal(base, scripted, tmp_path):
    with pytest.raises(Unusable) as caught:
        rehearse(base, ["Empty?", "Looping?"], tmp_path / "g.jsonl", LoadedModels())
    assert str(caught.value) == (
        f"no answer of '{base.spec.text}' to the 2 prompts can be rehearsed (1 empty, 1 looping); replay general rows"
        ' of your own, a JSONL file of {"prompt", "response"}.'
    )
    assert not list(tmp_path.glob("*.jsonl"))


@pytest.mark.parametrize(
    ("prompts", "max_tokens", "sentence"),
    [
        ([], 9, "there is no prompt to rehearse; give at least one."),
        (["Why?", " "], 9, "prompt 2 of 2 to rehearse is empty; write one, or remove it."),
        (["Why?"], 0, "max_tokens = 0 is no length of an answer; write a number from 1 up to below the 2048 positions"),
        (["Why?"], 2048, "max_tokens = 2048 is no length of an answer"),
    ],
)
def test_what_cannot_be_rehearsed_is_one_sentence(base, tmp_path, prompts, max_tokens, sentence):
    with pytest.raises(Unusable, match=re.escape(sentence)):
        rehearse(base, prompts, tmp_path / "g.jsonl", LoadedModels(), max_tokens)
