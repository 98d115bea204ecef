"""Adapters: what is wrong with their files, or with the base they are to be put on, is said before one is loaded."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest
import torch

from harness.checkpoints import check, weights_digest
from harness.specs import parse_model
from tests.spoiling import ADAPTER, HEAD, WEIGHTS, checked, poison, said, write_json, write_tensors

pytestmark = pytest.mark.usefixtures("own_cache")


def rename_base(path: Path) -> None:
    write_json(path / "adapter_config.json", base_model_name_or_path="org/another")


def reshape(path: Path, factor: str, shape: tuple[int, ...]) -> None:
    name = f"base_model.model.model.layers.0.self_attn.v_proj.{factor}.weight"
    write_tensors(path / ADAPTER, lambda tensors: tensors.update({name: torch.ones(shape)}))


def add_layer(path: Path) -> None:
    name = "base_model.model.model.layers.7.self_attn.v_proj.lora_A.weight"
    write_tensors(path / ADAPTER, lambda tensors: tensors.update({name: torch.ones(2, 48)}))


def add_whole_head(path: Path) -> None:
    write_tensors(path / ADAPTER, lambda tensors: tensors.update({f"base_model.model.{HEAD}": torch.ones(300, 48)}))


BROKEN_ADAPTERS = {
    "other base by name": (rename_base, "was trained on 'org/another' and --base is '"),
    "no base named": (
        lambda p: write_json(p / "adapter_config.json", base_model_name_or_path=None),
        "or correct base_model_name_or_path in adapter_config.json if they are the same.",
    ),
    "other base by its weights": (
        lambda p: write_json(p / "lethe.json", base_weights="0" * 64),
        "; name the base that lethe.json records.",
    ),
    "other inputs": (lambda p: reshape(p, "lora_A", (2, 64)), "v_proj ([2, 64] on [16, 48]); it has another base."),
    "other outputs": (lambda p: reshape(p, "lora_B", (48, 2)), "v_proj ([48, 2] on [16, 48]); it has another base."),
    "a layer too many": (add_layer, "at model.layers.7.self_attn.v_proj ([2, 48] on None)"),
    "a head of another size": (add_whole_head, f"at {HEAD} ([300, 48] on [258, 48])"),
    "no weights": (lambda p: (p / ADAPTER).unlink(), f"has no {ADAPTER} in"),
    "pickled weights": (
        lambda p: (p / ADAPTER).rename(p / "adapter_model.bin"),
        "has pickled weights only (adapter_model.bin), which can run code",
    ),
    "nan": (
        lambda p: write_tensors(p / ADAPTER, lambda tensors: next(iter(tensors.values())).fill_(float("nan"))),
        "has NaN or Inf in base_model.model.model.layers.0.mlp.down_proj.lora_A.weight",
    ),
    "truncated weights": (lambda p: os.truncate(p / ADAPTER, 99), f"weight file {ADAPTER} of"),
    "corrupt config": (lambda p: os.truncate(p / "adapter_config.json", 9), "adapter_config.json of model"),
    **{
        f"of type {kind}": (
            lambda p, kind=kind: write_json(p / "adapter_config.json", peft_type=kind),
            f"has peft_type {kind} and only LORA can be judged; {remedy}.",
        )
        for kind, remedy in (
            ("IA3", "merge it into the base and name the merged directory"),
            ("VERA", "merge it into the base and name the merged directory"),
            ("PROMPT_TUNING", "train a LoRA adapter instead"),
            ("PREFIX_TUNING", "train a LoRA adapter instead"),
        )
    },
    "biases": (
        lambda p: write_json(p / "adapter_config.json", bias="all"),
        "(bias = 'all'), which cannot be switched off again; merge it into the base",
    ),
}


@pytest.mark.parametrize(("spoil", "sentence"), BROKEN_ADAPTERS.values(), ids=BROKEN_ADAPTERS)
def test_a_broken_adapter_is_said_before_it_is_loaded(adapter, tiny_base, spoil, sentence):
    spoil(adapter)
    assert sentence in said(checked, adapter, tiny_base)


def test_an_adapter_is_no_base(tiny_adapter):
    sentence = f"'{tiny_adapter}' is an adapter and cannot be the base; name its base with --base."
    assert said(checked, tiny_adapter) == sentence


def test_the_note_of_origin_outweighs_the_name_of_the_base(adapter, tiny_base):
    rename_base(adapter)
    write_json(adapter / "lethe.json", base_weights=weights_digest(checked(tiny_base)))
    assert checked(adapter, tiny_base).is_adapter


CACHED = "models--org--llama/snapshots/0a1b"
SAME_BASE = [  # what the adapter names, which is not here, and where --base lies
    ("org/llama", "llama"),
    ("/elsewhere/llama", "llama"),
    ("/elsewhere/llama/", "llama"),
    ("llama", "llama"),
    (f"/elsewhere/{CACHED}", "llama"),
    ("org/llama", CACHED),
    (f"/elsewhere/{CACHED}", CACHED),
    ("/elsewhere/llama", CACHED),
]
OTHER_BASE = [
    ("org/another", "llama"),
    ("/elsewhere/another", "llama"),
    ("bob/llama", CACHED),
    ("/elsewhere/models--bob--llama/snapshots/0a1b", CACHED),
]
NO_NAMES = ["final", "checkpoint-123", "output", "model", "merged", "Merged_Model-v2", "base", "7"]


@pytest.fixture
def lies(tmp_path, adapter, tiny_base):
    """Says where --base lies and what the adapter names as its base -> the adapter and that base."""

    def place(named: str, where: str) -> tuple[Path, Path]:
        write_json(adapter / "adapter_config.json", base_model_name_or_path=named)
        return adapter, Path(shutil.copytree(tiny_base, tmp_path / "bases" / where))

    return place


def test_factors_of_experts_are_not_held_against_the_base(adapter, tiny_base):
    """They are stored in other names than the base's, fused or one by one."""
    name = "base_model.model.model.layers.0.mlp.experts.3.up_proj.lora_A.weight"
    write_tensors(adapter / ADAPTER, lambda tensors: tensors.update({name: torch.ones(2, 48)}))
    assert checked(adapter, tiny_base)


@pytest.mark.parametrize(("named", "where"), SAME_BASE)
def test_a_base_that_was_trained_on_elsewhere_is_recognised_by_its_name(lies, named, where):
    assert checked(*lies(named, where)).is_adapter


@pytest.mark.parametrize(("named", "where"), OTHER_BASE)
def test_a_base_of_another_name_is_said(lies, named, where):
    found = said(checked, *lies(named, where))
    assert f"was trained on '{named}' and --base is '" in found
    assert found.endswith("or correct base_model_name_or_path in adapter_config.json if they are the same.")


@pytest.mark.parametrize("name", NO_NAMES)
@pytest.mark.parametrize("parent", ["/elsewhere", "org"])
def test_a_name_that_any_model_may_have_tells_no_base(lies, parent, name):
    found = said(checked, *lies(f"{parent}/{name}", name))
    assert f"was trained on '{parent}/{name}', which is not here, and the name '{name}' does not tell whether" in found
    assert found.endswith("correct base_model_name_or_path in adapter_config.json to the path or hub id of its base.")


@pytest.mark.parametrize("where", ["final", "other/llama"])
def test_a_base_that_lies_here_is_recognised_by_its_weights(lies, tmp_path, where):
    adapter, base = lies(str(tmp_path / "trained" / "llama"), where)
    trained = Path(shutil.copytree(base, tmp_path / "trained" / "llama"))
    assert checked(adapter, base).is_adapter
    write_tensors(trained / WEIGHTS, poison(HEAD, 0.5))
    assert f"was trained on '{trained}', whose weights are not those of '{base}'; name" in said(checked, adapter, base)


@pytest.mark.parametrize("here", ["", "pytorch_model.bin"])
def test_a_directory_without_weights_that_can_be_read_is_known_by_its_name(lies, tmp_path, here):
    (tmp_path / "trained" / "llama").mkdir(parents=True)
    (tmp_path / "trained" / "llama" / (here or "README.md")).write_text("x")
    assert checked(*lies(str(tmp_path / "trained" / "llama"), "llama")).is_adapter


@pytest.mark.parametrize(
    ("base", "named", "same"),
    [
        ("bob/llama", "bob/llama", True),
        ("bob/llama@v1", "bob/llama", True),
        ("bob/llama", "/elsewhere/models--bob--llama/snapshots/0a1b", True),
        ("bob/llama", "/elsewhere/llama", True),
        ("bob/llama", "alice/llama", False),
        ("bob/llama", "bob/llama-2", False),
        ("embedded:base", "embedded:base", True),
        ("embedded:base", "org/llama", False),
    ],
)
def test_a_base_from_elsewhere_is_recognised_by_its_whole_name(adapter, tiny_base, monkeypatch, base, named, same):
    monkeypatch.setattr("huggingface_hub.snapshot_download", lambda *_, **__: tiny_base)
    monkeypatch.setattr("harness.assets.embedded", lambda _: tiny_base)
    write_json(adapter / "adapter_config.json", base_model_name_or_path=named)
    base, spec = check(parse_model(base)), parse_model(str(adapter))
    if same:
        assert check(spec, base).base is base
    else:
        assert f"was trained on '{named}' and --base is '{base.spec.text}'" in said(check, spec, base)


def test_an_adapter_of_layers_with_turned_weights_fits(tmp_path):
    """GPT-2 keeps its weights as [inputs, outputs]."""
    from peft import LoraConfig, get_peft_model
    from transformers import GPT2Config, GPT2LMHeadModel

    base = GPT2LMHeadModel(GPT2Config(vocab_size=258, n_layer=1, n_embd=16, n_head=2, bos_token_id=0, eos_token_id=1))
    base.save_pretrained(tmp_path / "base")
    lora = get_peft_model(base, LoraConfig(r=2, target_modules=["c_attn"], fan_in_fan_out=True))
    lora.save_pretrained(tmp_path / "lora")
    write_json(tmp_path / "lora" / "adapter_config.json", base_model_name_or_path=str(tmp_path / "base"))
    assert checked(tmp_path / "lora", tmp_path / "base").is_adapter


def test_an_adapter_is_known_by_its_weights_settings_and_base(adapter, tiny_adapter, tiny_base, copy):
    original = checked(tiny_adapter, tiny_base).digest
    assert checked(adapter, tiny_base).digest == original
    write_tensors(copy / WEIGHTS, poison(HEAD, 0.5))
    write_json(adapter / "lethe.json", base_weights=weights_digest(checked(copy)))
    assert checked(adapter, copy).digest != original
    (adapter / "lethe.json").unlink()
    write_json(adapter / "adapter_config.json", lora_alpha=99)
    assert checked(adapter, tiny_base).digest != original


def test_one_weight_of_an_adapter_changes_its_digest(adapter, tiny_adapter, tiny_base):
    write_tensors(adapter / ADAPTER, lambda tensors: next(iter(tensors.values())).view(-1)[:1].add_(1))
    assert checked(adapter, tiny_base).digest != checked(tiny_adapter, tiny_base).digest
