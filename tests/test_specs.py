"""Specs: what every form of a model and a basket becomes, and what each mistake in them is told."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from harness.baskets import load_basket, with_options
from harness.specs import ModelSpec, Unusable, parse_model

ROOT = Path(__file__).resolve().parent.parent
SENTENCE = re.compile(r"[^\n]*; [^\n]*\.")  # what is wrong; the remedy


def said(call, *arguments, **options) -> str:
    """The error of a call, which must be one line with a remedy."""
    with pytest.raises(Unusable) as caught:
        call(*arguments, **options)
    assert SENTENCE.fullmatch(str(caught.value)), str(caught.value)
    return str(caught.value)


# ---- models ----------------------------------------------------------------------------------------------------------


@pytest.fixture
def folders(tmp_path, monkeypatch) -> Path:
    """A working directory with a model, an adapter, an empty directory and a file; also the home."""
    for name, file in (("full", "config.json"), ("lora", "adapter_config.json"), ("empty", "notes.txt")):
        (tmp_path / name).mkdir()
        (tmp_path / name / file).write_text("{}")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    return tmp_path


SPECS = {
    "hub id": ("org/name", ModelSpec("org/name", "hub", "org/name")),
    "hub id with revision": ("org/name@v1.0", ModelSpec("org/name@v1.0", "hub", "org/name", revision="v1.0")),
    "hub pull request": ("org/name@refs/pr/3", ModelSpec("org/name@refs/pr/3", "hub", "org/name", "refs/pr/3")),
    "embedded": ("embedded:base", ModelSpec("embedded:base", "embedded", "base")),
    "samples": ("samples:out/run", ModelSpec("samples:out/run", "samples", "out/run")),
    "served": (
        "served:http://host:8000/v1#org/name",
        ModelSpec("served:http://host:8000/v1#org/name", "served", "http://host:8000/v1", served_name="org/name"),
    ),
    "space around": (" org/name\n", ModelSpec("org/name", "hub", "org/name")),
}


@pytest.mark.parametrize(("text", "spec"), SPECS.values(), ids=SPECS)
def test_every_form_of_a_model_is_understood(text, spec):
    assert parse_model(text) == spec


@pytest.mark.parametrize(
    ("text", "kind"),
    [("full", "local"), ("./full", "local"), ("full/", "local"), ("lora", "adapter"), ("~/full", "local")],
)
def test_a_directory_is_found_and_told_from_an_adapter(folders, text, kind):
    spec = parse_model(text)
    assert (spec.kind, spec.text) == (kind, text)
    assert Path(spec.location) == folders / text.strip("./~")
    assert spec.name == ("full" if kind == "local" else "lora")


NO_MODEL = {
    "nothing": ("  ", "model '' names nothing; write one of org/name[@revision]"),
    "one word": ("gpt2", "model 'gpt2' has no form that is known; write one of org/name[@revision]"),
    "too many parts": ("a/b/c", "has no form that is known"),
    "half an id": ("org/@main", "has no form that is known"),
    "other scheme": ("ollama:org/name", "model 'ollama:org/name' has no form that is known"),
    "url": ("https://hf.co/org/name", "has no form that is known"),
    "empty revision": ("org/name@", "names no revision behind '@'"),
    "embedded nothing": ("embedded:", "model 'embedded:' names nothing behind 'embedded:'"),
    "samples nothing": ("samples:", "model 'samples:' names nothing behind 'samples:'"),
    "served without a model": ("served:http://host/v1", "write served:http://host:port/v1#MODEL."),
    "served without a name": ("served:http://host/v1#", "write served:http://host:port/v1#MODEL."),
    "served without a url": ("served:host#name", "model 'served:host#name' is no served model"),
    "missing directory": ("./nowhere", "model './nowhere' is a directory that does not exist; check the path."),
    "missing directory by its slash": ("nowhere/", "is a directory that does not exist"),
    "missing home directory": ("~/nowhere", "is a directory that does not exist"),
    "directory without a model": ("empty", "'empty' has neither config.json nor adapter_config.json"),
    "file": ("full/config.json", "model 'full/config.json' is a file; name the directory"),
}


@pytest.mark.parametrize(("text", "sentence"), NO_MODEL.values(), ids=NO_MODEL)
def test_what_is_no_model_is_said_with_the_remedy(folders, text, sentence):
    assert sentence in said(parse_model, text)


# ---- baskets ---------------------------------------------------------------------------------------------------------

ONE = '[[benchmark]]\nname = "a"\ntask = "t"\n'


@pytest.fixture
def basket(tmp_path):
    """TOML text -> the basket it gives."""

    def load(text: str):
        path = tmp_path / "mine.toml"
        path.write_text(text, encoding="utf-8")
        return load_basket(path)

    return load


def test_a_basket_says_what_its_file_says(tmp_path, basket):
    (tmp_path / "own").mkdir()
    loaded = basket(
        'name = "n"\nseeds = [3, 1]\ndocuments = "embedded"\ntasks = "own"\n[policy]\nalpha = 0.01\n'
        '[run]\nbase = "org/b"\ncandidate = ["org/c", "org/d"]\ntrust_remote_code = false\n'
        '[[benchmark]]\nname = "a"\ntask = "t"\nmargin = 2\nitems = 30\nseeds = [7]\nchat = true\ntemperature = 1\n'
        '[[benchmark]]\nname = "d"\ntask = "t"\nrole = "domain"\n'
    )
    first, second = loaded.benchmarks
    assert (loaded.name, loaded.seeds, loaded.documents, loaded.policy.alpha) == ("n", (3, 1), "embedded", 0.01)
    assert loaded.tasks == str(tmp_path / "own")
    assert loaded.run["candidate"] == ["org/c", "org/d"]
    assert (first.margin, first.items, first.seeds, first.chat, first.temperature) == (2.0, 30, (7,), True, 1)
    assert (loaded.skills, loaded.domains) == ((first,), (second,))


def test_what_a_basket_leaves_out_has_a_default(basket):
    loaded = basket(ONE)
    assert (loaded.name, loaded.seeds, loaded.documents, loaded.tasks) == ("mine", (0,), "hub", None)
    assert (loaded.policy.alpha, loaded.run) == (0.05, {})
    only = loaded.benchmarks[0]
    assert (only.metric, only.margin, only.items, only.temperature, only.role) == ("acc", 3.0, None, 0.0, "skill")


BAD_BASKETS = {
    "unknown key": ("margn = 3\n" + ONE, "basket 'mine.toml' has an unknown key 'margn'; known are benchmark,"),
    "unknown key of a benchmark": (ONE + "item = 40", "benchmark 'a' has an unknown key 'item'; known are answers,"),
    "unknown key of the policy": (
        ONE + "[policy]\nbeta = 0.1",
        "[policy] has an unknown key 'beta'; known are alpha, batch, estimand, multiplicity, stopping.",
    ),
    "unknown key of the run": (
        ONE + "[run]\nbases = 'x'",
        "[run] has an unknown key 'bases'; known are backend, base,",
    ),
    "policy is no table": ("policy = 3\n" + ONE, "[policy] must be a table"),
    "run is no table": ("run = []\n" + ONE, "[run] must be a table"),
    "no benchmark": ('name = "x"', "has no benchmark to judge; add a [[benchmark]] table"),
    "domain alone": (ONE + 'role = "domain"', "has no benchmark to judge"),
    "one table": ('[benchmark]\nname = "a"', "write each benchmark as a [[benchmark]] table"),
    "twice": (ONE + ONE, "has benchmark 'a' twice; give each its own name."),
    "no name": ('[[benchmark]]\ntask = "t"', "benchmark '?' lacks name; write a text for each."),
    "no task": ('[[benchmark]]\nname = "a"', "benchmark 'a' lacks task; write"),
    "name of the wrong kind": ("[[benchmark]]\nname = 3\ntask = ''", "lacks name and task; write"),
    "name of the basket": ("name = 3\n" + ONE, "name = 3 is no text; write one"),
    "tasks of the wrong kind": ("tasks = 3\n" + ONE, "tasks = 3 is no text; write one"),
    "tasks that are nowhere": ('tasks = "nowhere"\n' + ONE, "tasks = 'nowhere' is no folder"),
    "documents": ('documents = "disk"\n' + ONE, 'documents = \'disk\'; write "hub" or "embedded".'),
    "no TOML": ("seeds = [1,", "basket '"),
    "run of the wrong kind": (ONE + "[run]\nbase = 3", "[run]: base = 3 is of the wrong kind; write a text."),
    "candidate of the wrong kind": (ONE + "[run]\ncandidate = ['x', 3]", "candidate = ['x', 3] is of the wrong kind"),
    "trust as a text": (
        ONE + '[run]\ntrust_remote_code = "false"',
        "trust_remote_code = 'false' is of the wrong kind; write true or false.",
    ),
}
BAD_BASKETS |= {
    f"alpha = {value}": (ONE + f"[policy]\nalpha = {value}", "is no error rate; write a number such as 0.05.")
    for value in ("0", "0.0", "0.5", "-0.1", "true", '"5%"', "nan")
}
BAD_BASKETS |= {
    f"seeds = {seeds}, {where}": (text, sentence)
    for seeds, sentence in {
        "[]": "is empty or no list; write at least one",
        "3": "seeds = 3 is empty or no list",
        '"0,1"': "is empty or no list",
        "[1, 1]": "seeds = [1, 1] repeats a seed, which is no replicate; name each once.",
        "[0, -1]": "must be whole numbers from 0 up",
        "[0.5]": "must be whole numbers from 0 up",
        "[true]": "must be whole numbers from 0 up",
        '["0"]': "must be whole numbers from 0 up",
        "[9223372036854775808]": "must be whole numbers from 0 up",
    }.items()
    for where, text in (("of all", f"seeds = {seeds}\n{ONE}"), ("of one", f"{ONE}seeds = {seeds}"))
}
BAD_BASKETS |= {
    f"margin = {value}": (ONE + f"margin = {value}", "is no loss in points; write a number above 0 and up to 100.")
    for value in ("0", "-3.0", "100.5", "nan", "inf", "true", '"3"', "[3]")
}
BAD_BASKETS |= {
    f"{line}": (ONE + line, sentence)
    for line, sentence in {
        "items = 0": "items = 0 must be at least 1",
        "items = -40": "items = -40 must be at least 1",
        "items = 29": "items = 29 can decide nothing; ask for at least 30.",
        "items = 40.0": "items = 40.0 is of the wrong kind",
        "items = true": "items = True is of the wrong kind",
        "fewshot = '5'": "fewshot = '5' is of the wrong kind",
        "fewshot = -1": "temperature and fewshot must not be negative",
        "temperature = -0.1": "temperature and fewshot must not be negative",
        "temperature = nan": "temperature = nan is no number",
        "temperature = true": "temperature = True is of the wrong kind",
        "floor = inf": "floor = inf is no number",
        'answers = "some"': 'write "all" or "first"',
        'answers = "first"': 'set metric = "gold_prob_per_byte"',
        "max_gen_toks = 0": "max_gen_toks = 0 must be at least 1",
        "chat = 1": "chat = 1 is of the wrong kind; see README, 'Baskets'.",
        "metric = 3": "metric = 3 is of the wrong kind",
        "metric = ''": "metric is empty; write a text",
        "gold = ''": "gold is empty; write a text",
        "gold = ['x']": "gold = ['x'] is of the wrong kind",
        "role = 'other'": 'role = \'other\'; write "skill" (judged) or "domain" (the gain).',
        "role = 3": "role = 3 is of the wrong kind",
    }.items()
}


@pytest.mark.parametrize(("text", "sentence"), BAD_BASKETS.values(), ids=BAD_BASKETS)
def test_a_mistake_in_a_basket_is_said_with_the_remedy(basket, text, sentence):
    with pytest.raises(Unusable) as caught:
        basket(text)
    assert sentence in str(caught.value)
    assert "\n" not in str(caught.value)


def test_bad_toml_names_the_line(basket):
    assert re.search(r"is not valid TOML \(.*line 2.*\); correct that line\.", said(basket, "seeds = [0]\nname = \n"))


def test_a_file_that_is_no_text_is_no_basket(tmp_path):
    (tmp_path / "b.toml").write_bytes(b"\xff\xfe\x00")
    assert "is not valid TOML" in said(load_basket, tmp_path / "b.toml")


def test_a_basket_that_is_not_there_is_said(tmp_path):
    assert "nowhere.toml' does not exist; name a TOML file" in said(load_basket, tmp_path / "nowhere.toml")


@pytest.mark.parametrize("name", ["quick", "standard", "dpo"])
def test_the_baskets_that_ship_load(name):
    assert load_basket(ROOT / "fixtures" / "baskets" / f"{name}.toml").skills


# ---- the command line wins -------------------------------------------------------------------------------------------

TWO = "seeds = [0]\n" + ONE + 'seeds = [5]\nmargin = 4.0\n[[benchmark]]\nname = "b"\ntask = "t"\nmargin = 4.0\n'


def test_margins_of_the_command_line_win(basket):
    changed = with_options(basket(TWO), margins={"b": 1.5, "a": 9})
    assert {b.name: b.margin for b in changed.benchmarks} == {"a": 9.0, "b": 1.5}
    assert changed.benchmarks[0].seeds == (5,)


def test_seeds_of_the_command_line_win_over_those_of_a_benchmark(basket):
    changed = with_options(basket(TWO), seeds=(1, 2))
    assert changed.seeds == (1, 2)
    assert [b.seeds for b in changed.benchmarks] == [(), ()]
    assert [b.margin for b in changed.benchmarks] == [4.0, 4.0]


def test_greedy_samples_nothing_whatever_the_file_says(basket):
    sampled = basket(ONE + "temperature = 0.7\nmargin = 4.0\n" + ONE.replace('"a"', '"b"'))
    assert with_options(sampled, greedy=True) == basket(ONE + "margin = 4.0\n" + ONE.replace('"a"', '"b"'))


def test_without_options_a_basket_stays_as_it_is(basket):
    assert with_options(basket(TWO)) == basket(TWO)


BAD_MARGINS = {
    "unknown benchmark": ({"mmlu": 3.0}, "benchmark 'mmlu' is not in basket 'mine'; it has a, b."),
    "zero": ({"a": 0.0}, "--margin a: margin = 0.0 is no loss in points; write"),
    "not a number": ({"a": float("nan")}, "--margin a: margin = nan is no loss in points; write"),
    "above 100": ({"b": 101.0}, "--margin b: margin = 101.0 is no loss"),
}


@pytest.mark.parametrize(("margins", "sentence"), BAD_MARGINS.values(), ids=BAD_MARGINS)
def test_a_margin_that_cannot_be_is_said(basket, margins, sentence):
    assert sentence in said(with_options, basket(TWO), margins=margins)
