"""Packed weights: the same results and gradients, of the weights as they are now, in models and under adapters."""

from __future__ import annotations

import gc

import pytest
import torch
from torch import nn

from harness import onednn
from harness.evaluate import adapter_effect
from harness.models import LoadedModels
from harness.onednn import packed_weights
from harness.specs import Unusable
from harness.store import Store
from tests.conftest import save_adapter, save_tiny
from tests.spoiling import checked

LAYERS = ("0", "2")


@pytest.fixture
def model():
    """Two layers, one without bias, both large enough to be packed."""
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(200, 300), nn.ReLU(), nn.Linear(300, 150, bias=False)).requires_grad_(False)


@pytest.fixture
def x():
    return torch.randn(2, 5, 200, generator=torch.Generator().manual_seed(1))


def fill_memory(monkeypatch) -> None:
    def full(weight):
        raise RuntimeError("DefaultCPUAllocator: can't allocate memory")

    assert onednn.works()  # asked once, before the memory is full
    monkeypatch.setattr(onednn, "_reordered", full)


def uses_packed(model) -> bool:
    return any("forward" in vars(module) for module in model.modules())


def close(a, b) -> bool:
    return torch.allclose(a, b, atol=1e-5)


def test_the_kernels_are_there():
    assert onednn.works()


@pytest.mark.parametrize("mode", [torch.enable_grad, torch.no_grad, torch.inference_mode])
def test_results_are_the_same_and_the_model_is_its_own_again_afterwards(model, x, mode):
    with mode():
        plain = model(x)
        with packed_weights(model):
            assert uses_packed(model)
            packed = model(x)
            assert model(x[:0]).shape == (0, 5, 150)
        assert not uses_packed(model)
        assert close(packed, plain)
        assert torch.equal(model(x), plain)


def test_gradients_go_through_to_what_was_put_in(model, x):
    gradients = []
    for block in (packed_weights(nn.Identity()), packed_weights(model)):
        own = x.clone().requires_grad_()
        with block:
            (model(own) ** 2).sum().backward()
        gradients.append(own.grad)
    assert close(*gradients)


def test_a_weight_that_learns_is_trained_as_without(model, x):
    model.requires_grad_(True)
    with packed_weights(model):
        (model(x) ** 2).sum().backward()
        assert all(parameter.grad.abs().sum() > 0 for parameter in model.parameters())
        torch.optim.SGD(model.parameters(), lr=1e-3).step()
        with torch.no_grad():
            inside = model(x)
    with torch.no_grad():
        assert torch.equal(inside, model(x))


def changed_in_place(layer) -> None:
    with torch.no_grad():
        layer.weight.mul_(2)


def given_other_data(layer) -> None:
    layer.weight.data = 2 * layer.weight.data


@pytest.mark.parametrize("change", [changed_in_place, given_other_data])
def test_a_weight_that_changes_is_followed(model, x, change):
    with torch.no_grad():
        with packed_weights(model):
            before = model(x)
            change(model[0])
            inside = model(x)
        assert close(inside, model(x))
        with packed_weights(model):
            assert close(model(x), inside)
        assert not close(before, inside)


def test_nothing_is_packed_that_the_memory_does_not_hold_twice(model, x, monkeypatch):
    needed = sum(model.get_submodule(name).weight.nbytes for name in LAYERS)
    monkeypatch.setattr(onednn, "free_memory", lambda device: 2 * needed)
    with packed_weights(model):
        assert not uses_packed(model)
    monkeypatch.setattr(onednn, "free_memory", lambda device: 2 * needed + 1)
    with packed_weights(model):
        assert uses_packed(model)


def test_memory_that_runs_out_on_the_way_is_given_back(model, x, monkeypatch):
    plain = model(x)
    fill_memory(monkeypatch)
    with packed_weights(model):
        assert torch.equal(model(x), plain)


def test_a_torch_without_the_kernels_computes_as_ever(model, x, monkeypatch):
    def missing(weight):
        raise NotImplementedError("no such operator")

    plain = model(x)
    monkeypatch.setattr(onednn, "_reordered", missing)
    onednn.works.cache_clear()
    try:
        with packed_weights(model):
            assert torch.equal(model(x), plain)
    finally:
        onednn.works.cache_clear()


def test_packed_weights_go_with_their_model():
    model, kept = nn.Linear(200, 300), len(onednn._packed)
    with packed_weights(model):
        assert len(onednn._packed) == kept + 1
    del model
    gc.collect()
    assert len(onednn._packed) == kept


@pytest.fixture
def tiny(tmp_path, own_cache, monkeypatch):
    """scale -> (base, an adapter of it), whose small weights are packed too."""
    monkeypatch.setattr(onednn, "LEAST", 0)

    def make(scale: float):
        path = save_tiny(tmp_path / "base")
        return checked(path), checked(save_adapter(tmp_path / "adapter", path, scale=scale), path)

    return make


def test_an_idle_adapter_is_told_though_the_memory_holds_one_side_packed_alone(tiny, tmp_path, monkeypatch):
    _, adapter = tiny(0.0)
    rooms, product = iter([10**12]), onednn._product
    assert onednn.works()
    monkeypatch.setattr(onednn, "free_memory", lambda device: next(rooms, 0))
    monkeypatch.setattr(onednn, "_product", lambda *given: product(*given) + 1e-6)  # sums in another order
    with pytest.raises(Unusable, match="changes no logit"):
        adapter_effect(adapter, LoadedModels(), Store(tmp_path))


def test_nothing_packed_of_an_adapter_that_was_switched_off_is_kept(tiny):
    base, adapter = tiny(0.5)
    models = LoadedModels()
    for side in (base, adapter):
        with models.active(side) as loaded:
            assert uses_packed(loaded)
    layers = [module for module in loaded.modules() if module in onednn._packed]
    assert layers
    assert all(onednn._packed[layer].of(layer.weight) for layer in layers)


def test_base_and_adapters_give_what_they_give_without(tiny):
    base, adapter = tiny(0.5)
    ids = torch.arange(1, 9)[None]

    def logits(packed: bool) -> list[torch.Tensor]:
        models, found = LoadedModels(), []
        for side in (base, adapter, base, adapter):
            with models.active(side, packed) as loaded, torch.inference_mode():
                assert uses_packed(loaded) == packed
                found.append(loaded(ids).logits)
        return found

    plain, packed = logits(False), logits(True)
    assert all(map(close, packed, plain))
    assert not close(packed[0], packed[1])
    assert torch.equal(packed[0], packed[2])
    assert torch.equal(packed[1], packed[3])


def test_of_a_folded_adapter_nothing_is_held_but_what_is_packed(tiny):
    base, adapter = tiny(0.5)
    models, ids = LoadedModels(), torch.arange(1, 9)[None]
    with models.active(base) as loaded:
        own = {name: weight.data_ptr() for name, weight in loaded.named_parameters()}
    with models.active(adapter) as loaded:
        lying = [weight.data_ptr() for name, weight in loaded.named_parameters() if "lora_" not in name]
        assert set(lying) == set(own.values())
        with torch.inference_mode():
            folded = loaded(ids).logits
    with models.active(adapter, packed=False) as loaded, torch.inference_mode():
        assert close(folded, loaded(ids).logits)


def test_no_gradient_passes_a_weight_that_another_stands_in_for(model, x):
    assert onednn.stand_in(model[0], 2 * model[0].weight)
    with pytest.raises(RuntimeError, match="no gradient"):
        model(x.requires_grad_())
    with torch.no_grad():
        inside = model[0](x)
    onednn.own_again([model[0]])
    assert close(inside - model[0].bias, 2 * (model[0](x) - model[0].bias))


def test_a_weight_that_cannot_be_packed_does_not_stand_in(model, x, monkeypatch):
    plain = model(x)
    fill_memory(monkeypatch)
    assert not onednn.stand_in(model[0], 2 * model[0].weight)
    assert torch.equal(model(x), plain)
