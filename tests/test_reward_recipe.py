"""Reward models on tiny bases: the loss is Bradley-Terry's, layers that nothing changes are computed once, exactly.

And a killed run ends as one that was not killed; what is saved scores as it was trained; bad input is one sentence.
"""

from __future__ import annotations

import json
import random
import shutil
from dataclasses import replace

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import Qwen3Config, Qwen3Model, TrainerCallback

from harness.blocks import is_exact
from harness.checkpoints import check
from harness.pairs import Pair, write_pairs
from harness.reward.models import RewardModels, check_head
from harness.reward.texts import answered
from harness.specs import Unusable, parse_model
from harness.tokenizers import load_tokenizer
from recipes import reward
from recipes.reward import Settings, _drawn, _trainer, draw, main, train, trained
from recipes.sorted_batches import batches
from tests.conftest import save_tiny
from tests.spoiling import refused

PAIRS = [
    Pair(str(n), f"Where is order {n}?", f"Order {n} is on its way.", f"No idea, {n}.", category="tone")
    for n in range(16)
]
QUICK = Settings(pairs=0, epochs=2, batch=4, lr=1e-2, rank=2, alpha=4, depth=3, layers=1)


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("LETHE_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    return check(parse_model(str(save_tiny(tmp_path_factory.mktemp("models") / "base", layers=4))))


@pytest.fixture
def data(tmp_path):
    write_pairs(PAIRS, tmp_path / "pairs.jsonl")
    return tmp_path / "pairs.jsonl"


def tokenizer_of(base):
    tokenizer = load_tokenizer(base)
    tokenizer.pad_token = tokenizer.pad_token or tokenizer.eos_token
    return tokenizer


def started(base, tmp_path, settings=QUICK):
    tokenizer = tokenizer_of(base)
    drawn = _drawn(PAIRS, tokenizer, settings)
    return _trainer(base, drawn, tokenizer, tmp_path / "work", settings)[0], drawn


def weights(path):
    return load_file(path / "adapter_model.safetensors")


def equal(one, two) -> bool:
    a, b = weights(one), weights(two)
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


def test_the_loss_is_bradley_terrys_with_scores_held_near_zero(base, tmp_path):
    trainer, _ = started(base, tmp_path, replace(QUICK, center=0.3))
    batch = trainer._prepare_inputs(next(iter(trainer.get_train_dataloader())))
    scores = trainer.model(**batch).logits[:, 0].double()
    chosen, rejected = scores.chunk(2)
    expected = torch.log1p(torch.exp(rejected - chosen)).mean() + 0.3 * ((chosen + rejected) ** 2).mean()
    assert trainer.compute_loss(trainer.model, batch).item() == pytest.approx(expected.item(), rel=1e-5)


def test_the_gradient_is_that_of_finite_differences(base, tmp_path):
    trainer, _ = started(base, tmp_path)
    trainer.model.double()
    batch = trainer._prepare_inputs(next(iter(trainer.get_train_dataloader())))
    head = next(w for name, w in trainer.model.named_parameters() if "modules_to_save" in name)
    trainer.compute_loss(trainer.model, dict(batch)).backward()
    step = 1e-5
    for at in range(3):
        sides = []
        for sign in (1, -1):
            with torch.no_grad():
                head[0, at] += sign * step
                sides.append(float(trainer.compute_loss(trainer.model, dict(batch))))
                head[0, at] -= sign * step
        assert float(head.grad[0, at]) == pytest.approx((sides[0] - sides[1]) / (2 * step), rel=1e-4, abs=1e-9)


def test_what_is_trained_on_the_table_is_what_the_whole_model_scores(base, data, tmp_path):
    """Layers below are taken out for the training, and the adapter is put on the whole base again."""
    trainer, drawn = started(base, tmp_path)
    assert len(trainer.model.get_base_model().model.layers) == 1
    adapter = check(parse_model(str(train(base, data, tmp_path / "out", QUICK))), base)
    states = trainer.model.get_base_model().get_input_embeddings().weight
    from peft import set_peft_model_state_dict

    moved = {name.replace("layers.2.", "layers.0."): w for name, w in weights(adapter.path).items()}
    set_peft_model_state_dict(trainer.model, moved)
    trainer.model.eval()
    batch = next(iter(trainer.get_train_dataloader()))
    assert int(batch["input_ids"].max()) < len(states) < sum(len(text) for group in drawn.groups for text in group)
    scores = trainer.model(**batch).logits[:, 0].tolist()
    pairs = [drawn.groups[at] for at in trainer.order[0]]
    texts = [pair[side] for side in (0, 1) for pair in pairs]
    whole = RewardModels(base, [adapter]).scores(texts)[:, 0]
    assert np.allclose(whole, scores, atol=1e-3)
    assert np.std(whole) > 0.01


def test_an_adapter_names_the_layers_that_it_changes_and_no_others(base, data, tmp_path):
    """peft shortens a list of twenty modules or more to the last parts of their names, which others have too."""
    out = train(base, data, tmp_path / "out", replace(QUICK, depth=4, layers=3))
    targets = json.loads((out / "adapter_config.json").read_text())["target_modules"]
    assert len(targets) == 7 * 3
    assert {name.split(".")[2] for name in targets} == {"1", "2", "3"}
    RewardModels(base, [check(parse_model(str(out)), base)])  # which refuses weights that are not the file's


def test_training_teaches_the_pairs(base, data, tmp_path):
    adapter = check(parse_model(str(train(base, data, tmp_path / "out", replace(QUICK, epochs=8)))), base)
    tokenizer = tokenizer_of(base)
    scores = [
        RewardModels(base, [adapter]).scores([answered(pair, side, tokenizer) for pair in PAIRS])[:, 0]
        for side in ("chosen", "rejected")
    ]
    assert (scores[0] > scores[1]).mean() > 0.9


def test_candidates_that_share_lower_blocks_score_as_each_alone(base, data, tmp_path):
    adapters = [
        check(parse_model(str(train(base, data, tmp_path / f"out{seed}", replace(QUICK, seed=seed)))), base)
        for seed in (0, 1)
    ]
    texts = [answered(pair, "chosen", tokenizer_of(base)) for pair in PAIRS]
    together = RewardModels(base, adapters).scores(texts, shuffled=3)
    alone = np.stack([RewardModels(base, [adapter]).scores(texts)[:, 0] for adapter in adapters], axis=1)
    assert np.allclose(together, alone, atol=1e-4)
    assert np.abs(alone[:, 0] - alone[:, 1]).max() > 1e-3


def test_the_lower_layers_run_once_for_all_seeds(base, data, tmp_path, monkeypatch):
    from recipes import frozen_layers

    asked, real = [], frozen_layers.states_below
    monkeypatch.setattr(frozen_layers, "states_below", lambda *given: asked.append(1) or real(*given))
    for seed in (0, 1):
        train(base, data, tmp_path / f"out{seed}", replace(QUICK, seed=seed))
        asked.append(0)
    assert asked[-2:] == [0, 0]
    assert not equal(tmp_path / "out0", tmp_path / "out1")


def test_without_a_table_the_adapter_is_nearly_the_same(base, data, tmp_path, monkeypatch):
    train(base, data, tmp_path / "table", QUICK)
    monkeypatch.setattr("recipes.frozen_layers.LARGEST", 0)
    train(base, data, tmp_path / "plain", QUICK)
    one, two = weights(tmp_path / "table"), weights(tmp_path / "plain")
    assert one.keys() == two.keys()
    assert all(torch.allclose(one[name].float(), two[name].float(), atol=2e-3) for name in one)


def test_the_same_seed_gives_the_same_adapter(base, data, tmp_path):
    assert equal(train(base, data, tmp_path / "one", QUICK), train(base, data, tmp_path / "two", QUICK))


def test_a_killed_training_goes_on_and_ends_as_one_that_was_not(base, data, tmp_path, monkeypatch):
    settings = replace(QUICK, epochs=12)  # 48 steps, a checkpoint every 20
    whole = train(base, data, tmp_path / "whole", settings)

    class Kill(TrainerCallback):
        def on_step_end(self, args, state, control, **kwargs):
            if state.global_step == 30:
                raise KeyboardInterrupt

    real = reward._trainer

    def killed(*given):
        made = real(*given)
        made[0].add_callback(Kill())
        return made

    monkeypatch.setattr(reward, "_trainer", killed)
    with pytest.raises(KeyboardInterrupt):
        train(base, data, tmp_path / "killed", settings)
    assert not (tmp_path / "killed").exists()
    monkeypatch.setattr(reward, "_trainer", real)
    assert equal(whole, train(base, data, tmp_path / "killed", settings))


def test_an_adapter_is_trained_once_for_the_same_inputs(base, data, monkeypatch):
    first = trained(base, data, QUICK)
    monkeypatch.setattr(reward, "train", None)
    assert trained(base, data, QUICK) == first


def test_all_seeds_see_the_same_pairs():
    assert draw(PAIRS, 4) == draw(PAIRS, 4)
    assert len({pair.id for pair in draw(PAIRS, 4)}) == 4
    assert len(draw(PAIRS, 0)) == len(PAIRS) == len(draw(PAIRS, 99))


def test_batches_hold_each_row_once_an_epoch_and_rows_of_like_length_together():
    lengths = [random.Random(n).randint(20, 200) for n in range(300)]
    made = batches(lengths, 16, 2, seed=0)
    half = len(made) // 2
    for epoch in (made[:half], made[half:]):
        assert sorted(row for batch in epoch for row in batch) == list(range(300))
    padded = sum(max(lengths[row] for row in batch) * len(batch) for batch in made)
    assert padded < 1.25 * 2 * sum(lengths)  # in a random order it is about 1.7 times
    assert made[:half] != made[half:]
    assert made == batches(lengths, 16, 2, seed=0) != batches(lengths, 16, 2, seed=1)


def test_a_model_without_a_chat_template_is_trained_too(data, tmp_path):
    base = check(parse_model(str(save_tiny(tmp_path / "plain", layers=4, template=None))))
    adapter = check(parse_model(str(train(base, data, tmp_path / "out", QUICK))), base)
    check_head(adapter)
    assert answered(PAIRS[0], "chosen", tokenizer_of(base))[-1] != tokenizer_of(base).pad_token_id


def test_pairs_that_are_too_long_are_left_out_and_counted(base, tmp_path, capsys):
    write_pairs([*PAIRS, Pair("long", "a" * 300, "b", "c")], tmp_path / "pairs.jsonl")
    out = train(base, tmp_path / "pairs.jsonl", tmp_path / "out", replace(QUICK, max_length=120))
    assert "1 of 17 pairs are longer than --max-length 120 and are left out." in capsys.readouterr().err
    assert json.loads((out / "lethe.json").read_text())["training"]["too_long"] == 1


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        (["--epochs", "0"], "--epochs 0 is out of range; write a whole number from 1"),
        (["--lr", "nan"], "--lr nan is no learning rate; write a number above 0"),
        (["--center", "-1"], "--center -1.0 is out of range; write a number from 0 on"),
        (["--depth", "9"], "--depth 9: the model has 4 blocks; write a number up to that, or 0 for all."),
        (["--depth", "2", "--layers", "3"], "--layers 3: the model has 2; write a number up to that"),
        (["--max-length", "5"], "--max-length 5 leaves no pair to be trained on; write a larger one."),
        (["--lr", "1e30"], "the training diverged to NaN or Inf at --lr 1e+30; write a smaller one."),
    ],
)
def test_what_cannot_be_trained_is_one_sentence(base, data, tmp_path, capsys, options, sentence):
    given = ["--base", str(base.path), "--data", str(data), "--out", str(tmp_path / "out"), "--depth", "3"]
    assert sentence in refused(capsys, main, [*given, "--layers", "1", "--pairs", "8", *options])
    assert not (tmp_path / "out").exists()


def test_an_adapter_says_how_it_is_loaded_and_cannot_be_read_at_another_depth(base, data, tmp_path):
    out = train(base, data, tmp_path / "out", QUICK)
    assert "num_labels=1, num_hidden_layers=3)" in (out / "README.md").read_text()
    note = json.loads((out / "lethe.json").read_text())
    for depth in (2, -1, "3", True):
        (out / "lethe.json").write_text(json.dumps(note | {"settings": note["settings"] | {"depth": depth}}))
        with pytest.raises(Unusable, match=r"lethe.json of .* says that it uses .* blocks of its base"):
            check_head(check(parse_model(str(out)), base))


def test_a_whole_model_that_lacks_weights_is_refused(base, tmp_path):
    weights = load_file(base.path / "model.safetensors")
    whole = shutil.copytree(base.path, tmp_path / "whole")
    kept = {name: w for name, w in weights.items() if "layers.1.mlp" not in name}
    save_file(kept | {"score.weight": torch.ones(1, 48)}, whole / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(Unusable, match=r"lacks model.layers.1.mlp.down_proj.weight \(3 in all\)"):
        RewardModels(base, [check(parse_model(str(whole)))])


def test_blocks_that_attend_in_different_ways_are_not_cut_apart():
    config = Qwen3Config(
        vocab_size=64, hidden_size=16, intermediate_size=16, num_hidden_layers=4, num_attention_heads=2,
        num_key_value_heads=2, head_dim=8, use_sliding_window=True, sliding_window=4, max_window_layers=2,
    )  # fmt: skip
    assert len(set(config.layer_types)) == 2
    assert not is_exact(Qwen3Model(config).eval(), 2, torch.arange(1, 40)[None])


def test_an_adapter_without_a_head_is_refused(base, data, tmp_path):
    out = train(base, data, tmp_path / "out", QUICK)
    save_file({k: w for k, w in weights(out).items() if "score" not in k}, out / "adapter_model.safetensors")
    with pytest.raises(Unusable, match="has no head that gives one score"):
        check_head(check(parse_model(str(out)), base))
