"""Spoils copies of checkpoints, and says what the check of their files found."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from safetensors.torch import load_file, save_file

from harness.checkpoints import check
from harness.command_line import UNUSABLE
from harness.specs import Unusable, parse_model
from tests.conftest import tiny_tokenizer

WEIGHTS, ADAPTER = "model.safetensors", "adapter_model.safetensors"
HEAD = "lm_head.weight"


def checked(path: Path, base: Path | None = None, **options):
    return check(parse_model(str(path)), checked(base) if base else None, **options)


def said(call, *arguments, **options) -> str:
    """The error of a call, which must be one line."""
    with pytest.raises(Unusable) as caught:
        call(*arguments, **options)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def refused(capsys, main, words) -> str:
    """The line with which a command ends that cannot use what it is given."""
    with pytest.raises(SystemExit) as ended:
        main(words)
    assert ended.value.code == UNUSABLE
    last = capsys.readouterr().err.splitlines()[-1]
    assert last.startswith("ERROR: ")
    return last


def write_json(path: Path, **values) -> None:
    """Sets keys of a JSON object in a file; None removes one."""
    table = (json.loads(path.read_text()) if path.is_file() else {}) | values
    path.write_text(json.dumps({k: v for k, v in table.items() if v is not None}))


def write_tensors(path: Path, change) -> None:
    """Rewrites a safetensors file after `change` has worked on its {name: tensor}."""
    tensors = load_file(path)
    change(tensors)
    save_file(tensors, path, metadata={"format": "pt"})


def add_word(path: Path) -> None:
    tokenizer = tiny_tokenizer()
    tokenizer.add_tokens(["molecule"])
    tokenizer.save_pretrained(path)


def poison(name: str, value: float):
    def change(tensors):
        tensors[name].view(-1)[-1] = value

    return change
