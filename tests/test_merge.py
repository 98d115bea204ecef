"""Merging towards the base: scale 0 is the base and 1 the candidate, for all candidates that are not refused."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from peft import LoraConfig, PeftModel, get_peft_model
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM, LlamaForCausalLM

from harness.checkpoints import weights_digest
from harness.specs import ModelSpec, parse_model
from mitigations.interpolation import Setting
from mitigations.merge import merge
from tests.conftest import save_tiny, tiny_model, tiny_tokenizer
from tests.spoiling import ADAPTER, HEAD, WEIGHTS, checked, said, write_json, write_tensors

EMBEDDINGS = "model.embed_tokens.weight"
IDS = torch.arange(3, 40)[None]
LAYERS = 3


@pytest.fixture(autouse=True)
def _cache(tmp_path, monkeypatch):
    monkeypatch.setenv("LETHE_CACHE", str(tmp_path / "cache"))


@pytest.fixture(scope="module")
def base(tmp_path_factory) -> Path:
    return save_tiny(tmp_path_factory.mktemp("models") / "base", layers=LAYERS)


@pytest.fixture(scope="module")
def tuned(tmp_path_factory) -> Path:
    """A fine-tune of `base` in full weights."""
    return save_full(tmp_path_factory.mktemp("models") / "tuned", noise=0.05)


def save_full(path: Path, noise: float = 0.0, tied: bool = False, dtype=torch.float32, **options) -> Path:
    """The base in full weights, or a fine-tune of it."""
    model = tiny_model(layers=LAYERS)
    model.config.tie_word_embeddings = tied
    if tied:
        model.lm_head.weight = model.model.embed_tokens.weight
    torch.manual_seed(1)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter += noise * torch.randn_like(parameter)
    model.to(dtype).save_pretrained(path, **options)
    tiny_tokenizer().save_pretrained(path)
    return path


ADAPTERS = {
    "plain": {},
    "rslora": {"use_rslora": True},
    "lora_bias": {"lora_bias": True},
    "patterns": {"rank_pattern": {"layers.1.self_attn.q_proj": 2}, "alpha_pattern": {"layers.0.self_attn.v_proj": 3}},
    "embeddings": {"target_modules": ["embed_tokens", "v_proj"]},
    "whole head": {"modules_to_save": ["lm_head"]},
    "one layer": {"layers_to_transform": [2]},
}


def save_lora(path: Path, base: Path, dtype=torch.float32, **options) -> Path:
    """An adapter that changes much, with numbers in all that peft starts at zero."""
    torch.manual_seed(2)
    options = {"r": 4, "lora_alpha": 6, "target_modules": ["q_proj", "v_proj", "down_proj"]} | options
    model = get_peft_model(LlamaForCausalLM.from_pretrained(base), LoraConfig(**options))
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "lora_B" in name or "lora_embedding" in name or "modules_to_save" in name:
                parameter += 0.2 * torch.randn_like(parameter)
    model.save_pretrained(path)
    write_json(path / "adapter_config.json", base_model_name_or_path=str(base))
    save_file({name: tensor.to(dtype) for name, tensor in load_file(path / ADAPTER).items()}, path / ADAPTER)
    return path


def merged(base: Path, candidate: Path, out: Path, *settings, **more) -> Path:
    models = checked(base), checked(candidate, base if (candidate / ADAPTER).is_file() else None)
    assert merge(*models, out, *settings, **more) == parse_model(str(out))
    return out


def load(path: Path, base: Path):
    """As a user would: by transformers, and by peft where it is an adapter."""
    if (path / ADAPTER).is_file():
        return PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(base), path).eval()
    return AutoModelForCausalLM.from_pretrained(path).eval()


@torch.no_grad()
def logits(path: Path, base: Path) -> torch.Tensor:
    return load(path, base)(IDS).logits


@torch.no_grad()
def outputs(path: Path, base: Path) -> dict[str, torch.Tensor]:
    """What the parts that adapters are put on make of the same input, each for itself."""
    model = load(path, base)
    model = model.base_model.model if isinstance(model, PeftModel) else model
    torch.manual_seed(3)
    wide, narrow = torch.randn(5, 96), torch.randn(5, 48)
    given = {"embed_tokens": IDS, "lm_head": narrow, "q_proj": narrow, "v_proj": narrow, "down_proj": wide}
    kinds = ((name, module, given.get(name.rsplit(".", 1)[-1])) for name, module in model.named_modules())
    return {name: module(put) for name, module, put in kinds if put is not None and ".base_layer" not in name}


def shares(merged: dict, base: dict, candidate: dict) -> dict[str, float]:
    """How far each part that the candidate changed has gone from base to candidate, which must be on a line."""
    found = {}
    for name, before in base.items():
        update = candidate[name] - before
        if update.abs().max() > 1e-3:
            found[name] = float((merged[name] - before).flatten() @ update.flatten() / update.square().sum())
            torch.testing.assert_close(merged[name], before + found[name] * update, atol=1e-4, rtol=1e-4)
    assert found
    return found


def tensors(path: Path) -> dict[str, torch.Tensor]:
    return {name: tensor for file in sorted(path.glob("*.safetensors")) for name, tensor in load_file(file).items()}


def assert_same_tensors(one: Path, other: Path) -> None:
    ours, theirs = tensors(one), tensors(other)
    assert ours.keys() == theirs.keys()
    assert all(ours[name].dtype == theirs[name].dtype and torch.equal(ours[name], theirs[name]) for name in ours)


# ---- adapters --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("options", ADAPTERS.values(), ids=ADAPTERS)
def test_an_adapter_at_scale_0_is_its_base_and_at_scale_1_itself(tmp_path, base, options):
    candidate = save_lora(tmp_path / "candidate", base, **options)
    none, whole = (merged(base, candidate, tmp_path / f"scale{scale}", scale) for scale in (0, 1))
    assert (logits(candidate, base) - logits(base, base)).abs().max() > 0.1
    assert torch.equal(logits(none, base), logits(base, base))
    torch.testing.assert_close(logits(whole, base), logits(candidate, base), atol=1e-4, rtol=0)
    assert_same_tensors(whole, candidate)


@pytest.mark.parametrize("options", ADAPTERS.values(), ids=ADAPTERS)
def test_a_scale_is_the_share_of_an_adapters_update_that_is_kept(tmp_path, base, options):
    candidate = save_lora(tmp_path / "candidate", base, **options)
    out = merged(base, candidate, tmp_path / "out", 0.3)
    found = shares(*(outputs(path, base) for path in (out, base, candidate)))
    assert found == pytest.approx(dict.fromkeys(found, 0.3), abs=1e-3)


def test_a_ramp_goes_from_the_first_layer_of_the_base_to_its_last(tmp_path, base):
    options = {"target_modules": ["embed_tokens", "v_proj", "lm_head"]}
    candidate = save_lora(tmp_path / "candidate", base, **options)
    out = merged(base, candidate, tmp_path / "out", 0.2, 0.8)
    found = shares(*(outputs(path, base) for path in (out, base, candidate)))
    layers = {f"model.layers.{n}.self_attn.v_proj": share for n, share in enumerate((0.2, 0.5, 0.8))}
    assert found == pytest.approx({"model.embed_tokens": 0.2, **layers, "lm_head": 0.2}, abs=1e-3)


def test_a_ramp_counts_the_layers_that_an_adapter_leaves_out(tmp_path, base):
    candidate = save_lora(tmp_path / "candidate", base, target_modules=["v_proj"], layers_to_transform=[1])
    out = merged(base, candidate, tmp_path / "out", 0, 1)
    found = shares(*(outputs(path, base) for path in (out, base, candidate)))
    assert found == pytest.approx({"model.layers.1.self_attn.v_proj": 0.5}, abs=1e-3)


def test_a_ramp_counts_layers_and_not_experts_and_a_single_layer_is_the_deepest():
    expert = "layers.1.mlp.experts.7.up_proj.weight"
    assert Setting(0.2, 0.8).scale_of([expert, "layers.2.mlp.router"])(expert) == pytest.approx(0.5)
    assert Setting(0.2, 0.8).scale_of(["h.0.attn.weight"])("h.0.attn.weight") == 0.8


def test_an_adapter_keeps_its_configuration_its_dtype_and_its_tokenizer(tmp_path, base):
    candidate = save_lora(tmp_path / "candidate", base, dtype=torch.float16)
    tiny_tokenizer("{{ messages }}").save_pretrained(candidate)
    out = merged(base, candidate, tmp_path / "out", 0.5)
    assert {tensor.dtype for tensor in tensors(out).values()} == {torch.float16}
    for name in ("adapter_config.json", "tokenizer.json", "chat_template.jinja"):
        assert (out / name).read_bytes() == (candidate / name).read_bytes()


def test_a_merged_adapter_is_checked_as_any_other_and_knows_its_base(tmp_path, base, tuned):
    candidate = save_lora(tmp_path / "candidate", base)
    out = merged(base, candidate, tmp_path / "out", 0.5, 0.75)
    assert checked(out, base).is_adapter
    assert "was trained on other base weights" in said(checked, out, tuned)
    assert json.loads((out / "lethe.json").read_text()) == {
        "base_weights": weights_digest(checked(base)),
        "merge": {
            "candidate": checked(candidate, base).digest,
            "scale": 0.5,
            "deepest": 0.75,
            "method": "linear",
            "seed": 0,
        },
    }


# ---- full weights ----------------------------------------------------------------------------------------------------

SMALL = {"max_shard_size": "60KB"}


@pytest.mark.parametrize("of_candidate", [{}, SMALL], ids=["one file", "shards"])
@pytest.mark.parametrize("of_base", [{}, SMALL], ids=["one file", "shards"])
def test_full_weights_at_scale_0_are_the_base_and_at_scale_1_the_candidate(tmp_path, of_base, of_candidate):
    base = save_full(tmp_path / "base", **of_base)
    candidate = save_full(tmp_path / "candidate", noise=0.05, **of_candidate)
    for scale, same in ((0, base), (1, candidate)):
        out = merged(base, candidate, tmp_path / f"scale{scale}", scale, shard=100_000)
        assert len(list(out.glob("*.safetensors"))) > 1
        assert_same_tensors(out, same)
        assert torch.equal(logits(out, base), logits(same, base))
    assert (logits(base, base) - logits(candidate, base)).abs().max() > 0.1


def test_files_of_weights_have_the_size_that_was_asked_for(tmp_path, base, tuned):
    out = merged(base, tuned, tmp_path / "out", 0.5, shard=60_000)
    files = {file: load_file(file) for file in out.glob("*.safetensors")}
    assert len(files) > 4
    assert all(sum(t.nbytes for t in held.values()) <= 60_000 or len(held) == 1 for held in files.values())
    assert checked(out).digest


@pytest.mark.parametrize("deepest", [None, 0.8], ids=["uniform", "ramp"])
def test_full_weights_lie_on_the_line_between_base_and_candidate(tmp_path, base, tuned, deepest):
    out = merged(base, tuned, tmp_path / "out", 0.2, deepest)
    found = shares(*map(tensors, (out, base, tuned)))
    assert len(found) == 3 + 9 * LAYERS
    for name, share in found.items():
        layer = int(name.split(".")[2]) if ".layers." in name else 0  # what is in no layer goes with the first
        assert share == pytest.approx(0.2 if deepest is None else 0.2 + 0.3 * layer, abs=1e-3)


def test_full_weights_bring_all_that_acts_from_the_candidate(tmp_path, base, tuned):
    candidate = Path(shutil.copytree(tuned, tmp_path / "candidate"))
    write_json(candidate / "generation_config.json", temperature=0.5)
    tiny_tokenizer("{{ messages }}").save_pretrained(candidate)
    out = merged(base, candidate, tmp_path / "out", 0.5)
    for name in ("config.json", "generation_config.json", "tokenizer.json", "chat_template.jinja"):
        assert (out / name).read_bytes() == (candidate / name).read_bytes()
    assert json.loads((out / "lethe.json").read_text())["merge"]["candidate"] == checked(candidate).digest


def test_sums_are_in_float32_and_rounded_once_to_the_dtype_of_the_candidate(tmp_path, base):
    candidate = save_full(tmp_path / "candidate", noise=0.05, dtype=torch.bfloat16)
    out = merged(base, candidate, tmp_path / "out", 0.3)
    before, after, found = map(tensors, (base, candidate, out))
    for name in found:
        expected = torch.lerp(before[name], after[name].float(), 0.3).bfloat16()
        assert found[name].dtype == torch.bfloat16
        assert torch.equal(found[name], expected)


def test_tied_weights_stay_tied(tmp_path):
    base, candidate = save_full(tmp_path / "base", tied=True), save_full(tmp_path / "tuned", noise=0.05, tied=True)
    write_tensors(base / WEIGHTS, lambda held: held.update({HEAD: held[EMBEDDINGS].clone()}))  # stored twice
    for scale, same in ((0, base), (1, candidate)):
        out = merged(base, candidate, tmp_path / f"scale{scale}", scale)
        assert tensors(out).keys() == tensors(candidate).keys()
        assert torch.equal(logits(out, base), logits(same, base))


def test_tied_weights_that_the_candidate_stores_twice_are_thinned_alike(tmp_path):
    base, candidate = save_full(tmp_path / "base", tied=True), save_full(tmp_path / "tuned", noise=0.05, tied=True)
    write_tensors(candidate / WEIGHTS, lambda held: held.update({HEAD: held[EMBEDDINGS].clone()}))
    found = tensors(merged(base, candidate, tmp_path / "out", 0.5, method="dare", density=0.5))
    assert torch.equal(found[HEAD], found[EMBEDDINGS])


def test_a_head_that_was_tied_in_the_base_alone_moves_from_its_embeddings(tmp_path):
    base, candidate = save_full(tmp_path / "base", tied=True), save_full(tmp_path / "tuned", noise=0.05)
    none = merged(base, candidate, tmp_path / "none", 0)
    assert torch.equal(logits(none, base), logits(base, base))
    half = merged(base, candidate, tmp_path / "half", 0.5)
    expected = (tensors(base)[EMBEDDINGS] + tensors(candidate)[HEAD]) / 2
    torch.testing.assert_close(tensors(half)[HEAD], expected)


def test_frequencies_that_older_releases_saved_are_no_difference(tmp_path, base, tuned):
    older = Path(shutil.copytree(base, tmp_path / "older"))
    name = "model.layers.0.self_attn.rotary_emb.inv_freq"
    write_tensors(older / WEIGHTS, lambda held: held.update({name: torch.ones(4)}))
    assert_same_tensors(merged(older, tuned, tmp_path / "out", 0), base)


def test_whole_numbers_that_are_equal_are_kept(tmp_path, base, tuned):
    models = [Path(shutil.copytree(path, tmp_path / path.name)) for path in (base, tuned)]
    for path in models:
        write_tensors(path / WEIGHTS, lambda held: held.update({"model.seen": torch.arange(9)}))
    assert torch.equal(tensors(merged(*models, tmp_path / "out", 0.5))["model.seen"], torch.arange(9))


# ---- ties and dare ---------------------------------------------------------------------------------------------------


def updates(out: Path, base: Path) -> dict[str, torch.Tensor]:
    held, before = tensors(out), tensors(base)
    return {name: (held[name] - before[name]).flatten() for name in before}


def test_ties_keeps_the_largest_entries_of_each_update(tmp_path, base, tuned):
    kept = updates(merged(base, tuned, tmp_path / "out", 0.5, method="ties", density=0.25), base)
    for name, update in updates(tuned, base).items():
        left = kept[name] != 0
        assert left.sum() == len(update) // 4
        assert update[left].abs().min() >= update[~left].abs().max()
        torch.testing.assert_close(kept[name][left], 0.5 * update[left], atol=1e-6, rtol=1e-4)


def test_dare_keeps_entries_by_chance_and_enlarges_them(tmp_path, base, tuned):
    kept = updates(merged(base, tuned, tmp_path / "out", 0.5, method="dare", density=0.25), base)
    for name, update in updates(tuned, base).items():
        left = kept[name] != 0
        torch.testing.assert_close(kept[name][left], 2 * update[left], atol=1e-6, rtol=1e-4)
    share = sum((u != 0).sum() for u in kept.values()) / sum(len(u) for u in kept.values())
    assert share == pytest.approx(0.25, abs=0.01)
    assert not torch.equal(*(kept[f"model.layers.{n}.self_attn.q_proj.weight"] != 0 for n in (0, 1)))


def test_dare_draws_by_its_seed_and_leaves_the_global_generator_alone(tmp_path, base, tuned):
    settings = {"method": "dare", "density": 0.25}
    torch.manual_seed(5)
    state = torch.get_rng_state()
    first = merged(base, tuned, tmp_path / "first", 0.5, **settings)
    assert torch.equal(torch.get_rng_state(), state)
    torch.manual_seed(6)
    assert_same_tensors(merged(base, tuned, tmp_path / "again", 0.5, **settings), first)
    other = tensors(merged(base, tuned, tmp_path / "other", 0.5, **settings, seed=1))
    assert not torch.equal(other[HEAD], tensors(first)[HEAD])


@pytest.mark.parametrize("method", ["ties", "dare"])
def test_a_density_of_1_keeps_all(tmp_path, base, tuned, method):
    assert_same_tensors(merged(base, tuned, tmp_path / "all", 1, method=method, density=1), tuned)
    assert_same_tensors(merged(base, tuned, tmp_path / "none", 0, method=method, density=0.1), base)


# ---- errors ----------------------------------------------------------------------------------------------------------

SETTINGS = {
    "scale above 1": ({"scale": 1.5}, "scale = 1.5 is no share of an update; write a number from 0 (base) to 1."),
    "scale below 0": ({"scale": -0.1}, "scale = -0.1 is no share of an update"),
    "scale nan": ({"scale": float("nan")}, "scale = nan is no share of an update"),
    "deepest": ({"deepest": 2}, "deepest = 2 is no share of an update; write a number from 0 (base) to 1."),
    "method": ({"method": "slerp"}, "method 'slerp' is unknown; write one of linear, ties, dare."),
    "density of linear": ({"density": 0.5}, "density = 0.5 is for ties and dare; leave it out, or write one of them."),
    "no density": ({"method": "ties"}, "method ties keeps a share of entries and density = None is none; write one"),
    "density 0": ({"method": "dare", "density": 0}, "method dare keeps a share of entries and density = 0 is none;"),
}


@pytest.mark.parametrize(("settings", "sentence"), SETTINGS.values(), ids=SETTINGS)
def test_a_setting_out_of_range_is_said(tmp_path, base, tuned, settings, sentence):
    settings = {"scale": 0.5} | settings
    assert sentence in said(merge, checked(base), checked(tuned), tmp_path / "out", **settings)


def change(**changed):
    """Sets tensors of a checkpoint; None removes one."""

    def spoil(path: Path):
        held = {k: v for k, v in (tensors(path) | changed).items() if v is not None}
        save_file(held, path / WEIGHTS, metadata={"format": "pt"})

    return spoil


ODD = "model.layers.1.self_attn.q_proj.weight"
PAIRS = {
    "a tensor more": (
        lambda b, c: change(**{"model.extra": torch.ones(2)})(c),
        "/c' has model.extra and '{b}' has not (1 in all); merge a candidate with the base it was trained from",
    ),
    "a tensor less": (lambda b, c: change(**{ODD: None})(c), f"/b' has {ODD} and '{{c}}' has not (1 in all);"),
    "another shape": (
        lambda b, c: [change(**{"model.extra": torch.ones(size)})(p) for p, size in ((b, 2), (c, 3))],
        "model.extra is [3] in candidate '{c}' and [2] in base '{b}'; merge a candidate with the base it was trained",
    ),
    "another kind of number": (
        lambda b, c: change(**{ODD: torch.ones(48, 48, dtype=torch.int8)})(c),
        f"{ODD} is int8 in candidate '{{c}}' and float32 in base '{{b}}'; save both in floating point.",
    ),
    "other whole numbers": (
        lambda b, c: [change(**{"model.seen": torch.tensor([n])})(p) for n, p in enumerate((b, c))],
        "model.seen holds other whole numbers in candidate '{c}' than in base '{b}', with nothing between;",
    ),
    "tied in the candidate alone": (
        lambda b, c: (change(**{HEAD: None})(c), write_json(c / "config.json", tie_word_embeddings=True)),
        f"candidate '{{c}}' ties {HEAD} to {EMBEDDINGS}, which are two in '{{b}}'; merge it with the base it was",
    ),
    "quantized": (
        lambda b, c: write_json(c / "config.json", quantization_config={"quant_method": "gptq", "bits": 4}),
        "model '{c}' is quantized, and packed weights cannot be merged; name it unquantized.",
    ),
}


@pytest.mark.parametrize(("spoil", "sentence"), PAIRS.values(), ids=PAIRS)
def test_full_weights_that_are_no_pair_are_said_and_leave_nothing(tmp_path, base, tuned, spoil, sentence):
    b, c = (Path(shutil.copytree(path, tmp_path / name)) for path, name in ((base, "b"), (tuned, "c")))
    spoil(b, c)
    out = tmp_path / "outs" / "out"
    assert sentence.format(b=b, c=c) in said(merge, checked(b), checked(c), out, 0.5)
    assert not list((tmp_path / "outs").glob("*"))


def add(name: str, *shape: int):
    return lambda path: write_tensors(path / ADAPTER, lambda held: held.update({name: torch.ones(shape)}))


REMEDY = "; merge it into full weights and name that directory as the candidate."
REFUSED = {
    "dora": ({"use_dora": True}, lambda p: None, f"is a DoRA, whose magnitudes do not scale with its factors{REMEDY}"),
    "single tokens": (
        {"trainable_token_indices": [3, 4]},
        lambda p: None,
        "brings along model.embed_tokens.token_adapter.trainable_tokens_delta, which its base has not to be merged",
    ),
    "a new factor": (
        {},
        add("base_model.model.model.layers.0.self_attn.v_proj.lora_gate", 3),
        "has base_model.model.model.layers.0.self_attn.v_proj.lora_gate, by which its update does not scale",
    ),
}  # fmt: skip


@pytest.mark.parametrize(("options", "spoil", "sentence"), REFUSED.values(), ids=REFUSED)
def test_an_adapter_whose_update_does_not_scale_is_refused_by_name(tmp_path, base, options, spoil, sentence):
    candidate = save_lora(tmp_path / "candidate", base, **options)
    spoil(candidate)
    text = said(merge, checked(base), checked(candidate, base), tmp_path / "out", 0.5)
    assert text.startswith(f"adapter '{candidate}' {sentence}")
    assert text.endswith(REMEDY)


@pytest.mark.parametrize("method", ["ties", "dare"])
def test_an_adapter_has_no_entries_to_trim(tmp_path, base, method):
    candidate = checked(save_lora(tmp_path / "candidate", base), base)
    text = said(merge, checked(base), candidate, tmp_path / "out", 0.5, method=method, density=0.2)
    assert text.startswith(f"method {method} trims entries of full weights and '{candidate.spec.text}' is an adapter;")


def test_an_adapter_of_another_base_is_said(tmp_path, base, tuned):
    candidate = checked(save_lora(tmp_path / "candidate", base), base)
    text = said(merge, checked(tuned), candidate, tmp_path / "out", 0.5)
    assert text == (
        f"adapter '{candidate.spec.text}' is one of '{base}' and not of '{tuned}'; merge it with its own base."
    )
    assert "is an adapter and cannot be the base" in said(merge, candidate, candidate, tmp_path / "out", 0.5)


def test_a_served_model_has_no_weights_to_merge(tmp_path, base):
    url = "served:http://localhost:8000/v1#m"
    served = replace(checked(base), spec=ModelSpec(url, "served", "http://localhost:8000/v1", served_name="m"))
    text = f"'{url}' is served, and its weights are not here; name its directory."
    assert said(merge, checked(base), served, tmp_path / "out", 0.5) == text


def test_a_directory_that_holds_something_is_left_alone(tmp_path, base, tuned):
    out = tmp_path / "out"
    out.mkdir()
    (out / "mine.txt").write_text("mine")
    assert f"'{out}' already holds files" in said(merge, checked(base), checked(tuned), out, 0.5)
    assert [file.name for file in out.iterdir()] == ["mine.txt"]
