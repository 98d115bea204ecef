"""The reference submission on a tiny model: it stands alone, answers every row, and answers it twice alike."""

from __future__ import annotations

import ast
import importlib
import json
import sys
import zipfile
from types import SimpleNamespace

import pytest

from fixtures.ticket_data import PARAPHRASES, PUBLIC, TAXONOMY, TRAIN
from harness.submission import sandbox
from harness.submission.archive import unpack
from harness.submission.contract import GIB, Inputs, Limits
from harness.submission.results import read_results
from tests.conftest import save_tiny

MAY_IMPORT = {"torch", "transformers", "peft", *sys.stdlib_module_names}
LIMITS = Limits(seconds=120, memory=8 * GIB, threads=1)


@pytest.fixture(scope="module")
def inputs(tmp_path_factory) -> Inputs:
    """Three tickets and a tiny model."""
    folder = tmp_path_factory.mktemp("inputs")
    rows = [{"id": f"t{n}", "ticket": text} for n, text in enumerate(("Seats?", "Export to CSV, please.", "é" * 300))]
    (folder / "val.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (folder / "train.jsonl").write_text("".join(TRAIN.read_text().splitlines(keepends=True)[:3]))
    return Inputs(folder / "train.jsonl", folder / "val.jsonl", save_tiny(folder / "weights"))


@pytest.fixture(scope="module")
def results(inputs, tmp_path_factory):
    """What two calls with one seed gave, from the zip that is handed in."""
    folder = tmp_path_factory.mktemp("archive")
    with zipfile.ZipFile(folder / "reference.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        for path in PUBLIC.iterdir():
            if path.is_file():  # with fewer paraphrases, as a tiny model reads letters
                lines = path.read_text().splitlines(keepends=True)
                kept = lines[:4] if path == PARAPHRASES else lines
                archive.writestr(f"reference/{path.name}", "".join(kept))
    root = unpack(folder / "reference.zip", folder / "unpacked")
    outcomes = [sandbox.run(root, inputs, LIMITS, more=("--epochs", "1")) for _ in range(2)]
    assert [outcome.failure for outcome in outcomes] == [None, None]
    return [read_results(outcome.results, ["t0", "t1", "t2"]) for outcome in outcomes]


def test_every_row_is_answered_with_an_intent_of_the_taxonomy(results):
    known = {label["intent"] for label in json.loads(TAXONOMY.read_text())}
    assert (results[0].faults, list(results[0].notes)) == ({}, [])
    assert {made.intent for made in results[0].predictions.values()} <= known
    assert all(made.tokens > 0 for made in results[0].predictions.values())
    assert results[0].training["steps"] > 1
    assert results[0].training["val_loss"] > 0


def test_two_calls_with_one_seed_predict_the_same(results):
    one, other = ({key: (p.intent, p.reply) for key, p in found.predictions.items()} for found in results)
    assert one == other
    assert results[0].training["train_loss"] == results[1].training["train_loss"]


@pytest.fixture
def program(monkeypatch):
    """run.py as a module; what it imports from beside it is forgotten afterwards."""
    monkeypatch.syspath_prepend(PUBLIC)
    yield importlib.import_module("run")
    for path in PUBLIC.glob("*.py"):
        sys.modules.pop(path.stem, None)


@pytest.mark.parametrize(
    ("written", "said"),
    [
        ("Guests take no seat, so you pay for two.", "Guests take no seat, so you pay for two."),
        ("Yes.", "take no seat"),
    ],
)
def test_replies_are_written_or_quoted_whichever_is_nearer_to_replies_that_were_not_trained_on(
    program, monkeypatch, written, said
):
    monkeypatch.setattr(program, "write", lambda model, tokenizer, prompts, most: [(written, 9) for _ in prompts])
    taxonomy = json.loads(TAXONOMY.read_text())
    row = {"ticket": "Do guests take a seat?", "intent": "billing.seat_question"}
    tried = [row | {"ideal_reply": "No, guests take no seat, so you pay for two."}]
    answers = program.Answers(None, lambda text: SimpleNamespace(input_ids=[1]), program.Replies(taxonomy), tried)
    assert said in answers.best([(row["ticket"], row["intent"])])[0][0]


@pytest.mark.parametrize("path", sorted(PUBLIC.glob("*.py")), ids=lambda path: path.name)
def test_it_imports_what_the_contract_allows_and_files_beside_it(path):
    beside = {other.stem for other in PUBLIC.glob("*.py")}
    for node in ast.walk(ast.parse(path.read_text())):
        names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
        names += [node.module] if isinstance(node, ast.ImportFrom) else []
        assert {name.partition(".")[0] for name in names} <= MAY_IMPORT | beside | {"__future__"}
