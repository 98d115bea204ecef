"""An adapter is put on a loaded base whole, can be switched off exactly, and is folded only where that comes off."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from peft import LoraConfig, get_peft_model
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM, LlamaForCausalLM

from harness import adapters
from harness.backends import open_lm
from harness.models import LoadedModels
from tests.conftest import save_adapter, save_tiny, tiny_model, tiny_tokenizer
from tests.spoiling import ADAPTER, HEAD, WEIGHTS, checked, said, write_json, write_tensors

IDS = torch.tensor([[0, 5, 77, 200, 31]])
KEY = f"base_model.model.{HEAD}"

pytestmark = pytest.mark.usefixtures("own_cache")


@pytest.fixture
def base(tmp_path) -> Path:
    return save_tiny(tmp_path / "base")


@pytest.fixture
def adapter(tmp_path, base) -> Path:
    return save_adapter(tmp_path / "adapter", base, scale=0.5)


def bring(adapter: Path, key: str, weight: torch.Tensor) -> None:
    write_tensors(adapter / ADAPTER, lambda held: held.update({key: weight}))


def tied(path: Path) -> Path:
    model = tiny_model()
    model.config.tie_word_embeddings = True
    model.tie_weights()
    model.save_pretrained(path)
    tiny_tokenizer().save_pretrained(path)
    return path


def logits(models: LoadedModels, model) -> torch.Tensor:
    with models.active(model) as loaded, torch.inference_mode():
        return loaded(IDS).logits.clone()


def assert_base_is_itself(models: LoadedModels, base: Path) -> None:
    assert torch.equal(logits(models, checked(base)), logits(LoadedModels(), checked(base)))


@pytest.mark.parametrize("first", [True, False], ids=["first", "second"])
def test_weights_of_the_base_that_an_adapter_would_overwrite_are_refused(tmp_path, base, adapter, first):
    bring(adapter, KEY, 2 * load_file(base / WEIGHTS)[HEAD])
    models = LoadedModels()
    if not first:
        logits(models, checked(save_adapter(tmp_path / "other", base, scale=0.5, seed=3), base))
    sentence = said(models.active(checked(adapter, base)).__enter__)
    assert f"brings along {HEAD}, which is not its base's and which modules_to_save" in sentence
    assert_base_is_itself(models, base)


def test_those_that_are_the_base_s_own_are_taken(base, adapter):
    expected = logits(LoadedModels(), checked(adapter, base))
    bring(adapter, KEY, load_file(base / WEIGHTS)[HEAD])
    models = LoadedModels()
    assert torch.equal(logits(models, checked(adapter, base)), expected)
    assert_base_is_itself(models, base)


def test_embeddings_that_peft_has_saved_rounded_leave_the_base_as_it_is(tmp_path, base):
    torch.manual_seed(0)
    model = get_peft_model(LlamaForCausalLM.from_pretrained(base), LoraConfig(r=2, target_modules=["embed_tokens"]))
    for name, parameter in model.named_parameters():
        if "lora_embedding_" in name:
            torch.nn.init.normal_(parameter)
    model.save_pretrained(tmp_path / "adapter")
    held = load_file(tmp_path / "adapter" / ADAPTER)
    (whole,) = [name for name in held if name.endswith("base_layer.weight")]
    bring(tmp_path / "adapter", whole, held[whole].bfloat16())
    models = LoadedModels()
    tuned = logits(models, checked(tmp_path / "adapter", base))
    assert not torch.allclose(tuned, logits(models, checked(base)))
    assert_base_is_itself(models, base)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_what_peft_keeps_apart_is_taken_whatever_it_is_named_by(tmp_path, base, dtype):
    settings = LoraConfig(r=2, target_modules=["q_proj"], modules_to_save=["mlp"])
    model = get_peft_model(LlamaForCausalLM.from_pretrained(base), settings)
    for name, parameter in model.named_parameters():
        if "modules_to_save" in name:
            parameter.data.mul_(2)
    model.save_pretrained(tmp_path / "adapter")
    models = LoadedModels(dtype=dtype)
    tuned = logits(models, checked(tmp_path / "adapter", base))
    assert not torch.allclose(tuned, logits(models, checked(base)))
    assert torch.equal(logits(models, checked(base)), logits(LoadedModels(dtype=dtype), checked(base)))


def test_tied_embeddings_that_were_trained_as_one_are_taken(tmp_path):
    path = tied(tmp_path / "tied")
    settings = LoraConfig(r=2, target_modules=["q_proj"], modules_to_save=["embed_tokens"], ensure_weight_tying=True)
    model = get_peft_model(LlamaForCausalLM.from_pretrained(path), settings)
    model.get_input_embeddings().modules_to_save["default"].weight.data.add_(1)
    model.save_pretrained(tmp_path / "adapter")
    models = LoadedModels()
    tuned = logits(models, checked(tmp_path / "adapter", path))
    assert not torch.allclose(tuned, logits(models, checked(path)))
    assert_base_is_itself(models, path)


def test_embeddings_of_a_checkpoint_finer_than_the_base_is_loaded_are_taken(tmp_path, base):
    model = get_peft_model(LlamaForCausalLM.from_pretrained(base), LoraConfig(r=2, target_modules=["embed_tokens"]))
    model.save_pretrained(tmp_path / "adapter")
    models = LoadedModels(dtype="bfloat16")
    logits(models, checked(tmp_path / "adapter", base))
    assert torch.equal(logits(models, checked(base)), logits(LoadedModels(dtype="bfloat16"), checked(base)))


def test_a_trained_copy_of_the_head_is_kept_apart(tmp_path, base):
    torch.manual_seed(0)
    settings = LoraConfig(r=2, target_modules=["q_proj"], modules_to_save=["lm_head"])
    model = get_peft_model(LlamaForCausalLM.from_pretrained(base), settings)
    model.get_output_embeddings().modules_to_save["default"].weight.data.mul_(2)
    model.save_pretrained(tmp_path / "adapter")
    models = LoadedModels()
    tuned = logits(models, checked(tmp_path / "adapter", base))
    torch.testing.assert_close(tuned, 2 * logits(models, checked(base)))
    assert_base_is_itself(models, base)


STARTS = {
    "pissa": {"init_lora_weights": "pissa"},
    "pissa in steps": {"init_lora_weights": "pissa_niter_4"},
    "olora": {"init_lora_weights": "OLoRA"},
    "replication": {"layer_replication": [[0, 2]]},
}


@pytest.mark.parametrize("settings", STARTS.values(), ids=STARTS)
def test_an_adapter_that_moves_its_base_when_it_is_put_on_is_refused(base, adapter, settings):
    write_json(adapter / "adapter_config.json", **settings)
    sentence = said(checked, adapter, base)
    assert "its base when it is put on; merge it into the base and name the merged directory." in sentence


def test_a_base_that_moves_all_the_same_is_seen(base, adapter):
    model = checked(adapter, base)
    write_json(adapter / "adapter_config.json", init_lora_weights="pissa")
    models = LoadedModels()
    assert "changes weights of its base when it is put on" in said(models.active(model).__enter__)
    assert_base_is_itself(models, base)


def is_folded(loaded) -> bool:
    return any(layer.merged for layer in adapters._adapted(loaded))


@pytest.mark.parametrize("hindrance", ["no room", "quantized", None])
def test_what_would_not_come_off_or_fit_is_not_folded(base, adapter, monkeypatch, hindrance):
    models, model = LoadedModels(), checked(adapter, base)
    expected = logits(models, model)
    with models.active(model) as loaded:
        assert is_folded(loaded)
    if hindrance == "no room":
        monkeypatch.setattr(adapters, "free_memory", lambda device: 0)
    elif hindrance == "quantized":
        loaded.config.quantization_config = {"quant_method": "bitsandbytes"}
    with models.active(model) as loaded:
        assert is_folded(loaded) == (hindrance is None)
    torch.testing.assert_close(logits(models, model), expected)


def test_the_head_of_a_tied_model_stays_the_base_s_where_lm_eval_reads_it(tmp_path):
    path = tied(tmp_path / "tied")
    settings = LoraConfig(r=2, target_modules=["q_proj"], modules_to_save=["embed_tokens"])
    tuned = get_peft_model(AutoModelForCausalLM.from_pretrained(path), settings)
    tuned.get_input_embeddings().modules_to_save["default"].weight.data.add_(1)
    tuned.save_pretrained(tmp_path / "adapter")
    write_json(path / "generation_config.json", no_repeat_ngram_size=3)  # which our engine does not do
    models, adapter = LoadedModels(), checked(tmp_path / "adapter", path)
    expected = logits(models, adapter)
    with models.active(adapter) as loaded:
        read_by = open_lm(loaded, models.tokenizer(adapter), 0)
        assert type(read_by).__name__ == "HFLM"
        assert "tie_weights" not in vars(loaded)
    torch.testing.assert_close(logits(models, adapter), expected)
