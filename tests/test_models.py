"""Models: what is wrong with files is said before anything is loaded, digests follow what acts, adapters switch off."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from harness import fingerprint
from harness.models import LoadedModels, check, check_tokenizers, pick_device, pick_dtype, weights_digest
from harness.specs import ModelSpec, Unusable, parse_model
from tests.conftest import TEMPLATE, save_adapter, save_tiny, tiny_tokenizer

WEIGHTS, ADAPTER = "model.safetensors", "adapter_model.safetensors"
HEAD = "lm_head.weight"


@pytest.fixture(autouse=True)
def _cache(tmp_path, monkeypatch):
    monkeypatch.setenv("LETHE_CACHE", str(tmp_path / "cache"))


def checked(path: Path, base: Path | None = None, **options):
    return check(parse_model(str(path)), checked(base) if base else None, **options)


def said(call, *arguments, **options) -> str:
    """The error of a call, which must be one line."""
    with pytest.raises(Unusable) as caught:
        call(*arguments, **options)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def write_json(path: Path, **values) -> None:
    """Sets keys of a JSON object in a file; None removes one."""
    table = (json.loads(path.read_text()) if path.is_file() else {}) | values
    path.write_text(json.dumps({k: v for k, v in table.items() if v is not None}))


def write_tensors(path: Path, change) -> None:
    """Rewrites a safetensors file after `change` has worked on its {name: tensor}."""
    tensors = load_file(path)
    change(tensors)
    save_file(tensors, path, metadata={"format": "pt"})


def poison(name: str, value: float):
    def change(tensors):
        tensors[name].view(-1)[-1] = value

    return change


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


# ---- checkpoints that cannot be used ---------------------------------------------------------------------------------

BROKEN = {
    "nan": (
        lambda p: write_tensors(p / WEIGHTS, poison(HEAD, float("nan"))),
        f"has NaN or Inf in {HEAD} ({WEIGHTS}); the training diverged: take an earlier checkpoint.",
    ),
    "inf": (
        lambda p: write_tensors(p / WEIGHTS, poison("model.layers.1.mlp.up_proj.weight", float("-inf"))),
        "has NaN or Inf in model.layers.1.mlp.up_proj.weight",
    ),
    "pickled weights": (pickle, "has pickled weights only (pytorch_model.bin), which can run code; save it as"),
    "no weights": (lambda p: (p / WEIGHTS).unlink(), f"has no {WEIGHTS} in"),
    "weights by another name": (lambda p: (p / WEIGHTS).rename(p / "weights.safetensors"), f"has no {WEIGHTS} in"),
    "missing shard": (
        lambda p: shard(p, missing=True),
        "lacks the weight file model-00002-of-00002.safetensors; copy the whole checkpoint.",
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
    "tokenizer with code of its own": (
        lambda p: write_json(p / "tokenizer_config.json", auto_map={"AutoTokenizer": ["tok.Mine", None]}),
        "wants to run code of its own ({'AutoTokenizer': ['tok.Mine', None]})",
    ),
}


@pytest.fixture
def copy(tmp_path, tiny_base) -> Path:
    """A copy of the tiny base to spoil."""
    return Path(shutil.copytree(tiny_base, tmp_path / "copy"))


@pytest.mark.parametrize(("spoil", "sentence"), BROKEN.values(), ids=BROKEN)
def test_a_broken_checkpoint_is_said_before_it_is_loaded(copy, spoil, sentence):
    spoil(copy)
    assert sentence in said(checked, copy)


def test_code_of_its_own_is_allowed_by_name(copy):
    write_json(copy / "tokenizer_config.json", auto_map={"AutoTokenizer": ["tok.Mine", None]})
    (copy / "tok.py").write_text("x = 1")
    first = checked(copy, trust_remote_code=True).digest
    (copy / "tok.py").write_text("x = 2  # acts otherwise")
    assert checked(copy, trust_remote_code=True).digest != first


@pytest.mark.parametrize("kind", ["samples", "served"])
def test_what_cannot_be_loaded_is_said(kind):
    spec = ModelSpec(f"{kind}:x", kind, "x")
    assert f"model '{kind}:x' cannot be loaded here; name a directory" in said(check, spec)


def test_a_checkpoint_that_lacks_a_weight_is_said_and_not_filled_at_random(copy):
    write_tensors(copy / WEIGHTS, lambda tensors: tensors.pop(HEAD))
    model, models = checked(copy), LoadedModels()
    sentence = said(models.active(model).__enter__)
    assert f"the checkpoint of '{copy}' lacks {HEAD} (1 in all); copy or save the whole model again." in sentence


# ---- adapters that cannot be used ------------------------------------------------------------------------------------


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
    "biases": (
        lambda p: write_json(p / "adapter_config.json", bias="all"),
        "(bias = 'all'), which cannot be switched off again; merge it into the base",
    ),
}


@pytest.fixture
def adapter(tmp_path, tiny_adapter) -> Path:
    """A copy of the tiny adapter to spoil."""
    return Path(shutil.copytree(tiny_adapter, tmp_path / "adapter"))


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


@pytest.mark.parametrize("name", ["org/base", "/elsewhere/base", "/elsewhere/base/"])
def test_a_base_is_recognised_by_its_last_name(adapter, tiny_base, name):
    write_json(adapter / "adapter_config.json", base_model_name_or_path=name)
    assert checked(adapter, tiny_base).is_adapter


def test_an_adapter_of_layers_with_turned_weights_fits(tmp_path):
    """GPT-2 keeps its weights as [inputs, outputs]."""
    from peft import LoraConfig, get_peft_model
    from transformers import GPT2Config, GPT2LMHeadModel

    base = GPT2LMHeadModel(GPT2Config(vocab_size=258, n_layer=1, n_embd=16, n_head=2, bos_token_id=0, eos_token_id=1))
    base.save_pretrained(tmp_path / "base")
    lora = get_peft_model(base, LoraConfig(r=2, target_modules=["c_attn"], fan_in_fan_out=True))
    lora.save_pretrained(tmp_path / "lora")
    write_json(tmp_path / "lora" / "adapter_config.json", base_model_name_or_path="base")
    assert checked(tmp_path / "lora", tmp_path / "base").is_adapter


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


# ---- tokenizers ------------------------------------------------------------------------------------------------------


def add_word(path: Path) -> None:
    tokenizer = tiny_tokenizer()
    tokenizer.add_tokens(["molecule"])
    tokenizer.save_pretrained(path)


def without_tokenizer(path: Path) -> None:
    for name in ("tokenizer.json", "tokenizer_config.json", "chat_template.jinja"):
        (path / name).unlink()


TOKENIZERS = {
    "vocabulary": (add_word, False, "the vocabularies of"),
    "special tokens": (
        lambda p: write_json(p / "tokenizer_config.json", eos_token="<s>"),
        False,
        "the special tokens of",
    ),
    "chat template": (
        lambda p: (p / "chat_template.jinja").write_text("{{ messages }}"),
        True,
        "the chat templates of",
    ),
    "no chat template": (lambda p: (p / "chat_template.jinja").unlink(), True, "the chat templates of"),
}


@pytest.mark.parametrize(("spoil", "chat", "sentence"), TOKENIZERS.values(), ids=TOKENIZERS)
def test_tokenizers_that_differ_are_said(copy, tiny_base, spoil, chat, sentence):
    spoil(copy)
    found = said(check_tokenizers, checked(tiny_base), checked(copy), chat)
    assert f"{sentence} '{tiny_base}' and '{copy}' differ, so their scores cannot be paired" in found
    assert "give both the base's tokenizer files." in found


def test_tokenizations_that_differ_are_said(copy, tiny_base):
    """The same vocabulary, cut otherwise: spaces are put before the first word."""
    table = json.loads((copy / "tokenizer.json").read_text())
    table["pre_tokenizer"]["add_prefix_space"] = True
    (copy / "tokenizer.json").write_text(json.dumps(table))
    assert "the tokenizations of" in said(check_tokenizers, checked(tiny_base), checked(copy), False)


SAME = {
    "the same files": (lambda p: None, True),
    "another template that nobody uses": (lambda p: (p / "chat_template.jinja").write_text("{{ messages }}"), False),
    "another padding, which is masked": (lambda p: write_json(p / "tokenizer_config.json", pad_token="<s>"), True),
}


@pytest.mark.parametrize(("change", "chat"), SAME.values(), ids=SAME)
def test_tokenizers_that_do_the_same_are_accepted(copy, tiny_base, change, chat):
    change(copy)
    assert check_tokenizers(checked(tiny_base), checked(copy), chat).chat_template == TEMPLATE


def test_a_base_without_the_template_that_is_needed_is_said(tmp_path):
    bare = checked(save_tiny(tmp_path / "bare", template=None))
    sentence = said(check_tokenizers, bare, bare, True)
    assert f"model '{tmp_path / 'bare'}' has no chat template, which the basket needs; add one" in sentence
    assert check_tokenizers(bare, bare, False)


def test_a_model_without_a_tokenizer_is_said(copy, tiny_base):
    without_tokenizer(copy)
    sentence = said(check_tokenizers, checked(tiny_base), checked(copy), False)
    assert f"the tokenizer of '{copy}' cannot be loaded (" in sentence
    assert sentence.endswith("; save it beside the weights.")


def test_an_adapter_uses_its_own_tokenizer_or_its_base_s(adapter, tiny_base):
    assert checked(adapter, tiny_base).tokenizer_path == tiny_base
    add_word(adapter)
    own = checked(adapter, tiny_base)
    assert own.tokenizer_path == adapter
    assert "the vocabularies of" in said(check_tokenizers, own.base, own, False)


# ---- device and dtype ------------------------------------------------------------------------------------------------


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
    write_tensors(copy / "model-00002-of-00002.safetensors", poison(HEAD, 0.5))
    assert checked(copy).digest != first


def test_the_digest_is_of_the_file_that_transformers_loads(copy):
    """It prefers a single file to an index that was left behind."""
    weights = (copy / WEIGHTS).read_bytes()
    shard(copy)
    (copy / WEIGHTS).write_bytes(weights)
    first = checked(copy).digest
    write_tensors(copy / WEIGHTS, poison(HEAD, 0.5))
    assert checked(copy).digest != first


def test_an_adapter_is_known_by_its_weights_settings_and_base(adapter, tiny_adapter, tiny_base, copy):
    original = checked(tiny_adapter, tiny_base).digest
    assert checked(adapter, tiny_base).digest == original
    write_tensors(copy / WEIGHTS, poison(HEAD, 0.5))
    write_json(adapter / "adapter_config.json", base_model_name_or_path=str(tiny_base))
    renamed = Path(shutil.copytree(copy, copy.parent / "other" / tiny_base.name))
    assert checked(adapter, renamed).digest != original
    write_json(adapter / "adapter_config.json", lora_alpha=99)
    assert checked(adapter, tiny_base).digest != original


def test_one_weight_of_an_adapter_changes_its_digest(adapter, tiny_adapter, tiny_base):
    write_tensors(adapter / ADAPTER, lambda tensors: next(iter(tensors.values())).view(-1)[:1].add_(1))
    assert checked(adapter, tiny_base).digest != checked(tiny_adapter, tiny_base).digest


# ---- what is remembered of a file ------------------------------------------------------------------------------------


@pytest.fixture
def hashed(monkeypatch) -> list[Path]:
    """The files that were really read, in order."""
    read, real = [], fingerprint._hash

    def hash_file(path: Path) -> str:
        read.append(path)
        return real(path)

    monkeypatch.setattr(fingerprint, "_hash", hash_file)
    return read


@pytest.fixture
def file(tmp_path) -> Path:
    (tmp_path / "file").write_text("first")
    return tmp_path / "file"


def test_an_unchanged_file_is_read_once(file, hashed):
    assert fingerprint.file_digest(file) == fingerprint.file_digest(file)
    assert len(hashed) == 1


def test_a_touched_or_renamed_file_keeps_its_digest(file, hashed):
    first = fingerprint.file_digest(file)
    os.utime(file, (1, 1))
    assert fingerprint.file_digest(file) == first
    assert fingerprint.file_digest(file.rename(file.with_name("renamed"))) == first


def test_a_file_replaced_by_one_of_its_size_and_date_is_read_again(file, hashed):
    """As archives and copies that keep dates do it."""
    first, stat = fingerprint.file_digest(file), file.stat()
    other = file.with_name("other")
    other.write_text("SECND")
    os.utime(other, ns=(stat.st_atime_ns, stat.st_mtime_ns))
    other.replace(file)
    assert (file.stat().st_size, file.stat().st_mtime_ns) == (stat.st_size, stat.st_mtime_ns)
    assert fingerprint.file_digest(file) != first
    assert len(hashed) == 2


@pytest.mark.parametrize("spoil", [Path.mkdir, lambda path: path.write_bytes(b"no database " * 99)])
def test_a_memory_that_cannot_be_used_costs_time_alone(file, hashed, tmp_path, spoil):
    first = fingerprint.file_digest(file)
    (tmp_path / "cache" / "fingerprints.sqlite").unlink()
    spoil(tmp_path / "cache" / "fingerprints.sqlite")
    assert fingerprint.file_digest(file) == fingerprint.file_digest(file) == first
    assert len(hashed) == 3


def test_a_digest_does_not_depend_on_the_order_of_keys_or_files(tmp_path):
    assert fingerprint.digest_of({"a": 1, "b": [2]}) == fingerprint.digest_of({"b": [2], "a": 1})
    assert fingerprint.digest_of({"a": [1, 2]}) != fingerprint.digest_of({"a": [2, 1]})
    files = [tmp_path / name for name in ("one", "two")]
    for path in files:
        path.write_text(path.name)
    assert fingerprint.files_digest(files) == fingerprint.files_digest(files[::-1])


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
