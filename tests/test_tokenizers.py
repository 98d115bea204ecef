"""Tokenizers: both sides must cut and frame every text alike, and know where it ends."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from harness.tokenizers import check_tokenizers
from tests.conftest import TEMPLATE, save_tiny
from tests.spoiling import add_word, checked, said, write_json

pytestmark = pytest.mark.usefixtures("own_cache")


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


@pytest.mark.parametrize("chat", [True, False])
def test_a_tokenizer_that_knows_no_end_of_text_is_said(copy, tiny_base, chat):
    write_json(copy / "tokenizer_config.json", eos_token=None)
    sentence = f"the tokenizer of '{copy}' has no EOS token, at which answers end; set eos_token in its tokenizer_"
    for sides in ((copy, copy), (copy, tiny_base), (tiny_base, copy)):
        assert sentence in said(check_tokenizers, *map(checked, sides), chat)


def test_an_adapter_uses_its_own_tokenizer_or_its_base_s(adapter, tiny_base):
    assert checked(adapter, tiny_base).tokenizer_path == tiny_base
    add_word(adapter)
    own = checked(adapter, tiny_base)
    assert own.tokenizer_path == adapter
    assert "the vocabularies of" in said(check_tokenizers, own.base, own, False)
