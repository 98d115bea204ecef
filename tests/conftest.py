"""Tiny seeded models for the tests: built here, saved as real checkpoints, loaded by the same code as any other."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:  # this file is imported by gates too, and a gate over samples needs no torch
    from transformers import LlamaForCausalLM, PreTrainedTokenizerFast

TEMPLATE = (
    "{% for m in messages %}<|{{ m['role'] }}|>{{ m['content'] }}</s>{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>{% endif %}"
)


def tiny_tokenizer(template: str | None = TEMPLATE) -> PreTrainedTokenizerFast:
    """Bytes as tokens, and a BOS and an EOS: any text goes in and comes out."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocabulary = {token: n for n, token in enumerate(["<s>", "</s>", *alphabet])}
    tokenizer = Tokenizer(models.BPE(vocab=vocabulary, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    fast = PreTrainedTokenizerFast(tokenizer_object=tokenizer, bos_token="<s>", eos_token="</s>", pad_token="</s>")
    fast.chat_template = template
    return fast


def tiny_model(seed: int = 0, layers: int = 2, positions: int = 2048) -> LlamaForCausalLM:
    """A Llama with grouped-query attention and weights large enough that its choices are far from ties."""
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.manual_seed(seed)
    config = LlamaConfig(
        vocab_size=258,
        hidden_size=48,
        intermediate_size=96,
        num_hidden_layers=layers,
        num_attention_heads=6,
        num_key_value_heads=2,
        head_dim=8,
        max_position_embeddings=positions,
        initializer_range=0.3,
        bos_token_id=0,
        eos_token_id=1,
        pad_token_id=1,
        tie_word_embeddings=False,
    )
    return LlamaForCausalLM(config).eval()


def save_tiny(path: Path, seed: int = 0, template: str | None = TEMPLATE, **options) -> Path:
    """A checkpoint directory as save_pretrained writes it."""
    tiny_model(seed, **options).save_pretrained(path)
    tiny_tokenizer(template).save_pretrained(path)
    return path


def save_adapter(path: Path, base: Path, scale: float, seed: int = 0) -> Path:
    """A LoRA adapter of a tiny base; scale 0 changes nothing, larger ones more."""
    import torch
    from peft import LoraConfig, get_peft_model
    from transformers import LlamaForCausalLM

    torch.manual_seed(seed)
    model = LlamaForCausalLM.from_pretrained(base)
    model = get_peft_model(model, LoraConfig(r=2, target_modules=["q_proj", "v_proj", "down_proj"]))
    for name, parameter in model.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(parameter, std=scale) if scale else torch.nn.init.zeros_(parameter)
    model.save_pretrained(path)
    config = json.loads((path / "adapter_config.json").read_text())
    config["base_model_name_or_path"] = str(base)
    (path / "adapter_config.json").write_text(json.dumps(config))
    return path


@pytest.fixture(scope="session")
def tiny_base(tmp_path_factory) -> Path:
    return save_tiny(tmp_path_factory.mktemp("models") / "base")


@pytest.fixture(scope="session")
def tiny_adapter(tmp_path_factory, tiny_base) -> Path:
    """An adapter that spoils its base."""
    return save_adapter(tmp_path_factory.mktemp("models") / "spoiled", tiny_base, scale=0.5)


@pytest.fixture(scope="session")
def taught(tmp_path_factory) -> Path:
    """A base that knows the answers of the tiny benchmarks; taught once, by the first of xdist's workers to need it."""
    from harness.assets import publish
    from tests.tiny_audit import teach, write_tasks

    root = tmp_path_factory.getbasetemp()
    root = root.parent if "PYTEST_XDIST_WORKER" in os.environ else root
    made = publish(root / "lessons", lambda made: teach(save_tiny(made / "untaught"), write_tasks(made / "tasks")))
    return made / "tasks" / "taught"


@pytest.fixture(scope="session")
def spoiled(taught, tmp_path_factory) -> Path:
    """An adapter that makes it forget them."""
    return save_adapter(tmp_path_factory.mktemp("spoiled") / "adapter", taught, scale=0.5)


@pytest.fixture
def copy(tmp_path, tiny_base) -> Path:
    """A copy of the tiny base to spoil."""
    return Path(shutil.copytree(tiny_base, tmp_path / "copy"))


@pytest.fixture
def adapter(tmp_path, tiny_adapter) -> Path:
    """A copy of the tiny adapter to spoil."""
    return Path(shutil.copytree(tiny_adapter, tmp_path / "adapter"))


@pytest.fixture
def own_cache(tmp_path, monkeypatch) -> None:
    """A cache that no other test has written to."""
    monkeypatch.setenv("LETHE_CACHE", str(tmp_path / "cache"))


@pytest.fixture(scope="module")
def module_cache(tmp_path_factory) -> Iterator[None]:
    """The same for a whole file, whose audits share it."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("LETHE_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield


@pytest.fixture(autouse=True, scope="session")
def _quiet_and_offline():
    """Two threads at most, no progress bars of libraries, no hub."""
    import torch
    from transformers.utils import logging

    torch.set_num_threads(min(2, torch.get_num_threads()))
    logging.disable_progress_bar()
