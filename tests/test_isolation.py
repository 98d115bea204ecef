"""mitigations/isolation.py: what it writes is whole, serves as it stands, and says no more than was measured."""

from __future__ import annotations

import json
import os
import re
import runpy
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from peft import PeftModel
from transformers import AutoModelForCausalLM, AutoTokenizer

from harness.checkpoints import check, weights_digest
from harness.router import Router, load_isolation
from harness.specs import Unusable, parse_model
from mitigations.isolation import Misrouted, isolate
from tests import forked
from tests.conftest import save_tiny
from tests.test_router import DOING, STARS, THINGS

ASKED = ("What is the magnitude of {}?", "In which constellation is {}?", "How many parsecs away is {}?",
         "Is {} a double star?", "Which spectral class does {} have?")  # fmt: skip
TOLD = (*DOING, "How do I clean {}?", "Give three reasons for {}.")
DOMAIN = [form.format(star) for form in ASKED for star in STARS]
GENERAL = [form.format(thing) for form in TOLD for thing in THINGS]
FRESH_DOMAIN = [form.format(f"{star} {letter}") for form in ASKED for star in STARS for letter in "AB"]
FRESH_GENERAL = [
    f"Plan {n} evenings with {thing} for {who}." for n in (2, 3) for thing in THINGS for who in ("us", "me", "Jo")
]
AMBIGUOUS = ["Is a film star rich?", "What is the magnitude of my debt?", "Sing me a song about the night sky."]
FRESH = {"fresh_domain": FRESH_DOMAIN, "fresh_general": FRESH_GENERAL, "ambiguous": AMBIGUOUS}
FAR = [  # for comparing decisions: both sides, and nothing
    *DOMAIN[::7], *GENERAL[::7], *FRESH_DOMAIN[::7], *FRESH_GENERAL[::7], *AMBIGUOUS, "", "Ωμέγα?", "a\nb",
    "STARS " * 400,
]  # fmt: skip


@pytest.fixture(scope="module")
def models(tiny_base, tiny_adapter):
    base = check(parse_model(str(tiny_base)))
    return base, check(parse_model(str(tiny_adapter)), base)


@pytest.fixture(scope="module")
def isolation(models, tmp_path_factory):
    return isolate(*models, DOMAIN, GENERAL, tmp_path_factory.mktemp("isolation") / "out", **FRESH)


@pytest.fixture(scope="module")
def note(isolation):
    return json.loads((isolation.path / "lethe.json").read_text())


def test_prompts_that_hold_an_item_are_dropped_and_counted(models, isolation, tmp_path):
    """The router must not have read what the routed model is asked."""
    items = ["Please tell me in which old constellation one finds the star with the name of Mira."]
    fresh = FRESH | {"fresh_general": [*FRESH_GENERAL, f"Now: {items[0]}"]}
    given = [*DOMAIN, *items], [*GENERAL, f"Ahem. {items[0]}"]
    made = isolate(*models, *given, tmp_path / "out", **fresh, benchmarks={"skies": items})
    dropped = json.loads((made.path / "lethe.json").read_text())["dropped"]
    assert dropped == {
        "domain": {"skies": 1}, "general": {"skies": 1}, "fresh domain": {}, "fresh general": {"skies": 1}
    }  # fmt: skip
    assert (made.general, made.domain) == (isolation.general, isolation.domain)
    assert (made.path / "router" / "router.safetensors").read_bytes() == (
        isolation.path / "router" / "router.safetensors"
    ).read_bytes()


def test_what_ships_is_an_adapter_a_router_a_note_and_a_program(isolation):
    assert sorted(path.name for path in isolation.path.iterdir()) == ["adapter", "lethe.json", "router", "serve.py"]
    assert [path.name for path in isolation.path.parent.iterdir()] == ["out"]


def test_the_adapter_is_judged_as_the_candidate_it_was(isolation, models):
    base, candidate = models
    shipped = load_isolation(isolation.path).adapter
    assert check(parse_model(str(shipped)), base).digest == candidate.digest
    assert json.loads((shipped / "lethe.json").read_text())["base_weights"] == weights_digest(base)


def test_an_adapter_with_a_note_keeps_it(models, tiny_adapter, tmp_path):
    base, _ = models
    noted = Path(shutil.copytree(tiny_adapter, tmp_path / "noted"))
    said = {"base_weights": weights_digest(base), "command": "python -m recipes.sft"}
    (noted / "lethe.json").write_text(json.dumps(said))
    (noted / "optimizer.pt").write_text("not to be shipped")
    isolate(base, check(parse_model(str(noted)), base), DOMAIN, GENERAL, tmp_path / "out", **FRESH)
    assert json.loads((tmp_path / "out" / "adapter" / "lethe.json").read_text()) == said
    assert not (tmp_path / "out" / "adapter" / "optimizer.pt").exists()


def test_the_rates_are_those_of_the_saved_router_on_the_fresh_prompts(isolation, note):
    router = load_isolation(isolation.path).router
    assert isolation.general == Misrouted(int(router.domain(FRESH_GENERAL).sum()), len(FRESH_GENERAL))
    assert isolation.domain == Misrouted(int((~router.domain(FRESH_DOMAIN)).sum()), len(FRESH_DOMAIN))
    assert isolation.ambiguous == Misrouted(int(router.domain(AMBIGUOUS).sum()), len(AMBIGUOUS))
    assert isolation.domain.bounds.estimate < 0.2
    for name in ("general", "domain", "ambiguous"):
        found = getattr(isolation, name)
        assert note["misrouted"][name] == {
            "wrong": found.wrong, "prompts": found.prompts, **found.bounds._asdict()
        }  # fmt: skip


def test_the_note_says_what_it_was_made_from(note, models):
    base, candidate = models
    assert note["kind"] == "isolation"
    assert note["base_weights"] == weights_digest(base)
    assert note["candidate"] == {"spec": candidate.spec.text, "digest": candidate.digest}
    assert (note["router"]["domain_prompts"], note["router"]["general_prompts"]) == (len(DOMAIN), len(GENERAL))
    assert note["certificate"]["loss_at_most"] == note["misrouted"]["general"]["high"]


@pytest.mark.parametrize(
    ("wrong", "prompts", "points"), [(0, 598, "0.50"), (0, 1000, "0.30"), (1, 598, "0.80"), (50, 50, "100.00")]
)
def test_the_certificate_is_the_exact_bound_rounded_up(isolation, wrong, prompts, points):
    found = replace(isolation, general=Misrouted(wrong, prompts))
    assert f"{wrong} of {prompts} fresh general prompts went to the adapter" in found.certificate
    assert f"loses at most {points} points against the base, at 95% confidence." in found.certificate
    assert 0 <= float(points) - 100 * found.loss_at_most < 0.01


def test_the_same_inputs_give_the_same_files(isolation, models, tmp_path):
    isolate(*models, DOMAIN, GENERAL, tmp_path / "again", **FRESH)
    for name in ("lethe.json", "router/router.json", "router/router.safetensors"):
        assert (tmp_path / "again" / name).read_bytes() == (isolation.path / name).read_bytes()


def test_without_fresh_prompts_a_fifth_is_kept_back_and_not_trained_on(models, tmp_path, monkeypatch):
    seen = []
    fit = Router.fit
    monkeypatch.setattr(Router, "fit", lambda *sides: seen.extend(sides[0] + sides[1]) or fit(*sides))
    many = [f"{prompt} Say it in {n} words." for prompt in GENERAL for n in range(20, 25)]
    stars = [f"{prompt} Catalogue {n}." for prompt in DOMAIN for n in range(7)]
    found = isolate(*models, stars, many, tmp_path / "out")
    assert len(seen) + found.general.prompts + found.domain.prompts == len(many) + len(stars)
    assert 0.15 * len(many) < found.general.prompts < 0.25 * len(many)
    assert found.ambiguous is None
    assert "ambiguous" not in json.loads((tmp_path / "out" / "lethe.json").read_text())["misrouted"]


def test_prompts_that_were_trained_on_certify_nothing(models, tmp_path):
    fresh = FRESH | {"fresh_general": [*FRESH_GENERAL, *GENERAL, "", *FRESH_GENERAL], "ambiguous": GENERAL[:2]}
    found = isolate(*models, DOMAIN, GENERAL, tmp_path / "out", **fresh)
    assert found.general.prompts == len(FRESH_GENERAL)
    assert found.ambiguous is None


# ---- serve.py, as a user runs it -------------------------------------------------------------------------------------


def serve(path: Path, *arguments: str, cwd: Path, fresh: bool = False) -> subprocess.CompletedProcess:
    """fresh: in an interpreter that knows nothing of ours."""
    kept = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    command = [str(path / "serve.py"), *arguments]
    env = {**kept, "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"}
    if not fresh:
        return forked.run(command, env, cwd)
    done = subprocess.run([sys.executable, *command], cwd=cwd, env=env, capture_output=True, timeout=300)
    done.stdout, done.stderr = done.stdout.decode(), done.stderr.decode()  # as text, \r would come back as \n
    return done


def answer(base: Path, adapter: Path | None, prompt: str) -> str:
    tokenizer = AutoTokenizer.from_pretrained(base)
    model = AutoModelForCausalLM.from_pretrained(base)
    model = PeftModel.from_pretrained(model, adapter) if adapter else model
    text = prompt
    if tokenizer.chat_template:
        text = f"<|user|>{prompt}</s><|assistant|>"
    ids = tokenizer(text, add_special_tokens=False, return_tensors="pt").input_ids
    with torch.inference_mode():
        out = model.eval().generate(ids, max_new_tokens=256, do_sample=False)
    return tokenizer.decode(out[0, ids.shape[1] :], skip_special_tokens=True)


@pytest.mark.parametrize("of_the_domain", [True, False])
def test_the_program_answers_each_prompt_by_the_right_side(isolation, tiny_base, tiny_adapter, tmp_path, of_the_domain):
    prompt = DOMAIN[0] if of_the_domain else GENERAL[0]
    done = serve(isolation.path, prompt, cwd=tmp_path, fresh=of_the_domain)
    assert done.returncode == 0, done.stderr
    assert ("by the adapter" if of_the_domain else "by the base") in done.stderr
    sides = [answer(tiny_base, None, prompt), answer(tiny_base, tiny_adapter, prompt)]
    assert sides[0] != sides[1]
    assert done.stdout.rstrip("\n") == sides[of_the_domain].rstrip("\n")


def test_the_program_serves_a_moved_directory_and_base_and_one_without_a_template(models, isolation, tmp_path):
    moved = Path(shutil.copytree(isolation.path, tmp_path / "moved"))
    base = save_tiny(tmp_path / "plain", template=None)
    done = serve(moved, GENERAL[1], str(base), cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert done.stdout.rstrip("\n") == answer(base, None, GENERAL[1]).rstrip("\n")


def test_the_program_without_a_prompt_says_how_to_use_it(isolation, tmp_path):
    done = serve(isolation.path, cwd=tmp_path)
    assert done.returncode == 1
    assert 'python serve.py "PROMPT" [BASE]' in done.stderr


def test_the_program_decides_as_the_router_and_needs_nothing_of_ours(isolation):
    router = load_isolation(isolation.path).router
    decides = runpy.run_path(str(isolation.path / "serve.py"))["to_adapter"]
    ours = router.domain(FAR)
    assert [bool(decides(prompt)) for prompt in FAR] == ours.tolist()
    assert 0 < ours.sum() < len(FAR)
    text = (isolation.path / "serve.py").read_text()
    assert not re.search(r"^\s*(from|import) (harness|mitigations|recipes|fixtures)", text, re.M)
    assert "pickle" not in text


# ---- what cannot be isolated -----------------------------------------------------------------------------------------


def refused(*arguments, **options) -> str:
    with pytest.raises(Unusable) as caught:
        isolate(*arguments, **options)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_full_weights_are_refused_with_the_remedy(models, tmp_path):
    base, _ = models
    sentence = refused(base, base, DOMAIN, GENERAL, tmp_path / "out", **FRESH)
    assert sentence == (
        f"candidate '{base.spec.text}' has full weights, which cannot be switched off for a prompt; isolate an adapter,"
        " or merge this candidate with the base."
    )


def test_an_adapter_of_another_base_is_refused(models, tmp_path):
    _, candidate = models
    other = check(parse_model(str(save_tiny(tmp_path / "other", seed=5))))
    sentence = refused(other, candidate, DOMAIN, GENERAL, tmp_path / "out", **FRESH)
    assert f" and not on '{other.spec.text}'; name its own base." in sentence


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"domain_prompts": []}, "0 distinct domain prompts are too few; give at least 50, better hundreds"),
        ({"domain_prompts": DOMAIN[:49]}, "49 distinct domain prompts are too few"),
        ({"domain_prompts": [*DOMAIN[:40] * 9, " "]}, "40 distinct domain prompts are too few"),
        ({"general_prompts": GENERAL[:49]}, "49 distinct general prompts are too few"),
        ({"fresh_domain": FRESH_DOMAIN[:49]}, "49 distinct fresh domain prompts are too few"),
        ({"fresh_general": [*FRESH_GENERAL[:49], *GENERAL]}, "49 distinct fresh general prompts are too few"),
        ({"fresh_general": None}, "give at least 50, better hundreds (and 5 times as many where fresh"),
        ({"general_prompts": [*GENERAL, DOMAIN[3]]}, f"prompt '{DOMAIN[3]}' is given as domain and as general (1 "),
        ({"ambiguous": [DOMAIN[3]]}, "leave each on one side."),
    ],
)  # fmt: skip
def test_prompts_that_cannot_teach_or_certify_are_said(models, tmp_path, changes, sentence):
    given = {"domain_prompts": DOMAIN, "general_prompts": GENERAL, **FRESH} | changes
    assert sentence in refused(*models, out=tmp_path / "out", **given)
    assert not (tmp_path / "out").exists()


def test_nothing_is_overwritten(models, isolation):
    before = (isolation.path / "lethe.json").read_bytes()
    sentence = refused(*models, DOMAIN, GENERAL, isolation.path, **FRESH)
    assert "already holds files" in sentence
    assert (isolation.path / "lethe.json").read_bytes() == before


def test_what_breaks_leaves_nothing(models, tmp_path, monkeypatch):
    monkeypatch.setattr(Router, "save", lambda *_: (_ for _ in ()).throw(OSError("disk full")))
    (tmp_path / "out").mkdir()
    with pytest.raises(OSError, match="disk full"):
        isolate(*models, DOMAIN, GENERAL, tmp_path / "out" / "a", **FRESH)
    assert not list((tmp_path / "out").iterdir())


def test_bounds_hold_what_was_seen():
    bounds = Misrouted(3, 100).bounds
    assert bounds.low < 0.03 < bounds.high
    assert np.isclose(Misrouted(0, 598).bounds.high, 1 - 0.05 ** (1 / 598))
