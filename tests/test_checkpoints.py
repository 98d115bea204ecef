"""Checkpoints: what is wrong with their files is said before anything is loaded, digests follow what acts."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from harness.checkpoints import check, weights_digest
from harness.specs import ModelSpec
from tests.spoiling import HEAD, WEIGHTS, add_word, checked, poison, said, write_json, write_tensors

pytestmark = pytest.mark.usefixtures("own_cache")


SECOND = "model-00002-of-00002.safetensors"


def shard(path: Path, missing: bool = False) -> None:
    """Splits a checkpoint in two files and an index."""
    tensors = load_file(path / WEIGHTS)
    names = {name: f"model-0000{1 + (name == HEAD)}-of-00002.safetensors" for name in tensors}
    for file in set(names.values()):
        save_file({n: t for n, t in tensors.items() if names[n] == file}, path / file, metadata={"format": "pt"})
    write_json(path / f"{WEIGHTS}.index.json", metadata={}, weight_map=names)
    (path / WEIGHTS).unlink()
    if missing:
        (path / names[HEAD]).unlink()


def pickle(path: Path) -> None:
    torch.save(load_file(path / WEIGHTS), path / "pytorch_model.bin")
    (path / WEIGHTS).unlink()


BROKEN = {
    "nan": (
        lambda p: write_tensors(p / WEIGHTS, poison(HEAD, float("nan"))),
        f"has NaN or Inf in {HEAD} ({WEIGHTS}); the training diverged: take an earlier checkpoint.",
    ),
    "inf": (
        lambda p: write_tensors(p / WEIGHTS, poison("model.layers.1.mlp.up_proj.weight", float("-inf"))),
        "has NaN or Inf in model.layers.1.mlp.up_proj.weight",
    ),
    "a weight of another size": (
        lambda p: write_tensors(p / WEIGHTS, lambda tensors: tensors.update({HEAD: torch.ones(300, 48)})),
        f"has {HEAD} of shape [300, 48] in {WEIGHTS} and [258, 48] by its config.json; copy both from one checkpoint.",
    ),
    "config of a larger model": (
        lambda p: write_json(p / "config.json", intermediate_size=128),
        "has model.layers.0.mlp.down_proj.weight of shape [48, 96] in",
    ),
    "a shard of another model": (
        lambda p: (shard(p), write_tensors(p / SECOND, lambda tensors: tensors.update({HEAD: torch.ones(258, 64)}))),
        f"has {HEAD} of shape [258, 64] in {SECOND} and",
    ),
    "pickled weights": (pickle, "has pickled weights only (pytorch_model.bin), which can run code; save it as"),
    "no weights": (lambda p: (p / WEIGHTS).unlink(), f"has no {WEIGHTS} in"),
    "weights by another name": (lambda p: (p / WEIGHTS).rename(p / "weights.safetensors"), f"has no {WEIGHTS} in"),
    "missing shard": (
        lambda p: shard(p, missing=True),
        f"lacks the weight file {SECOND}; copy the whole checkpoint.",
    ),
    "truncated weights": (
        lambda p: os.truncate(p / WEIGHTS, 3000),
        f"weight file {WEIGHTS} of",
    ),
    "empty weights": (lambda p: os.truncate(p / WEIGHTS, 0), "cannot be read ("),
    "garbage weights": (lambda p: (p / WEIGHTS).write_bytes(b"garbage" * 99), "; copy it again."),
    "truncated config": (
        lambda p: os.truncate(p / "config.json", 30),
        "config.json of model",
    ),
    "binary config": (lambda p: (p / "config.json").write_bytes(b"\xff\xfe\x00"), "; copy the whole directory again."),
    "config is a list": (lambda p: (p / "config.json").write_text("[]"), "(it holds no JSON object)"),
    "no causal language model": (
        lambda p: write_json(p / "config.json", model_type="vit"),
        "is no causal language model that transformers can build (",
    ),
    "unknown kind of model": (
        lambda p: write_json(p / "config.json", model_type="abacus"),
        "; check its config.json, or update transformers.",
    ),
    "code of its own": (
        lambda p: write_json(p / "config.json", auto_map={"AutoModelForCausalLM": "modeling.Mine"}),
        (
            "wants to run code of its own ({'AutoModelForCausalLM': 'modeling.Mine'}); read it, then allow it with"
            " --trust-remote-code."
        ),
    ),
    "code of another repository": (
        lambda p: write_json(p / "config.json", auto_map={"AutoModelForCausalLM": "org/base--modeling.Mine"}),
        "runs code out of the repository org/base, which can change unseen; copy its .py files beside the weights",
    ),
    "tokenizer with code of its own": (
        lambda p: write_json(p / "tokenizer_config.json", auto_map={"AutoTokenizer": ["tok.Mine", None]}),
        "wants to run code of its own ({'AutoTokenizer': ['tok.Mine', None]})",
    ),
}


@pytest.mark.parametrize(("spoil", "sentence"), BROKEN.values(), ids=BROKEN)
def test_a_broken_checkpoint_is_said_before_it_is_loaded(copy, spoil, sentence):
    spoil(copy)
    assert sentence in said(checked, copy)


NAMED_OTHERWISE = {
    "an unknown name": lambda tensors: tensors.update({"rotary.inv_freq": torch.ones(7)}),
    "names without their prefix": lambda tensors: [
        tensors.update({name.removeprefix("model."): tensors.pop(name)}) for name in list(tensors) if name != HEAD
    ],
    "turned axes": lambda tensors: tensors.update({HEAD: tensors[HEAD].t().contiguous()}),
}


@pytest.mark.parametrize("change", NAMED_OTHERWISE.values(), ids=NAMED_OTHERWISE)
def test_weights_that_loading_may_rename_or_turn_are_accepted(copy, change):
    write_tensors(copy / WEIGHTS, change)
    assert checked(copy)


def test_packed_weights_have_shapes_of_their_own(copy):
    write_json(copy / "config.json", quantization_config={"quant_method": "bitsandbytes", "load_in_4bit": True})
    write_tensors(copy / WEIGHTS, lambda tensors: tensors.update({HEAD: torch.ones(6192, 1, dtype=torch.uint8)}))
    assert checked(copy)


def test_code_of_its_own_is_allowed_by_name(copy):
    write_json(copy / "tokenizer_config.json", auto_map={"AutoTokenizer": ["tok.Mine", None]})
    (copy / "tok.py").write_text("x = 1")
    first = checked(copy, trust_remote_code=True).digest
    (copy / "tok.py").write_text("x = 2  # acts otherwise")
    assert checked(copy, trust_remote_code=True).digest != first


def test_what_cannot_be_loaded_is_said():
    spec = ModelSpec("samples:x", "samples", "x")
    assert "model 'samples:x' cannot be loaded here; name a directory" in said(check, spec)


# ---- digests ---------------------------------------------------------------------------------------------------------

ACTS = {
    "a weight": lambda p: write_tensors(p / WEIGHTS, poison(HEAD, 0.5)),
    "the configuration": lambda p: write_json(p / "config.json", rope_theta=77.0),
    "the chat template": lambda p: (p / "chat_template.jinja").write_text("{{ messages }}"),
    "the tokenizer": add_word,
    "a generation setting": lambda p: write_json(p / "generation_config.json", temperature=0.3),
    "no generation settings": lambda p: (p / "generation_config.json").unlink(),
}
ACTS_NOT = {
    "nothing": lambda p: None,
    "a note": lambda p: (p / "README.md").write_text("note"),
    "a date": lambda p: os.utime(p / WEIGHTS, (1, 1)),
    "where it was saved": lambda p: write_json(p / "config.json", _name_or_path="/elsewhere", transformers_version="4"),
    "a pickled twin": lambda p: (p / "pytorch_model.bin").write_bytes(b"x"),
}


@pytest.mark.parametrize("change", ACTS.values(), ids=ACTS)
def test_whatever_acts_changes_the_digest(copy, tiny_base, change):
    change(copy)
    assert checked(copy).digest != checked(tiny_base).digest


@pytest.mark.parametrize("change", ACTS_NOT.values(), ids=ACTS_NOT)
def test_the_same_content_has_the_same_digest_anywhere(copy, tiny_base, change):
    change(copy)
    assert checked(copy).digest == checked(tiny_base).digest
    assert weights_digest(checked(copy)) == weights_digest(checked(tiny_base))


def test_a_sharded_checkpoint_is_known_by_all_its_shards(copy):
    shard(copy)
    first = checked(copy).digest
    write_tensors(copy / SECOND, poison(HEAD, 0.5))
    assert checked(copy).digest != first


def test_the_digest_is_of_the_file_that_transformers_loads(copy):
    """It prefers a single file to an index that was left behind."""
    weights = (copy / WEIGHTS).read_bytes()
    shard(copy)
    (copy / WEIGHTS).write_bytes(weights)
    first = checked(copy).digest
    write_tensors(copy / WEIGHTS, poison(HEAD, 0.5))
    assert checked(copy).digest != first
