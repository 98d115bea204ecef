"""The recipe: repeatable, trains the answer and its end, and leaves a note of what it was made from."""

from __future__ import annotations

import json
import re
from dataclasses import replace

import pytest
import torch
from peft import PeftModel
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM, AutoTokenizer

from harness.checkpoints import check, weights_digest
from harness.fingerprint import file_digest
from harness.specs import Unusable, parse_model
from recipes.sft import Settings, _trainer, main, read_pairs, train
from tests.conftest import save_tiny

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


def test_chosen_layers_alone_are_trained(base, data, tmp_path):
    names = weights(train(base, data, tmp_path / "a", replace(QUICK, targets="q_proj, layers.1.mlp.up_proj")))
    layers = {name.removeprefix("base_model.model.model.layers.").partition(".lora_")[0] for name in names}
    assert layers == {"0.self_attn.q_proj", "1.self_attn.q_proj", "1.mlp.up_proj"}


def test_an_adapter_is_not_overwritten(base, data, tmp_path):
    adapter = train(base, data, tmp_path / "a", QUICK)
    held = {path.name: path.read_bytes() for path in adapter.iterdir()}
    with pytest.raises(Unusable, match="already holds files; name another --out, or remove it"):
        train(base, data, adapter, QUICK)
    assert {path.name: path.read_bytes() for path in adapter.iterdir()} == held


def test_an_empty_directory_is_filled(base, data, tmp_path):
    (tmp_path / "deep" / "a").mkdir(parents=True)
    adapter = train(base, data, tmp_path / "deep" / "a", QUICK)
    names = sorted(path.name for path in adapter.iterdir())
    assert names == ["adapter_config.json", "adapter_model.safetensors", "lethe.json"]


@pytest.mark.parametrize("at", ["trl.SFTTrainer.train", "peft.PeftModel.save_pretrained", "recipes.sft._finish"])
@pytest.mark.parametrize("error", [KeyboardInterrupt, OSError])
def test_a_training_that_breaks_leaves_nothing(base, data, tmp_path, monkeypatch, at, error):
    def stop(*_, **__):
        raise error

    (tmp_path / "out").mkdir()
    with monkeypatch.context() as broken:
        broken.setattr(at, stop)
        with pytest.raises(error):
            train(base, data, tmp_path / "out" / "a", QUICK)
    assert not list((tmp_path / "out").iterdir())
    assert train(base, data, tmp_path / "out" / "a", QUICK).is_dir()


def test_a_training_that_diverges_is_said_and_leaves_nothing(base, data, tmp_path):
    (tmp_path / "out").mkdir()
    with pytest.raises(Unusable, match=r"the training diverged to NaN or Inf at --lr 1e\+30; write a smaller one\."):
        train(base, data, tmp_path / "out" / "a", replace(QUICK, lr=1e30))
    assert not list((tmp_path / "out").iterdir())


def test_rows_that_are_cut_are_counted(base, tmp_path, capsys):
    rows = [*ROWS, {"prompt": "Count.", "response": "1 2 3 " * 20}, {"prompt": "Why? " * 20, "response": "So."}]
    (tmp_path / "data.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    train(base, tmp_path / "data.jsonl", tmp_path / "a", replace(QUICK, max_length=60))
    assert (
        "2 of 14 rows are longer than --max-length 60 and lose their end; 1 of them are left out, as nothing of their"
        " answer remains."
    ) in capsys.readouterr().err
    train(base, tmp_path / "data.jsonl", tmp_path / "b", QUICK)
    assert "--max-length" not in capsys.readouterr().err


def test_rows_without_a_chat_template_are_counted_too(data, tmp_path, capsys):
    plain = check(parse_model(str(save_tiny(tmp_path / "plain", template=None))))
    train(plain, data, tmp_path / "a", replace(QUICK, max_length=21))
    assert "2 of 12 rows are longer than --max-length 21 and lose their end; 0 of them" in capsys.readouterr().err


WRONG = {
    "--rank 0": "--rank 0 is out of range; write a whole number from 1 to 4294967295.",
    "--alpha 0": "--alpha 0 is out of range",
    "--steps 0": "--steps 0 is out of range",
    "--steps -3": "--steps -3 is out of range",
    "--batch 0": "--batch 0 is out of range",
    "--max-length 0": "--max-length 0 is out of range",
    "--seed -1": "--seed -1 is out of range; write a whole number from 0 to",
    "--seed 4294967296": "--seed 4294967296 is out of range",
    "--lr 0": "--lr 0.0 is no learning rate; write a number above 0, as in --lr 1e-3.",
    "--lr -0.5": "--lr -0.5 is no learning rate",
    "--lr nan": "--lr nan is no learning rate",
    "--lr inf": "--lr inf is no learning rate",
    "--targets q_proj,wide_proj": (
        "--targets q_proj,wide_proj: the model has no linear layer named 'wide_proj'; write all-linear, or some of"
        " down_proj,gate_proj,k_proj,lm_head,o_proj,q_proj,up_proj,v_proj."
    ),
    "--targets self_attn": "the model has no linear layer named 'self_attn'",
    "--targets q_proj,": "the model has no linear layer named ''",
    "--max-length 9": "--max-length 9 leaves nothing of any answer to be trained; write a larger one.",
}


@pytest.mark.parametrize(("options", "sentence"), WRONG.items(), ids=WRONG)
def test_settings_that_cannot_be_used_are_one_sentence(tiny_base, data, tmp_path, monkeypatch, options, sentence):
    monkeypatch.setattr("trl.SFTTrainer.train", lambda _: pytest.fail("it was trained"))
    with pytest.raises(SystemExit) as caught:
        main(["--base", str(tiny_base), "--data", str(data), "--out", str(tmp_path / "a"), *options.split(" ", 1)])
    assert sentence in str(caught.value)
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "a").exists()


@pytest.mark.parametrize(
    ("out", "sentence"), [("data.jsonl", "is a file"), ("data.jsonl/a", "cannot be written (File exists)")]
)
def test_a_place_that_cannot_be_written_is_said(base, data, tmp_path, out, sentence):
    with pytest.raises(Unusable, match=re.escape(sentence)):
        train(base, data, tmp_path / out, QUICK)


def test_separators_of_lines_in_a_text_separate_no_rows(tmp_path):
    rows = [{"prompt": "a\u2028b\x85", "response": "c\x0cd"}]
    (tmp_path / "data.jsonl").write_text(f"\ufeff{json.dumps(rows[0], ensure_ascii=False)}\r\n", encoding="utf-8")
    assert read_pairs(tmp_path / "data.jsonl") == rows


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("", "holds no row"),
        ('{"prompt": "a", "response": "b"}\n{"prompt": "a"}\n', "line 2 is no"),
        ('{"prompt": "a", "response": " "}\n', "line 1 is no"),
        ("not json\n", "line 1 is no"),
        ('{"prompt": 3, "response": "b"}\n', "line 1 is no"),
        ('{"prompt": "\\ud83d", "response": "b"}\n', "line 1 is no"),
        ("\udcff\udcfe", "cannot be read .*; save it as UTF-8 text."),
    ],
)
def test_data_that_cannot_be_used_is_one_sentence(tiny_base, tmp_path, text, sentence):
    path = tmp_path / "bad.jsonl"
    path.write_text(text, errors="surrogateescape")
    with pytest.raises(SystemExit, match=sentence):
        main(["--base", str(tiny_base), "--data", str(path), "--out", str(tmp_path / "a")])
