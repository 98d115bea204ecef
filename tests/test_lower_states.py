"""Lower blocks that base and adapters have in common are run once for what is scored, and nothing else changes."""

from __future__ import annotations

import pytest
import torch
from peft import LoraConfig, get_peft_model
from torch import nn
from transformers import LlamaConfig, LlamaForCausalLM

from harness import lower_states
from harness.backends import reader
from harness.blocks import above
from harness.models import LoadedModels
from tests.conftest import save_tiny
from tests.spoiling import checked

PAIRS = [([1, 2, 3, 4], [5, 6]), ([1, 2, 3, 9], [7]), ([8, 8, 2], [3, 4, 5]), ([8, 8, 2], [4])]


@pytest.fixture
def base(tmp_path, own_cache):
    return save_tiny(tmp_path / "base", layers=4)


@pytest.fixture
def adapter(tmp_path, base):
    """name, what it changes -> a checked adapter of the base."""

    def make(name: str, **changes):
        torch.manual_seed(len(name))
        model = get_peft_model(LlamaForCausalLM.from_pretrained(base), LoraConfig(r=2, **changes))
        for at, parameter in model.named_parameters():
            if "lora_B" in at:
                torch.nn.init.normal_(parameter, std=0.5)
        model.save_pretrained(tmp_path / name)
        return checked(tmp_path / name, base)

    return make


@pytest.fixture
def upper(adapter):
    return adapter("upper", target_modules=["q_proj", "down_proj"], layers_to_transform=[2, 3])


def scores(models: LoadedModels, model, **options) -> tuple[list, list[int]]:
    """(log-likelihoods of PAIRS, tokens that went into the first block and into the last)."""
    with reader(models, model, 0, **options) as lm:
        counted = [0, 0]
        stack = lower_states._inner(lm.model).layers
        handles = [stack[at].register_forward_pre_hook(_count(counted, at)) for at in (0, -1)]
        found = [answer for _, (answer, _) in sorted(lm.score(PAIRS))]
        for handle in handles:
            handle.remove()
    return found, counted


def _count(counted: list[int], at: int):
    def hook(module, args):
        counted[at] += args[0].shape[1]

    return hook


def alone(model, **options) -> list[float]:
    return scores(LoadedModels(), model, **options)[0]


def test_the_second_model_runs_only_the_blocks_that_differ(base, upper):
    models = LoadedModels(candidates=[upper])
    first, ran = scores(models, checked(base))
    assert ran[0] == ran[1] > 0
    second, again = scores(models, upper)
    assert again == [0, ran[1]]
    assert first == pytest.approx(alone(checked(base)), abs=1e-5)
    assert second == pytest.approx(alone(upper), abs=1e-5)
    assert max(abs(a - b) for a, b in zip(first, second, strict=True)) > 0.01


def test_an_adapter_that_changes_a_lower_block_has_nothing_in_common(base, upper, adapter):
    lower = adapter("lower", target_modules=["v_proj"], layers_to_transform=[1])
    models = LoadedModels(candidates=[upper])
    scores(models, checked(base))
    found, ran = scores(models, lower)
    assert ran[0] == ran[1]
    assert found == pytest.approx(alone(lower), abs=1e-5)


@pytest.mark.parametrize(
    "changes",
    [
        {"target_modules": ["v_proj"]},
        {"target_modules": ["embed_tokens"]},
        {"target_modules": ["v_proj"], "layers_to_transform": [3], "modules_to_save": ["lm_head"]},
    ],
)
def test_nothing_is_shared_where_the_first_block_or_what_is_no_block_changes(base, adapter, changes):
    changing = adapter("changing", **changes)
    models = LoadedModels(candidates=[changing])
    scores(models, checked(base))
    found, ran = scores(models, changing)
    assert ran[0] == ran[1]
    assert found == pytest.approx(alone(changing), abs=1e-5)


def test_more_than_the_memory_holds_is_computed_again(base, upper, monkeypatch):
    monkeypatch.setattr("harness.blocks.LARGEST", 0)
    models = LoadedModels(candidates=[upper])
    _, ran = scores(models, checked(base))
    found, again = scores(models, upper)
    assert again == ran
    assert found == pytest.approx(alone(upper), abs=1e-5)


def test_a_check_that_asks_again_computes_all_of_it_again(base, upper):
    models = LoadedModels(candidates=[upper])
    _, ran = scores(models, checked(base), small=True)
    _, again = scores(models, checked(base), small=True)
    assert again == ran


def test_a_model_whose_parts_are_named_otherwise_is_read_whole(base, upper):
    models = LoadedModels(candidates=[upper])
    with models.active(checked(base)) as loaded:
        loaded.base_model_prefix = ""  # transformers' default, for models of other people's code
        assert models.below(checked(base), loaded) is None


def test_states_are_let_go_when_another_model_needs_the_memory(base, upper, monkeypatch):
    models = LoadedModels(candidates=[upper])
    _, ran = scores(models, checked(base))
    monkeypatch.setattr("harness.models.free_memory", lambda device: 0)
    scores(models, checked(save_tiny(base.parent / "other", seed=1)))
    monkeypatch.undo()
    found, again = scores(models, upper)
    assert again == ran
    assert found == pytest.approx(alone(upper), abs=1e-5)


def test_a_cut_leaves_another_list_of_as_many_blocks_alone():
    class Tower(nn.Module):
        def __init__(self):
            super().__init__()
            self.tower = nn.ModuleList(nn.Identity() for _ in range(2))
            self.blocks = nn.ModuleList(nn.Identity() for _ in range(4))
            self.config = LlamaConfig(num_hidden_layers=4)

    model = Tower()
    tower, blocks = model.tower, model.blocks
    with above(model, 2):
        assert len(model.blocks) == 2
        assert model.tower is tower
    assert model.tower is tower
    assert model.blocks is blocks
    assert model.config.num_hidden_layers == 4
