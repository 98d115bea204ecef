"""harness/router.py: what looks like the domain goes to the adapter, all else stays, and the disk changes nothing."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from harness.compare import Unpaired
from harness.router import FILES, SETTINGS, WEIGHTS, Isolated, Router, load_isolation, routed, router_digest
from harness.specs import Unusable
from harness.store import Cell, Score

ROOT = Path(__file__).resolve().parent.parent
STARS = [
    "vega",
    "rigel",
    "deneb",
    "altair",
    "castor",
    "pollux",
    "spica",
    "mira",
    "capella",
    "sirius",
    "hadar",
    "antares",
]
ASKED = ("What is the magnitude of {}?", "In which constellation is {}?", "How many parsecs away is {}?")
DOING = ("Write a poem about {}.", "What is the price of {}?", "In which shop do I find {}?", "List facts about {}.")
THINGS = [
    "bread",
    "shoes",
    "a lamp",
    "rain",
    "old maps",
    "my garden",
    "tea",
    "music",
    "a bicycle",
    "sleep",
    "paper",
    "wool",
]
DOMAIN = [form.format(star) for form in ASKED for star in STARS]
GENERAL = [form.format(thing) for form in DOING for thing in THINGS]
FRESH_DOMAIN = [form.format(star) for form in ASKED for star in ("regulus", "canopus", "procyon")]
FRESH_GENERAL = [
    "Translate this into Dutch: good night.",
    "Add 3 to 4.",
    "Why do cats purr?",
    "In which year was he born?",
]


@pytest.fixture(scope="module")
def router() -> Router:
    return Router.fit(DOMAIN, GENERAL)


def test_prompts_of_the_domain_go_to_the_adapter_and_others_do_not(router):
    assert router.domain(FRESH_DOMAIN).mean() > 0.8
    assert not router.domain(FRESH_GENERAL).any()


@pytest.mark.parametrize("text", ["", "  \n", "?!", "東京の天気", "qx"])
def test_a_text_without_any_known_feature_stays_with_the_base(router, text):
    assert not router.domain([text])[0]


def test_no_texts_give_no_decisions(router):
    assert router.domain([]).shape == (0,)


def test_a_text_is_decided_by_itself(router):
    texts = [*FRESH_GENERAL, *FRESH_DOMAIN]
    alone = np.concatenate([router.scores([text]) for text in texts])
    assert (router.scores(texts) == alone).all()


def test_the_same_prompts_and_seed_give_the_same_router(router):
    again = Router.fit(DOMAIN, GENERAL)
    assert (again.weights == router.weights).all()
    assert again.threshold == router.threshold
    assert Router.fit(DOMAIN, GENERAL, seed=1).threshold != router.threshold


def test_general_prompts_count_more_than_domain_prompts():
    """Where the sides cannot be told apart, the domain prompts pay: they stay with the base."""
    pairs = [f"Tell me about {one} and {other}." for one in THINGS for other in (*STARS, *THINGS)]
    pairs = [pairs[at] for at in np.random.default_rng(0).permutation(len(pairs))]
    router = Router.fit([*DOMAIN, *pairs[:96]], [*GENERAL, *pairs[96:192]])
    assert router.domain(pairs[192:]).mean() < 0.1


def test_no_share_of_the_domain_makes_a_text_without_evidence_its_own():
    """A domain prompt that looks general would pull the threshold below 0, where everything unknown lies above it."""
    router = Router.fit([*DOMAIN, "Write a poem about bread and tea."], GENERAL)
    assert not router.domain(["", "?!"]).any()


def test_a_smaller_share_to_keep_is_stricter(router):
    assert Router.fit(DOMAIN, GENERAL, keep=0.5).threshold > router.threshold


def test_a_saved_router_decides_the_same(router, tmp_path):
    router.save(tmp_path / "deep" / "router")
    assert sorted(path.name for path in (tmp_path / "deep" / "router").iterdir()) == sorted(FILES)
    loaded = Router.load(tmp_path / "deep" / "router")
    texts = [*DOMAIN, *GENERAL, *FRESH_DOMAIN, *FRESH_GENERAL]
    assert (loaded.scores(texts) == router.scores(texts)).all()
    assert loaded.threshold == router.threshold


def test_a_router_needs_neither_torch_nor_a_mitigation(router, tmp_path):
    router.save(tmp_path)
    code = (
        "import sys; from harness.router import Router; print(*Router.load(sys.argv[1]).domain(sys.argv[2:]),"
        " *({'torch', 'transformers', 'mitigations'} & sys.modules.keys()))"
    )
    command = [sys.executable, "-c", code, str(tmp_path), FRESH_DOMAIN[0], FRESH_GENERAL[0]]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120)
    assert (done.stdout.split(), done.returncode) == (["True", "False"], 0), done.stderr


@pytest.mark.parametrize(("domain", "general", "named"), [(DOMAIN[:4], GENERAL, "domain"), (DOMAIN, [], "general")])
def test_too_few_prompts_are_said(domain, general, named):
    with pytest.raises(
        Unusable, match=rf"^\d {named} prompts cannot teach a router; give at least 5, better hundreds\.$"
    ):
        Router.fit(domain, general)


def rewrite(path: Path, **changes) -> None:
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def replace_weights(path: Path, change) -> None:
    save_file({"weights": change(load_file(path)["weights"])}, path)


DAMAGE = {
    "no settings": lambda p: (p / SETTINGS).unlink(),
    "no weights": lambda p: (p / WEIGHTS).unlink(),
    "cut settings": lambda p: os.truncate(p / SETTINGS, 9),
    "cut weights": lambda p: os.truncate(p / WEIGHTS, 999),
    "no threshold": lambda p: (p / SETTINGS).write_text("{}"),
    "a list": lambda p: (p / SETTINGS).write_text("[]"),
    "a threshold in words": lambda p: rewrite(p / SETTINGS, threshold="high"),
    "a threshold that is none": lambda p: rewrite(p / SETTINGS, threshold=float("nan")),
    "a threshold below all": lambda p: rewrite(p / SETTINGS, threshold=-1.0),
    "other features": lambda p: rewrite(p / SETTINGS, features={"analyzer": "word"}),
    "fewer weights": lambda p: replace_weights(p / WEIGHTS, lambda w: w[:-1]),
    "nan": lambda p: replace_weights(p / WEIGHTS, lambda w: w * np.float32("nan")),
    "doubles": lambda p: replace_weights(p / WEIGHTS, lambda w: w.astype(np.float64)),
    "another array": lambda p: save_file({"other": np.zeros(3)}, p / WEIGHTS),
}


@pytest.mark.parametrize("spoil", DAMAGE.values(), ids=DAMAGE)
def test_a_damaged_router_is_said(router, tmp_path, spoil):
    router.save(tmp_path / "router")
    spoil(tmp_path / "router")
    with pytest.raises(Unusable, match=r"router '.*router' cannot be used \(.*\); copy it again, or train another\.$"):
        Router.load(tmp_path / "router")


# ---- what a mitigation has written -----------------------------------------------------------------------------------


@pytest.fixture
def isolated(router, tmp_path) -> Path:
    """A directory as mitigations.isolation writes it, as far as the harness reads it."""
    path = tmp_path / "isolated"
    router.save(path / "router")
    (path / "adapter").mkdir()
    (path / "adapter" / "adapter_config.json").write_text("{}")
    note = {"kind": "isolation", "router": {"digest": router_digest(path / "router")}}
    (path / "lethe.json").write_text(json.dumps(note))
    return path


def test_an_isolation_is_read(router, isolated):
    found = load_isolation(isolated)
    assert isinstance(found, Isolated)
    assert found.adapter == isolated / "adapter"
    assert (found.router.domain(FRESH_DOMAIN) == router.domain(FRESH_DOMAIN)).all()
    assert found.note["kind"] == "isolation"


BROKEN = {
    "nothing": (lambda p: (p / "lethe.json").unlink(), "is no isolation (lethe.json: "),
    "another note": (lambda p: rewrite(p / "lethe.json", kind="merge"), "(lethe.json: its kind is 'merge'); name"),
    "no digest": (lambda p: rewrite(p / "lethe.json", router=None), "is no isolation (lethe.json: "),
    "no router": (lambda p: (p / "router" / SETTINGS).unlink(), "router' cannot be used ("),
    "another router": (
        lambda p: rewrite(p / "router" / SETTINGS, threshold=0.5),
        "is not the one that lethe.json certifies; copy the whole directory again.",
    ),
    "no adapter": (
        lambda p: (p / "adapter" / "adapter_config.json").unlink(),
        "lacks adapter/adapter_config.json; copy the whole directory again.",
    ),
}


@pytest.mark.parametrize(("spoil", "sentence"), BROKEN.values(), ids=BROKEN)
def test_an_isolation_that_is_not_whole_is_said(isolated, spoil, sentence):
    spoil(isolated)
    with pytest.raises(Unusable) as caught:
        load_isolation(isolated)
    assert sentence in str(caught.value)


# ---- scores without models -------------------------------------------------------------------------------------------


def scores(model: str, **values: float) -> dict[str, Score]:
    return {item: Score(Cell(model, "b", 0), item, {"acc": value}, []) for item, value in values.items()}


def test_routed_scores_are_the_adapters_on_its_domain_and_the_bases_elsewhere():
    base, candidate = scores("base", a=1, b=0, c=1), scores("adapter", c=0, b=1, a=0)
    found = routed(base, candidate, {"b": True, "a": False, "c": False})
    assert {item: score.metrics["acc"] for item, score in found.items()} == {"a": 1, "b": 1, "c": 1}
    assert {item: score.cell.model for item, score in found.items()} == {"a": "base", "b": "adapter", "c": "base"}
    assert routed(base, candidate, dict.fromkeys("abc", False)) == base
    assert routed(base, candidate, dict.fromkeys("abc", True)) == candidate


@pytest.mark.parametrize(
    ("candidate", "decisions", "sentence"),
    [
        ("ab", "abc", "the base's scores and the candidate's scores are not of the same items (c is the first of 1)"),
        ("abcd", "abc", "candidate's scores are not of the same items (d is the first of 1)"),
        ("abc", "a", "the base's scores and the router's decisions are not of the same items (b is the first of 2)"),
    ],
)
def test_an_item_that_one_side_lacks_is_no_score(candidate, decisions, sentence):
    with pytest.raises(Unpaired) as caught:
        routed(
            scores("base", a=1, b=1, c=1),
            scores("adapter", **dict.fromkeys(candidate, 1)),
            dict.fromkeys(decisions, True),
        )
    assert sentence in str(caught.value)
