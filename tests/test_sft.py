"""The recipe: repeatable, trains the answer and its end, and leaves a note of what it was made from."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
import torch
from peft import PeftModel
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM, AutoTokenizer

from harness.fingerprint import file_digest
from harness.models import check, weights_digest
from harness.specs import Unusable, parse_model
from recipes.sft import Settings, _trainer, main, train

ROWS = [{"prompt": f"What is {n}?", "response": f"It is {n}."} for n in range(12)]
QUICK = Settings(steps=3, batch=4, lr=1e-2, rank=2, alpha=4)


@pytest.fixture
def data(tmp_path):
    path = tmp_path / "data.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in ROWS))
    return path


@pytest.fixture
def base(tiny_base):
    return check(parse_model(str(tiny_base)))


def weights(path):
    return load_file(path / "adapter_model.safetensors")


def test_the_same_seed_gives_the_same_adapter(base, data, tmp_path):
    one, two = (weights(train(base, data, tmp_path / name, QUICK)) for name in ("one", "two"))
    assert one.keys() == two.keys()
    assert all(torch.equal(one[name], two[name]) for name in one)
    other = weights(train(base, data, tmp_path / "other", replace(QUICK, seed=1)))
    assert any(not torch.equal(one[name], other[name]) for name in one)


def test_training_raises_the_probability_of_the_answers(base, data, tmp_path):
    adapter = train(base, data, tmp_path / "a", replace(QUICK, steps=30))
    tokenizer = AutoTokenizer.from_pretrained(base.path)
    model = PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(base.path), adapter)
    turns = [{"role": "user", "content": "What is 3?"}, {"role": "assistant", "content": "It is 3."}]
    ids = torch.tensor([tokenizer.apply_chat_template(turns, return_dict=False)])
    after = model(ids, labels=ids).loss
    with model.disable_adapter():
        before = model(ids, labels=ids).loss
    assert after < before - 0.3


def test_the_answer_and_its_end_are_trained_and_the_question_is_not(base, data, tmp_path):
    trainer = _trainer(base, ROWS, tmp_path / "a", QUICK)
    tokenizer = trainer.processing_class
    batch = next(iter(trainer.get_train_dataloader()))
    for tokens, labels in zip(batch["input_ids"], batch["labels"], strict=True):
        trained = tokenizer.decode(tokens[labels != -100])
        assert trained.startswith("It is ")
        assert trained.endswith(".</s>")
        assert "What" not in trained


def test_the_adapter_says_what_it_was_made_from(base, data, tmp_path):
    adapter = train(base, data, tmp_path / "a", QUICK)
    note = json.loads((adapter / "lethe.json").read_text())
    assert note["data"] == file_digest(data)
    assert note["base_weights"] == weights_digest(base)
    assert note["settings"]["lr"] == 1e-2
    assert "--lr 0.01" in note["command"]
    assert "--max-length" not in note["command"]
    assert all(tensor.dtype == torch.float16 for tensor in weights(adapter).values())
    assert str(tmp_path) not in (adapter / "adapter_config.json").read_text() + json.dumps(note).replace(
        str(base.spec.text), ""
    )


def test_an_adapter_is_not_overwritten(base, data, tmp_path):
    train(base, data, tmp_path / "a", QUICK)
    with pytest.raises(Unusable, match="already holds an adapter"):
        train(base, data, tmp_path / "a", QUICK)


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("", "holds no row"),
        ('{"prompt": "a", "response": "b"}\n{"prompt": "a"}\n', "line 2 is no"),
        ('{"prompt": "a", "response": " "}\n', "line 1 is no"),
        ("not json\n", "line 1 is no"),
        ('{"prompt": 3, "response": "b"}\n', "line 1 is no"),
    ],
)
def test_data_that_cannot_be_used_is_one_sentence(tiny_base, tmp_path, text, sentence):
    path = tmp_path / "bad.jsonl"
    path.write_text(text)
    with pytest.raises(SystemExit, match=sentence):
        main(["--base", str(tiny_base), "--data", str(path), "--out", str(tmp_path / "a")])
