"""Loaded models: on the device that is there, whole, and with adapters that switch off."""

from __future__ import annotations

import pytest
import torch

from harness.models import LoadedModels, pick_device, pick_dtype
from tests.conftest import save_adapter, save_tiny, tiny_model, tiny_tokenizer
from tests.spoiling import ADAPTER, HEAD, WEIGHTS, checked, said, write_json, write_tensors

pytestmark = pytest.mark.usefixtures("own_cache")


@pytest.fixture
def gpus(monkeypatch):
    """Makes torch see so many GPUs."""

    def see(count: int) -> None:
        monkeypatch.setattr(torch.cuda, "is_available", lambda: count > 0)
        monkeypatch.setattr(torch.cuda, "device_count", lambda: count)

    return see


DEVICES = [(0, "auto", "cpu"), (0, "cpu", "cpu"), (1, "auto", "cuda"), (2, "cpu", "cpu"), (2, "cuda:1", "cuda:1")]


@pytest.mark.parametrize(("count", "wanted", "picked"), [*DEVICES, (1, "cuda", "cuda")])
def test_a_device_is_picked(gpus, count, wanted, picked):
    gpus(count)
    assert pick_device(wanted) == picked


NO_DEVICE = [
    (0, "cuda", "--device cuda: this machine has no CUDA device that torch can use; write --device cpu."),
    (0, "cuda:0", "--device cuda:0: this machine has no CUDA device"),
    (2, "cuda:2", "--device cuda:2: there are 2 CUDA devices, counted from 0; name one of them."),
    *((1, text, f"--device {text} is unknown; write auto, cpu") for text in ("gpu", "cuda:", "cuda:x", "cpu:0", "")),
]


@pytest.mark.parametrize(("count", "wanted", "sentence"), NO_DEVICE)
def test_a_device_that_is_not_there_is_said(gpus, count, wanted, sentence):
    gpus(count)
    assert sentence in said(pick_device, wanted)


@pytest.mark.parametrize(
    ("wanted", "device", "picked"),
    [("auto", "cpu", "float32"), ("auto", "cuda:1", "bfloat16"), ("float16", "cuda", "float16")],
)
def test_a_dtype_is_picked(wanted, device, picked):
    assert pick_dtype(wanted, device) == picked


def test_an_unknown_dtype_is_said():
    sentence = "--dtype int8 is unknown; write one of auto, float32, bfloat16, float16."
    assert said(pick_dtype, "int8", "cpu") == sentence


# ---- loaded models ---------------------------------------------------------------------------------------------------


IDS = torch.tensor([[0, 5, 77, 200, 31]])


def logits(models: LoadedModels, model) -> torch.Tensor:
    with models.active(model) as loaded, torch.inference_mode():
        return loaded(IDS).logits.clone()


@pytest.fixture
def family(tmp_path, tiny_base, tiny_adapter):
    """A base and two adapters of it, checked."""
    second = save_adapter(tmp_path / "second", tiny_base, scale=0.5, seed=9)
    return checked(tiny_base), checked(tiny_adapter, tiny_base), checked(second, tiny_base)


def test_the_base_under_an_adapter_is_exactly_the_base(family):
    base, first, second = family
    models = LoadedModels()
    alone = logits(LoadedModels(), base)
    assert torch.equal(logits(models, base), alone)
    for adapter in (first, second, first):
        assert not torch.equal(logits(models, adapter), alone)
        assert torch.equal(logits(models, base), alone)


def test_adapters_on_one_base_act_each_as_if_alone(family):
    base, first, second = family
    models = LoadedModels()
    both = [logits(models, adapter) for adapter in (first, second)]
    alone = [logits(LoadedModels(), adapter) for adapter in (first, second)]
    assert torch.equal(logits(models, first), both[0])
    assert all(torch.equal(a, b) for a, b in zip(both, alone, strict=True))
    assert not torch.equal(*both)
    with models.active(base) as one, models.active(second) as other:
        assert one is other


def test_an_adapter_acts_as_when_it_is_merged(family, tmp_path):
    from peft import PeftModel
    from transformers import AutoModelForCausalLM

    base, first, _ = family
    merged = PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(base.path), first.path).merge_and_unload()
    with torch.inference_mode():
        torch.testing.assert_close(logits(LoadedModels(), first), merged(IDS).logits, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("target", ["embed_tokens", "lm_head"])
def test_an_adapter_on_one_end_of_tied_embeddings_leaves_the_other_end(tmp_path, target):
    from peft import LoraConfig, PeftModel, get_peft_model
    from transformers import AutoModelForCausalLM

    model = tiny_model()
    model.config.tie_word_embeddings = True
    model.tie_weights()
    base = tmp_path / "tied"
    model.save_pretrained(base)
    tiny_tokenizer().save_pretrained(base)
    torch.manual_seed(1)
    tuned = get_peft_model(AutoModelForCausalLM.from_pretrained(base), LoraConfig(r=2, target_modules=[target]))
    for name, weight in tuned.named_parameters():
        if "lora_" in name:
            torch.nn.init.normal_(weight, std=0.3)
    tuned.save_pretrained(tmp_path / "adapter")
    write_json(tmp_path / "adapter" / "adapter_config.json", base_model_name_or_path=str(base))
    plain = PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(base), tmp_path / "adapter").eval()
    with torch.inference_mode():
        expected = plain(IDS).logits
    torch.testing.assert_close(logits(LoadedModels(), checked(tmp_path / "adapter", base)), expected)


def test_an_adapter_of_zeros_changes_no_logit(tmp_path, tiny_base):
    idle = checked(save_adapter(tmp_path / "idle", tiny_base, scale=0.0), tiny_base)
    models = LoadedModels()
    assert torch.equal(logits(models, idle), logits(models, idle.base))


def test_the_dtype_is_the_one_asked_for(tiny_base):
    with LoadedModels(dtype="bfloat16").active(checked(tiny_base)) as loaded:
        assert {p.dtype for p in loaded.parameters()} == {torch.bfloat16}


def test_an_error_inside_leaves_the_base_as_it_was(family):
    base, first, _ = family
    models = LoadedModels()
    expected = logits(models, base)
    logits(models, first)
    for model in (base, first):
        with pytest.raises(RuntimeError), models.active(model):
            raise RuntimeError
    assert torch.equal(logits(models, base), expected)
    assert not torch.equal(logits(models, first), expected)


def test_a_checkpoint_that_lacks_a_weight_is_said_and_not_filled_at_random(copy):
    write_tensors(copy / WEIGHTS, lambda tensors: tensors.pop(HEAD))
    model, models = checked(copy), LoadedModels()
    sentence = said(models.active(model).__enter__)
    assert f"the checkpoint of '{copy}' lacks {HEAD} (1 in all); copy or save the whole model again." in sentence


HALF = {
    "lacks a weight": (
        lambda p: write_tensors(p / ADAPTER, lambda tensors: tensors.pop(next(iter(tensors)))),
        "disagree about base_model.model.model.layers.0.mlp.down_proj.lora_A.weight (1 in all)",
    ),
    "names fewer modules than it holds": (
        lambda p: write_json(p / "adapter_config.json", target_modules=["q_proj", "v_proj"]),
        "disagree about base_model.model.model.layers.0.mlp.down_proj.lora_A.weight (4 in all)",
    ),
}


@pytest.mark.parametrize(("spoil", "sentence"), HALF.values(), ids=HALF)
@pytest.mark.parametrize("first", [True, False], ids=["first", "second"])
def test_an_adapter_that_would_act_in_part_is_said(adapter, tiny_adapter, tiny_base, spoil, sentence, first):
    spoil(adapter)
    models, base, half = LoadedModels(), checked(tiny_base), checked(adapter, tiny_base)
    if not first:
        logits(models, checked(tiny_adapter, tiny_base))
    for _ in range(2):
        assert sentence in said(models.active(half).__enter__)
        assert torch.equal(logits(models, base), logits(LoadedModels(), base))


def test_an_adapter_that_cannot_be_folded_acts_beside_the_weights(family, monkeypatch):
    base, first, _ = family
    expected = logits(LoadedModels(), first)
    models = LoadedModels()
    with models.active(first) as loaded:
        kind = type(loaded)

    def refuses(*args, **options):
        raise NotImplementedError("no such layer can be merged")

    monkeypatch.setattr(kind, "merge_adapter", refuses, raising=False)
    torch.testing.assert_close(logits(models, first), expected)
    assert torch.equal(logits(models, base), logits(LoadedModels(), base))


def test_models_that_do_not_fit_beside_another_make_room_for_it(tmp_path, monkeypatch):
    first, second = (checked(save_tiny(tmp_path / f"model-{seed}", seed=seed)) for seed in (1, 2))
    expected = [logits(LoadedModels(), model) for model in (first, second)]
    models = LoadedModels()
    monkeypatch.setattr("harness.models.free_memory", lambda device: 0 if models._full else 2**40)
    for _ in range(2):
        for model, wanted in zip((first, second), expected, strict=True):
            assert torch.equal(logits(models, model), wanted)
            assert list(models._full) == [model.digest]
