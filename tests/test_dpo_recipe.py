"""DPO on tiny models: the loss is the papers', the reference is the base, a killed run ends as one that was not killed.

And what is reported: pairs that are too long, chosen answers that become less likely, what the adapter was made from.
"""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
import torch
from peft import PeftModel
from safetensors.torch import load_file
from torch.nn.functional import logsigmoid
from transformers import AutoModelForCausalLM, MixtralConfig, MixtralForCausalLM, TrainerCallback

from harness.checkpoints import check, weights_digest
from harness.fingerprint import file_digest
from harness.implicit_rewards import CHOSEN, REJECTED, margins
from harness.models import LoadedModels
from harness.pairs import Pair, write_pairs
from harness.preferences import PreferenceSet, preference_scores
from harness.specs import Unusable, parse_model
from harness.store import Store
from recipes import dpo
from recipes.answers_only import answers_only
from recipes.chosen_watch import warning, watch
from recipes.dpo import Settings, _trainer, draw, main, train, trained
from tests.conftest import save_tiny, tiny_tokenizer
from tests.spoiling import refused

PAIRS = [Pair(str(n), f"Whom, {n}?", f"We serve {n} pupils.", f"We beg {n} times.") for n in range(12)]
QUICK = Settings(steps=3, batch=4, lr=1e-2, rank=2, alpha=4, layers=1)


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("LETHE_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def data(tmp_path):
    write_pairs(PAIRS, tmp_path / "pairs.jsonl")
    return tmp_path / "pairs.jsonl"


@pytest.fixture
def base(tiny_base):
    return check(parse_model(str(tiny_base)))


def weights(path):
    return load_file(path / "adapter_model.safetensors")


def equal(one, two) -> bool:
    a, b = weights(one), weights(two)
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


def moved(base, tmp_path, **changes):
    """A trainer whose adapter is away from the base, and a batch of it."""
    trainer, _ = _trainer(base, PAIRS, tmp_path / "work", replace(QUICK, **changes))
    torch.manual_seed(0)
    for name, weight in trainer.model.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(weight, std=0.3)
    return trainer, trainer._prepare_inputs(next(iter(trainer.get_train_dataloader())))


def logps(model, batch) -> torch.Tensor:
    """[rows, 2]: log-probability of each answer's tokens and their number, one row at a time."""
    found = []
    for ids, kept, answer in zip(batch["input_ids"], batch["attention_mask"], batch["completion_mask"], strict=True):
        ids, answer = ids[kept == 1], answer[kept == 1]
        rows = model(ids[None]).logits[0, :-1].log_softmax(-1).gather(1, ids[1:, None])[:, 0]
        found.append(torch.stack([rows[answer[1:] == 1].sum(), answer.sum().float()]))
    return torch.stack(found)


@pytest.mark.parametrize("loss", ["sigmoid", "sigmoid+sft", "ipo"])
def test_the_loss_is_that_of_the_papers(base, tmp_path, loss):
    trainer, batch = moved(base, tmp_path, loss=loss, beta=0.3, sft_weight=0.7)
    plain = AutoModelForCausalLM.from_pretrained(base.path)  # anew, so that nothing of the trainer decides it
    with torch.no_grad():
        (pc, nc), (pr, nr) = (part.unbind(1) for part in logps(trainer.model, batch).chunk(2))
        (bc, _), (br, _) = (part.unbind(1) for part in logps(plain, batch).chunk(2))
    expected = -logsigmoid(0.3 * ((pc - bc) - (pr - br))).mean()
    if loss == "sigmoid+sft":
        expected = expected - 0.7 * pc.sum() / nc.sum()
    if loss == "ipo":
        expected = (((pc - bc) / nc - (pr - br) / nr - 1 / (2 * 0.3)) ** 2).mean()
    assert abs((pc - bc) - (pr - br)).min() > 0.01
    assert trainer.compute_loss(trainer.model, batch).item() == pytest.approx(expected.item(), rel=1e-3)


def test_scoring_the_answers_alone_changes_neither_loss_nor_gradient(base, tmp_path):
    trainer, batch = moved(base, tmp_path)
    head, rows, found = trainer.model.get_output_embeddings().weight, [], []
    own = torch.mm

    def spy(a, b, **options):
        if b.shape[-1] == len(head):
            rows.append(len(a))
        return own(a, b, **options)

    for here in (False, True):
        trainer.model.zero_grad()
        torch.mm, rows[:] = spy, []
        try:
            if here:
                with answers_only():
                    loss = trainer.compute_loss(trainer.model, batch)
                    loss.backward()
            else:
                loss = trainer.compute_loss(trainer.model, batch)
                loss.backward()
        finally:
            torch.mm = own
        gradients = [p.grad.clone() for p in trainer.model.parameters() if p.grad is not None]
        found.append((loss.item(), gradients, max(rows)))
    (whole, whole_gradients, all_rows), (ours, our_gradients, answer_rows) = found
    assert ours == pytest.approx(whole, rel=1e-5)
    assert all(torch.allclose(a, b, rtol=1e-3, atol=1e-6) for a, b in zip(whole_gradients, our_gradients, strict=True))
    assert answer_rows == batch["completion_mask"].sum() < all_rows / 1.5


def test_a_mixture_of_experts_is_trained_too(data, tmp_path):
    """trl balances experts by the rows that it gave; packed rows are others."""
    sizes = {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 4}
    tiny_tokenizer().save_pretrained(tmp_path / "moe")
    config = MixtralConfig(**sizes, vocab_size=len(tiny_tokenizer()), num_key_value_heads=2, num_local_experts=2)
    MixtralForCausalLM(config).save_pretrained(tmp_path / "moe")
    moe = check(parse_model(str(tmp_path / "moe")))
    assert weights(train(moe, data, tmp_path / "out", replace(QUICK, layers=0)))


def test_the_reference_is_the_base_asked_once(base, data, tmp_path, monkeypatch):
    asked = []
    from trl import DPOTrainer

    own = DPOTrainer.compute_ref_log_probs
    monkeypatch.setattr(DPOTrainer, "compute_ref_log_probs", lambda *given: (asked.append(1), own(*given))[1])
    pairs = [replace(pair, prompt=pair.prompt + " And why?") for pair in PAIRS]  # trl remembers what it has asked
    trainer, _ = _trainer(base, pairs, tmp_path / "work", QUICK)
    models = LoadedModels()
    scores = preference_scores(base, PreferenceSet(pairs, models.tokenizer(base)), Store(tmp_path / "s"), models)
    by_prompt = {pair.prompt: scores[pair.id].metrics for pair in pairs}
    assert len(trainer.train_dataset) == 12
    for row in trainer.train_dataset:
        ours = by_prompt[row["prompt"][0]["content"]]
        assert row["ref_chosen_logps"] == pytest.approx(ours[CHOSEN], abs=1e-3)
        assert row["ref_rejected_logps"] == pytest.approx(ours[REJECTED], abs=1e-3)
    before = len(asked)
    trainer.train()
    assert len(asked) == before == 3


def test_the_same_seed_gives_the_same_adapter_and_another_seed_another(base, data, tmp_path):
    one, two = (train(base, data, tmp_path / name, QUICK) for name in ("one", "two"))
    assert equal(one, two)
    assert not equal(one, train(base, data, tmp_path / "other", replace(QUICK, seed=1)))


def test_training_teaches_the_pairs(base, data, tmp_path):
    adapter = train(base, data, tmp_path / "a", replace(QUICK, steps=30, layers=2))
    models, store = LoadedModels(), Store(tmp_path / "store")
    preferences = PreferenceSet(PAIRS, models.tokenizer(base))
    sides = [preference_scores(m, preferences, store, models) for m in (base, check(parse_model(str(adapter)), base))]
    found = margins(PAIRS, sides[0], [sides[1]], 0.1)
    assert found.right.mean() == 1.0
    assert found.plain.mean() > 0.1


@pytest.mark.parametrize("error", [KeyboardInterrupt, OSError])
def test_a_killed_training_goes_on_and_ends_as_one_that_was_not(base, data, tmp_path, monkeypatch, cache, error):
    settings = replace(QUICK, steps=8, batch=2)
    whole = train(base, data, tmp_path / "whole", settings)
    steps = []

    class Killer(TrainerCallback):
        def on_step_end(self, args, state, control, **kwargs):
            steps.append(state.global_step)
            if state.global_step == 7 and len(steps) == 7:
                raise error

    monkeypatch.setattr(dpo, "training_bar", Killer)
    with pytest.raises(error):
        train(base, data, tmp_path / "killed", settings)
    assert not (tmp_path / "killed").exists()
    (next((cache / "training").glob("dpo-*/")) / "checkpoint-6").mkdir()  # half written when it was killed
    resumed = train(base, data, tmp_path / "killed", settings)
    assert steps == [1, 2, 3, 4, 5, 6, 7, 6, 7, 8]  # from the checkpoint of step 5
    assert equal(whole, resumed)
    notes = [json.loads((path / "lethe.json").read_text()) for path in (whole, resumed)]
    assert notes[0]["training"] == notes[1]["training"]
    assert not list((cache / "training").glob("dpo-*/"))


def test_an_adapter_is_trained_once_for_the_same_inputs(base, data, monkeypatch):
    made = trained(base, data, QUICK)
    assert (made / "adapter_model.safetensors").is_file()
    other = replace(QUICK, beta=0.2)
    monkeypatch.setattr(dpo, "train", lambda *_: pytest.fail("trained again"))
    assert trained(base, data, QUICK) == made
    with pytest.raises(pytest.fail.Exception):
        trained(base, data, other)
    data.write_text(data.read_text() + data.read_text().splitlines()[0].replace('"id": "0"', '"id": "again"') + "\n")
    with pytest.raises(pytest.fail.Exception):
        trained(base, data, QUICK)


def test_the_last_layers_alone_are_trained(base, data, tmp_path):
    names = weights(train(base, data, tmp_path / "a", QUICK))
    assert {name.split(".layers.")[1].split(".")[0] for name in names} == {"1"}
    assert {name.split(".")[-3] for name in names} >= {"q_proj", "down_proj"}
    every = weights(train(base, data, tmp_path / "b", replace(QUICK, layers=0)))
    assert {name.split(".layers.")[1].split(".")[0] for name in every} == {"0", "1"}
    with pytest.raises(Unusable, match="--layers 8: the model has 2; write a number up to that, or 0 for all"):
        train(base, data, tmp_path / "c", replace(QUICK, layers=8))


def test_pairs_that_are_too_long_are_left_out_and_counted(base, tmp_path, capsys):
    write_pairs([*PAIRS, Pair("long", "Why?", "So. " * 40, "No.")], tmp_path / "pairs.jsonl")
    adapter = train(base, tmp_path / "pairs.jsonl", tmp_path / "a", replace(QUICK, max_length=80))
    assert "1 of 13 pairs are longer than --max-length 80 and are left out." in capsys.readouterr().err
    assert json.loads((adapter / "lethe.json").read_text())["training"]["too_long"] == 1
    with pytest.raises(Unusable, match="--max-length 9 leaves no pair to be trained on; write a larger one"):
        train(base, tmp_path / "pairs.jsonl", tmp_path / "b", replace(QUICK, max_length=9))


def test_only_the_pairs_that_are_seen_are_drawn_without_repeats():
    many = [replace(PAIRS[0], id=str(n)) for n in range(100)]
    drawn = draw(many, QUICK)
    assert len({pair.id for pair in drawn}) == 12
    assert drawn == draw(many, QUICK) != draw(many, replace(QUICK, seed=1))
    assert len(draw(PAIRS, replace(QUICK, steps=100))) == 12


def test_a_model_without_a_chat_template_is_trained_too(data, tmp_path):
    plain = check(parse_model(str(save_tiny(tmp_path / "plain", template=None))))
    adapter = train(plain, data, tmp_path / "a", QUICK)
    model = PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(plain.path), adapter)
    assert any(weight.abs().max() > 0 for name, weight in model.named_parameters() if "lora_B" in name)


def test_the_adapter_says_what_it_was_made_from(base, data, tmp_path):
    adapter = train(base, data, tmp_path / "a", QUICK)
    note = json.loads((adapter / "lethe.json").read_text())
    assert (note["data"], note["base_weights"]) == (file_digest(data), weights_digest(base))
    assert note["settings"]["loss"] == "sigmoid"
    assert "--layers 1" in note["command"]
    assert "--beta" not in note["command"]
    assert note["training"]["pairs"] == 12
    assert check(parse_model(str(adapter)), base).is_adapter
    assert str(tmp_path) not in (adapter / "adapter_config.json").read_text()
    assert sorted(path.name for path in adapter.iterdir()) == [
        "adapter_config.json", "adapter_model.safetensors", "lethe.json",
    ]  # fmt: skip


def log(*changes: float, beta: float = 0.1) -> list[dict[str, float]]:
    return [{"rewards/chosen": beta * change} for change in changes]


@pytest.mark.parametrize(
    ("changes", "falls"),
    [
        ((0.0, -0.5, -1.0, -1.5, -2.0, -2.5, -3.0, -3.2, -3.4), True),
        ((0.0, 0.5, 1.0, 1.5, 2.0, 2.5, 3.0, 3.2, 3.4), False),
        ((0.0, 3.0, 3.0, 2.0, 2.0, 2.0, 1.0, 1.0, 1.2), False),  # falls, and is still likelier than for the base
        ((0.0, -3.0, -3.0, -1.0, -1.0, -1.0, -1.0, -0.5, -0.6), False),  # fell and rises again
        ((0.0, 0.0, 0.0, -0.1, 0.1, -0.1, 4.0, -9.0, 4.0), False),  # one batch is no fall
        ((0.0, -5.0, -9.0), False),  # too short to tell
    ],
)
def test_a_sustained_fall_of_the_chosen_answers_is_told_from_noise(changes, falls):
    found = watch([*log(*changes), {"train_loss": 0.1}], beta=0.1)
    assert found["sustained_fall"] is falls
    assert (warning(found) is not None) == falls


def test_a_fall_is_reported_in_the_note_and_in_words(base, data, tmp_path, monkeypatch, capsys):
    fallen = {"thirds": [-0.5, -1.5, -3.2], "sustained_fall": True}
    monkeypatch.setattr(dpo, "watch", lambda *_: fallen)
    adapter = train(base, data, tmp_path / "a", QUICK)
    assert json.loads((adapter / "lethe.json").read_text())["training"]["chosen"] == fallen
    said = "logps/chosen -0.5 nats against the base in the first third, -3.2 in the last; add --loss sigmoid+sft"
    assert said in capsys.readouterr().err


def test_the_watch_reads_what_trl_logs(base, tmp_path):
    trainer, _ = _trainer(base, PAIRS, tmp_path / "work", replace(QUICK, steps=6, batch=4))
    trainer.train()
    steps = [step for step in trainer.state.log_history if "rewards/chosen" in step]
    assert len(steps) == 6
    assert steps[0]["rewards/chosen"] == pytest.approx(0, abs=1e-5)  # nothing has changed before the first step
    assert len(watch(trainer.state.log_history, QUICK.beta)["thirds"]) == 3


WRONG = {
    "--loss hinge": "--loss hinge is unknown; write one of sigmoid, sigmoid+sft, ipo.",
    "--beta 0": "--beta 0.0 is out of range; write a number above 0.",
    "--steps 0": "--steps 0 is out of range; write a whole number from 1 to 4294967295.",
    "--lr nan": "--lr nan is no learning rate; write a number above 0, as in --lr 1e-3.",
    "--layers -1": "--layers -1 is out of range; write a whole number from 0",
    "--sft-weight inf": "--sft-weight inf is out of range",
}


@pytest.mark.parametrize(("options", "sentence"), WRONG.items())
def test_settings_that_cannot_be_used_are_one_sentence(tiny_base, data, tmp_path, capsys, options, sentence):
    given = ["--base", str(tiny_base), "--data", str(data), "--out", str(tmp_path / "a"), *options.split()]
    assert sentence in refused(capsys, main, given)


def test_the_command_trains_and_prints_where(tiny_base, data, tmp_path, capsys):
    words = ["--base", tiny_base, "--data", data, "--out", tmp_path / "a", "--steps", 2, "--batch", 4, "--layers", 1]
    main([str(word) for word in words])
    assert capsys.readouterr().out.endswith(f"{tmp_path / 'a'}\n")
    said = refused(capsys, main, [str(word) for word in words])
    assert "already holds files; name another --out, or remove it" in said
    missing = ["--base", str(tiny_base), "--data", str(tmp_path / "none"), "--out", str(tmp_path / "b")]
    assert "does not exist; name a JSONL file" in refused(capsys, main, missing)


def test_a_training_that_diverges_is_said_and_leaves_nothing(base, data, tmp_path, cache):
    with pytest.raises(Unusable, match=r"the training diverged to NaN or Inf at --lr 1e\+30; write a smaller one\."):
        train(base, data, tmp_path / "a", replace(QUICK, lr=1e30))
    assert not (tmp_path / "a").exists()
    assert not list((cache / "training").glob("dpo-*/"))  # nothing to go on from
