"""The SIMULATED editors: what their rules like, that they see texts alone, and that their label goes through."""

from __future__ import annotations

import json

import pytest

from fixtures.simulated_editors import EDITORS, features, fill, main, vote, votes, worth
from harness.ballot.__main__ import main as ballot
from harness.ballot.make import make
from harness.ballot.page import read_page
from harness.ballot.prompts import Pair
from harness.ballot.sheet import Question, sheet
from harness.ballot.votes import FIRST, SECOND, TIE
from tests.voting import key_of

SPECIFIC = (
    "Last year 410 pupils of two schools in Riverton measured the river each month, and the lead count fell by 12%."
    " Our 14 volunteers cleared 3 km of bank. We ask for $18,000 to train twenty more volunteers by June."
)
VAGUE = (
    "We are an innovative organisation that empowers many stakeholders in various ways and makes a difference."
    " Without your help we desperately struggle, and any amount would support our important and impactful work."
)


def asked(first, second, token="t"):
    return Question(token, "Write a paragraph.", first, second)


@pytest.mark.parametrize("editor", EDITORS, ids=lambda editor: editor.name)
def test_each_prefers_the_specific_paragraph_on_either_side(editor):
    tokens = [f"t{n}" for n in range(40)]
    ours = [vote(editor, asked(SPECIFIC, VAGUE, token)) for token in tokens]
    theirs = [vote(editor, asked(VAGUE, SPECIFIC, token)) for token in tokens]
    assert ours.count(FIRST) > 30
    assert theirs.count(SECOND) > 30


@pytest.mark.parametrize("editor", EDITORS, ids=lambda editor: editor.name)
def test_equal_texts_have_no_side(editor):
    found = [vote(editor, asked(SPECIFIC, SPECIFIC, f"t{n}")) for n in range(300)]
    assert abs(found.count(FIRST) - found.count(SECOND)) < 60
    assert found.count(TIE) > 10


def test_tastes_differ():
    needy = SPECIFIC + " We are desperate; please help."
    jargon = SPECIFIC.replace("measured", "leveraged scalable synergies to measure")
    lost = {e.name: (worth(e, SPECIFIC) - worth(e, needy), worth(e, SPECIFIC) - worth(e, jargon)) for e in EDITORS}
    assert lost["development director"][0] > lost["plain-language editor"][0] + 0.3
    assert lost["plain-language editor"][1] > lost["programme officer"][1] + 0.3


def test_what_the_rules_look_at():
    found = features(SPECIFIC)
    assert (found["ask"], found["amount"], found["jargon"], found["needy"]) == (1, 1, 0, 0)
    other = features(VAGUE)
    assert min(other["jargon"], other["vague"], other["needy"]) > 1
    assert (other["ask"], other["amount"], other["numbers"]) == (0, 0, 0)
    assert features("One. One. One.")["repeats"] == pytest.approx(2 / 3)
    assert all(worth(editor, "") < worth(editor, VAGUE) for editor in EDITORS)


def test_votes_depend_on_texts_and_seed_alone():
    pairs = [Pair(f"p{n}", VAGUE, f"{SPECIFIC} {n}") for n in range(20)]
    shown = sheet(key_of(pairs), 2, pairs)
    assert votes(shown, seed=1) == votes(shown, seed=1)
    assert votes(shown, seed=1)[0] != votes(shown, seed=2)[0] or len(set(votes(shown)[0].values())) == 1
    assert votes(shown)[1].startswith("SIMULATED ")


def test_from_ballots_to_a_verdict_the_label_is_on_everything(tmp_path, capsys):
    pairs = [Pair(f"Prompt {n}.", VAGUE, f"{SPECIFIC} ({n})") for n in range(30)]
    make(pairs, key_of(pairs, simulated=True), tmp_path)
    assert main(["--ballots", str(tmp_path), "--votes", str(tmp_path / "votes")]) == 0
    made = sorted((tmp_path / "votes").iterdir())
    assert [path.name for path in made] == [f"votes-{n}-SIMULATED.json" for n in (1, 2, 3)]
    assert all(json.loads(path.read_text())["simulated"].startswith("SIMULATED ") for path in made)
    for path in tmp_path.glob("ballot-*.html"):
        assert "<title>SIMULATED Ballot" in path.read_text()
        assert read_page(path).simulated
    status = ballot(["judge", "--key", str(tmp_path / "gate" / "key.json"), "--votes", str(tmp_path / "votes")])
    said = capsys.readouterr().out
    assert status == 0
    assert "SIMULATED PASS (exit 0): the win rate is shown to be above 60%" in said
    assert said.count("SIMULATED") >= 8
    assert (tmp_path / "gate" / "head-to-head-SIMULATED.json").is_file()


def test_a_folder_without_ballots(tmp_path, capsys):
    assert main(["--ballots", str(tmp_path), "--votes", str(tmp_path / "v")]) == 4
    assert f"ERROR: there is no ballot in '{tmp_path}'; name" in capsys.readouterr().err
    (tmp_path / "ballot-1.html").write_text("<p>")
    with pytest.raises(Exception, match="is no ballot; name one that 'make' has written"):
        fill(tmp_path, tmp_path / "v")
