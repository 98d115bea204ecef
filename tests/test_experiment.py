"""What a mitigated model is cached under holds all that it is made from, and what cannot be mitigated is told so."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from harness.audit import Audit, Options, prepare
from harness.baskets import load_basket
from harness.checkpoints import CheckedModel
from harness.specs import ModelSpec, Unusable
from mitigations.experiment import MAKERS, Materials, check_experiment, run
from recipes.sft import Settings
from tests.tiny_audit import write_basket

ASKED = "What is it that nobody has ever asked here before?"
OTHER = 'task = "tiny_write"\nmetric = "exact_match"\nrole = "domain"\nchat = true'


@dataclass
class Given:
    """What an experiment is called with."""

    audit: Audit
    candidate: CheckedModel
    materials: Materials
    setting: dict

    def key(self, name: str) -> object:
        return MAKERS[name](self.setting, self.audit, self.candidate, self.materials)[0]


@pytest.fixture
def given(tiny_base, tiny_adapter, tmp_path) -> Given:
    candidate = Path(shutil.copytree(tiny_adapter, tmp_path / "candidate"))
    basket = load_basket(write_basket(tmp_path, other=OTHER))
    options = Options(str(tiny_base), (str(candidate),), tmp_path / "out", tmp_path / "store", device="cpu")
    audit = prepare(basket, options)
    domain = tmp_path / "domain.jsonl"
    domain.write_text('{"prompt": "a", "response": "b"}\n')
    materials = Materials(domain, None, ("Say a.", "Say b."), ("c", "d"), ("e",), ("f",))
    return Given(audit, audit.candidates[0], materials, {"share": 0.1, "kl": 0.0})


def settings_in_its_note(given: Given, patch) -> None:
    note = given.candidate.path / "lethe.json"
    note.write_text(json.dumps({"settings": vars(Settings(lr=3e-4))}))


def data(given: Given, patch) -> None:
    given.materials.domain.write_text('{"prompt": "a", "response": "c"}\n')


def general_rows(given: Given, patch) -> None:
    given.materials = replace(given.materials, general=given.materials.domain)


def prompts(given: Given, patch) -> None:
    given.materials = replace(given.materials, rehearsal=("Say a.",))


def engine(given: Given, patch) -> None:
    patch.setattr("mitigations.rehearsal.ENGINE_VERSION", 10**6)


def recipes_code(given: Given, patch) -> None:
    patch.setattr("recipes.origin.CODE", ("sft.py",))


def threads(given: Given, patch) -> None:
    patch.setattr("torch.get_num_threads", lambda: 77)


def package(given: Given, patch) -> None:
    patch.setattr("recipes.origin.version", lambda name: "0.0")


def items(given: Given, patch) -> None:
    loaded = given.audit.benchmarks["letters"]
    first = loaded.items[0]
    changed = replace(first, doc=first.doc | {"question": ASKED})
    given.audit.benchmarks["letters"] = replace_items(loaded, (changed, *loaded.items[1:]))


def replace_items(loaded, items):
    class Changed:
        def __getattr__(self, name):
            return items if name == "items" else getattr(loaded, name)

    return Changed()


ACT = [settings_in_its_note, data, general_rows, prompts, engine, recipes_code, threads, package, items]


@pytest.mark.parametrize("change", ACT, ids=lambda change: change.__name__)
def test_whatever_shows_in_a_replayed_model_makes_it_another(given, monkeypatch, change: Callable):
    before = given.key("replay")
    assert given.key("replay") == before
    change(given, monkeypatch)
    assert given.key("replay") != before


def test_a_router_is_another_if_other_items_are_judged(given, monkeypatch):
    before = given.key("isolation")
    items(given, monkeypatch)
    assert given.key("isolation") != before


@pytest.mark.parametrize("kind", ["domain", "general"])
def test_data_of_which_nothing_is_left_is_said_before_any_model_runs(given, monkeypatch, tmp_path, kind):
    items(given, monkeypatch)
    leaked = tmp_path / "leaked.jsonl"
    leaked.write_text(json.dumps({"prompt": f"Quick: {ASKED}", "response": "Nothing."}))
    materials = replace(given.materials, **{kind: leaked})
    with pytest.raises(
        Unusable, match=r"leaked.jsonl' is left, as all 1 overlap with items of the basket \(1 letters\)"
    ):
        check_experiment(("replay",), given.audit, materials)
    check_experiment(("replay",), given.audit, given.materials)


@pytest.mark.parametrize("name", ["merge", "replay", "isolation"])
def test_what_is_on_a_server_cannot_be_mitigated(given, name):
    served = replace(given.candidate, spec=ModelSpec("served:http://h/v1#m", "served", "http://h/v1", served_name="m"))
    with pytest.raises(Unusable, match=f"{name} is made of weights, and those of 'served:.*' are on a server"):
        run(name, given.audit, served, "letters", given.materials)


@pytest.mark.parametrize("name", ["merge", "replay", "isolation"])
def test_an_isolated_candidate_is_not_mistaken_for_full_weights(given, name):
    isolated = replace(given.candidate, base=None, routed=given.candidate)
    with pytest.raises(Unusable, match="is isolated already"):
        run(name, given.audit, isolated, "letters", given.materials)
