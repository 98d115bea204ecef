"""The recipe: repeatable, trains the answer and its end, and leaves a note of what it was made from.

And with general rows mixed in: as many domain rows as without, the loss of the whole batch, held to the base.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from dataclasses import asdict, replace
from pathlib import Path

import pytest
import torch
from peft import PeftModel
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM, AutoTokenizer
from trl import SFTTrainer

from harness.checkpoints import check, weights_digest
from harness.fingerprint import file_digest
from harness.specs import Unusable, parse_model
from recipes.mixing import Mix, draw, rows_seen
from recipes.sft import Settings, _arguments, _trainer, main, read_pairs, train
from tests.conftest import save_tiny
from tests.spoiling import refused

ROWS = [{"prompt": f"What is {n}?", "response": f"It is {n}."} for n in range(12)]
GENERAL = [{"prompt": f"Tell me of {n}.", "response": "It is a long story. " * (1 + n % 5)} for n in range(20)]
QUICK = Settings(steps=3, batch=4, lr=1e-2, rank=2, alpha=4)


@pytest.fixture
def data(tmp_path):
    path = tmp_path / "data.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in ROWS))
    return path


@pytest.fixture
def general(tmp_path):
    path = tmp_path / "general.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in GENERAL))
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


def test_on_a_machine_of_several_gpus_the_recipe_is_the_same(tmp_path, monkeypatch):
    """transformers would put `batch` rows on each of them."""
    monkeypatch.setattr("transformers.TrainingArguments.n_gpu", property(lambda self: 4))
    made = _arguments(tmp_path, QUICK, None, cuda=False)
    assert (made._n_gpu, made.per_device_train_batch_size) == (1, QUICK.batch)


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


@pytest.mark.parametrize("share", [0.01, 0.05, 0.1, 0.25, 0.5, 0.9])
@pytest.mark.parametrize(("steps", "batch"), [(80, 16), (3, 4), (1, 1)])
def test_a_mix_sees_the_recipes_domain_rows_and_its_share_of_general_ones(share, steps, batch):
    general = [False] * 30 + [True] * 40
    batches = draw(general, [5] * 70, steps, batch, share, seed=0)
    kinds = Counter(general[row] for drawn in batches for row in drawn)
    assert kinds[False] == steps * batch
    assert kinds[True] == max(1, round(steps * batch * share / (1 - share)))
    assert len(batches) == rows_seen(steps, batch, share)[2]
    assert 1 <= min(map(len, batches)) <= max(map(len, batches)) <= batch
    times = Counter(row for drawn in batches for row in drawn)
    for rows in (range(30), range(30, 70)):  # none comes again before all have come
        assert max(times[row] for row in rows) - min(times[row] for row in rows) <= 1


def test_steps_grow_by_the_share():
    assert [rows_seen(80, 16, share)[2] for share in (0.01, 0.05, 0.1, 0.25, 0.5, 0.9)] == [81, 85, 89, 107, 160, 800]


def test_each_batch_mixes_both_kinds_and_general_rows_of_like_length():
    general, lengths = [False] * 30 + [True] * 64, [5] * 30 + [(37 * n) % 64 for n in range(64)]
    batches = draw(general, lengths, 48, 16, 0.25, seed=0)
    assert len(batches) == 64
    assert all(sum(general[row] for row in drawn) == 4 for drawn in batches)
    spread = [max(own) - min(own) for drawn in batches if (own := [lengths[row] for row in drawn if general[row]])]
    assert sum(spread) / len(spread) < 16  # of 64; four rows at random: 38


def test_a_seed_draws_other_rows_in_another_order():
    given = [False] * 30 + [True] * 40, list(range(70)), 6, 8, 0.25
    assert draw(*given, seed=1) == draw(*given, seed=1) != draw(*given, seed=2)


def mixed(base, tmp_path, kl=0.0, **changes):
    """A trainer of a mix, whose adapter was moved away from the base, and its first batch."""
    mix = Mix(Path("general.jsonl"), GENERAL, 0.5, kl)
    trainer = _trainer(base, ROWS, tmp_path / "a", replace(QUICK, batch=6, **changes), mix)
    torch.manual_seed(0)
    for name, weight in trainer.model.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(weight, std=0.3)
    return trainer, next(iter(trainer.get_train_dataloader()))


def test_the_loss_of_a_mixed_batch_is_that_of_the_whole(base, tmp_path):
    trainer, batch = mixed(base, tmp_path)
    whole = {name: tensor for name, tensor in batch.items() if name != "general"}
    assert batch["general"].tolist().count(True) == 3
    expected = SFTTrainer.compute_loss(trainer, trainer.model, dict(whole))
    assert trainer.compute_loss(trainer.model, dict(batch)).item() == pytest.approx(expected.item(), rel=1e-5)


def test_short_rows_are_not_padded_to_the_long_ones(base, tmp_path):
    """What all rows of a kind begin with goes through the model once, the rest of each row as long as its kind's."""
    trainer, batch = mixed(base, tmp_path)
    shapes = []
    trainer.model.register_forward_pre_hook(
        lambda _, args, kwargs: shapes.append(kwargs["input_ids"].shape), with_kwargs=True
    )
    trainer.compute_loss(trainer.model, dict(batch))
    lengths, general = batch["attention_mask"].sum(dim=1), batch["general"]
    starts, rests = shapes[::2], shapes[1::2]
    assert [rows for rows, _ in shapes] == [1, 3, 1, 3]
    longest = [lengths[~general].max(), lengths[general].max()]
    assert [start[1] + rest[1] for start, rest in zip(starts, rests, strict=True)] == longest
    assert longest[0] < longest[1]


def log_probabilities(model, row):
    """Of each answer token's place [answer tokens, vocabulary], and the tokens, from one row alone."""
    tokens, labels = (row[name][row["attention_mask"] == 1] for name in ("input_ids", "labels"))
    places = [n for n in range(1, len(tokens)) if labels[n] != -100]
    logits = model(tokens[None]).logits[0]
    return torch.stack([logits[n - 1] - logits[n - 1].logsumexp(0) for n in places]), tokens[places]


def test_the_divergence_from_the_base_is_that_of_a_hand_computation(base, tmp_path):
    trainer, batch = mixed(base, tmp_path, kl=0.7)
    plain = AutoModelForCausalLM.from_pretrained(base.path)  # anew, so that nothing of the trainer decides it
    model = trainer.model.eval()
    entropies, divergences = [], []
    with torch.no_grad():
        for n, is_general in enumerate(batch["general"]):
            row = {name: tensor[n] for name, tensor in batch.items()}
            p, tokens = log_probabilities(model, row)
            entropies += [-p[k, token].item() for k, token in enumerate(tokens)]
            if is_general:
                q, _ = log_probabilities(plain, row)
                divergences += [sum(p[k].exp() * (p[k] - q[k])).item() for k in range(len(tokens))]
    expected = sum(entropies) / len(entropies) + 0.7 * sum(divergences) / len(divergences)
    assert sum(divergences) > 1
    assert trainer.compute_loss(model.train(), dict(batch)).item() == pytest.approx(expected, rel=1e-4)
    assert model.training


def test_the_base_has_no_dropout_when_the_adapter_is_held_to_it(tmp_path):
    path = save_tiny(tmp_path / "base")
    config = json.loads((path / "config.json").read_text())
    (path / "config.json").write_text(json.dumps(config | {"attention_dropout": 0.5}))
    trainer, batch = mixed(check(parse_model(str(path))), tmp_path, kl=1.0)
    bases = []
    forward = trainer.model.forward

    def spy(*args, **kwargs):
        found = forward(*args, **kwargs)
        bases.extend([] if torch.is_grad_enabled() else [found.logits])
        return found

    trainer.model.forward = spy
    for _ in range(2):
        trainer.compute_loss(trainer.model.train(), dict(batch))
    first, second = bases[: len(bases) // 2], bases[len(bases) // 2 :]
    assert first
    assert all(map(torch.equal, first, second))


def test_the_divergence_holds_the_adapter_to_the_base(base, data, general, tmp_path):
    tokenizer, moved = AutoTokenizer.from_pretrained(base.path), {}
    for kl in (0.0, 5.0):
        settings = replace(QUICK, steps=12)
        adapter = train(base, data, tmp_path / str(kl), settings, general=general, share=0.25, kl=kl)
        model = PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(base.path), adapter)
        ids = tokenizer(GENERAL[0]["response"], return_tensors="pt").input_ids
        with torch.no_grad():
            ours = model(ids).logits.log_softmax(-1)
            with model.disable_adapter():
                bases = model(ids).logits.log_softmax(-1)
        moved[kl] = (ours.exp() * (ours - bases)).sum(-1).mean().item()
    assert moved[5.0] < moved[0.0] / 2


def test_a_mixed_training_is_repeatable_and_noted(base, data, general, tmp_path):
    one, two = (train(base, data, tmp_path / n / "a", QUICK, general=general, share=0.25) for n in ("1", "2"))
    assert all(torch.equal(tensor, weights(two)[name]) for name, tensor in weights(one).items())
    note = json.loads((one / "lethe.json").read_text())
    assert note == json.loads((two / "lethe.json").read_text())
    assert (note["general"], note["share"], note["kl"]) == (file_digest(general), 0.25, 0.0)
    assert note["command"].endswith(" --general general.jsonl --share 0.25")
    assert note["settings"] == asdict(QUICK)


def test_without_general_rows_the_recipe_is_trls_own(base, data, tmp_path):
    assert type(_trainer(base, ROWS, tmp_path / "a", QUICK)) is SFTTrainer
    note = json.loads((train(base, data, tmp_path / "b", QUICK) / "lethe.json").read_text())
    assert sorted(note) == ["base_weights", "command", "data", "settings", "threads"]


def test_a_mix_is_trained_from_the_command_line(tiny_base, data, general, tmp_path, capsys):
    given = ["--base", tiny_base, "--data", data, "--out", tmp_path / "a", "--steps", 2, "--batch", 4]
    main([str(word) for word in [*given, "--general", general, "--share", 0.25, "--kl", 0.5]])
    note = json.loads((tmp_path / "a" / "lethe.json").read_text())
    assert (note["share"], note["kl"]) == (0.25, 0.5)
    assert capsys.readouterr().out.endswith(f"{tmp_path / 'a'}\n")


def test_general_rows_that_are_cut_are_counted_apart(base, data, general, tmp_path, capsys):
    train(base, data, tmp_path / "a", replace(QUICK, max_length=80), general=general, share=0.25)
    said = capsys.readouterr().err
    assert "12 of 20 general rows are longer than --max-length 80 and lose their end; 0 of them are left out" in said
    assert "of 12 rows" not in said


def test_a_length_that_leaves_no_general_answer_is_said(base, data, tmp_path):
    path = tmp_path / "general.jsonl"
    path.write_text(json.dumps({"prompt": "Why? " * 20, "response": "So."}) + "\n")
    with pytest.raises(Unusable, match="--max-length 60 leaves nothing of any general answer to be trained; write a"):
        train(base, data, tmp_path / "a", replace(QUICK, max_length=60), general=path, share=0.25)
    assert not (tmp_path / "a").exists()


WRONG_MIXES = {
    "--share 1 --general FILE": "--share 1.0 is no share of the rows; write a number from 0 to below 1, as in 0.25.",
    "--share -0.1 --general FILE": "--share -0.1 is no share of the rows",
    "--share nan --general FILE": "--share nan is no share of the rows",
    "--share 0.25 --kl -1 --general FILE": "--kl -1.0 is no weight; write 0 or a number above it, as in 0.1.",
    "--share 0.25 --kl inf --general FILE": "--kl inf is no weight",
    "--share 0.25 --kl nan --general FILE": "--kl nan is no weight",
    "--share 0.25": "--share 0.25 has no general rows to take; name them with --general FILE.",
    "--general FILE": "at --share 0 is not used; write a share above 0, as in --share 0.25.",
    "--kl 0.5": "--kl 0.5 acts on general rows and there are none; add --general FILE --share 0.25.",
}


@pytest.mark.parametrize(("options", "sentence"), WRONG_MIXES.items(), ids=WRONG_MIXES)
def test_mixes_that_cannot_be_used_are_one_sentence(tiny_base, data, general, tmp_path, capsys, options, sentence):
    given = ["--base", str(tiny_base), "--data", str(data), "--out", str(tmp_path / "a")]
    assert sentence in refused(capsys, main, [*given, *options.replace("FILE", str(general)).split(" ")])
    assert not (tmp_path / "a").exists()


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
def test_settings_that_cannot_be_used_are_one_sentence(
    tiny_base, data, tmp_path, monkeypatch, capsys, options, sentence
):
    monkeypatch.setattr("trl.SFTTrainer.train", lambda _: pytest.fail("it was trained"))
    given = ["--base", str(tiny_base), "--data", str(data), "--out", str(tmp_path / "a"), *options.split(" ", 1)]
    assert sentence in refused(capsys, main, given)
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
def test_data_that_cannot_be_used_is_one_sentence(tiny_base, tmp_path, capsys, text, sentence):
    path = tmp_path / "bad.jsonl"
    path.write_text(text, errors="surrogateescape")
    given = ["--base", str(tiny_base), "--data", str(path), "--out", str(tmp_path / "a")]
    assert re.search(sentence, refused(capsys, main, given))
