"""Votes that come back: what belongs is read as it was cast, and everything else is refused by name."""

from __future__ import annotations

import json

import pytest

from harness.ballot.key import read_key, write_key
from harness.ballot.sheet import sheet
from harness.ballot.votes import check_value, read_votes
from harness.specs import Unusable
from tests.voting import hand_back, key_of, pairs, planted

PAIRS = pairs(12)
KEY = key_of(PAIRS, repeats=2)
CAST = planted(KEY, seed=0)


@pytest.fixture
def folder(tmp_path):
    return hand_back(tmp_path / "votes", KEY, PAIRS, CAST)


def edit(folder, change, name="votes-1.json", sign=False):
    """Changes a file as an editor with a text editor would; sign: and computes its check value anew."""
    path = folder / name
    said = json.loads(path.read_text())
    change(said)
    if sign:
        said["check"] = check_value(KEY.stamp(1), said)
    path.write_text(json.dumps(said, ensure_ascii=False))


def refused(folder, key=KEY) -> str:
    with pytest.raises(Unusable) as error:
        read_votes(folder, key)
    return str(error.value)


def test_votes_are_read_as_they_were_cast(folder):
    assert {editor: votes.choices for editor, votes in read_votes(folder, KEY).items()} == {
        editor: votes.choices for editor, votes in CAST.items()
    }


def test_an_incomplete_set_is_no_error_here(folder):
    (folder / "votes-2.json").unlink()
    assert sorted(read_votes(folder, KEY)) == [1, 3]


def test_other_files_are_let_be(folder):
    (folder / "notes.txt").write_text("thanks")
    assert len(read_votes(folder, KEY)) == 3


def test_two_files_of_one_editor(folder):
    (folder / "votes-1 (1).json").write_text((folder / "votes-1.json").read_text())
    assert refused(folder) == (
        "votes-1 (1).json and votes-1.json are both votes of editor 1, and each votes once; remove one of them."
    )


def test_votes_of_another_head_to_head(folder):
    assert refused(folder, key_of(PAIRS, secret=b"x" * 32, repeats=2)) == (
        "votes-1.json is of another head-to-head than this key, or the key was changed since; judge it with its own"
        " key, or remove it."
    )


@pytest.mark.parametrize("sign", [False, True])
@pytest.mark.parametrize(
    ("change", "text"),
    [
        (
            lambda s: s["votes"].pop(4),
            "votes-1.json lacks 1 of 14 votes, the first of them on question 5; ask editor 1",
        ),
        (lambda s: s["votes"].append(s["votes"][2]), "votes-1.json has two votes on question 3; ask editor 1 to save"),
        (
            lambda s: s["votes"].append({**s["votes"][0], "token": "f" * 32}),
            "votes-1.json has a vote on a question that no ballot has (ffffffffffff…); ask editor 1 to save",
        ),
        (
            lambda s: s["votes"][0].update(token=KEY.places[1][0].token),
            f"votes-1.json has a vote on a question of ballot-2.html ({KEY.places[1][0].token[:12]}…); ask editor 1",
        ),
        (lambda s: s["votes"][3].update(choice=3), "votes-1.json has no choice on question 4 (1, 2 or 0); ask its"),
        (lambda s: s["votes"][3].update(choice=True), "votes-1.json has no choice on question 4 (1, 2 or 0); ask its"),
        (lambda s: s["votes"][3].pop("choice"), "votes-1.json has no choice on question 4 (1, 2 or 0); ask its"),
        (lambda s: s.update(editor=4), "votes-1.json is of editor 4, and there are 3; remove it."),
    ],
)
def test_missing_doubled_and_foreign_votes_whoever_signs_them(folder, change, text, sign):
    edit(folder, change, sign=sign and "choice" not in text)
    assert refused(folder).startswith(text)


@pytest.mark.parametrize(
    "change",
    [
        lambda s: s["votes"][0].update(choice=(s["votes"][0]["choice"] + 1) % 3),
        lambda s: s["votes"][0].update(comment="better"),
        lambda s: s["votes"].reverse(),
        lambda s: s.update(simulated="a rule"),
        lambda s: s.update(check="0" * 64),
    ],
)
def test_altered_votes(folder, change):
    edit(folder, change)
    assert refused(folder) == "votes-1.json was altered after it was saved; ask editor 1 to save it again."


def test_a_simulated_editor_cannot_lose_its_label(tmp_path):
    cast = {n: type(v)(v.file, n, "SIMULATED rule", v.choices, {}) for n, v in CAST.items()}
    folder = hand_back(tmp_path / "votes", KEY, PAIRS, cast)
    assert sorted(path.name for path in folder.iterdir())[0] == "votes-1-SIMULATED.json"
    edit(folder, lambda s: s.update(simulated=""), "votes-1-SIMULATED.json")
    assert refused(folder).startswith("votes-1-SIMULATED.json was altered")


def test_one_editors_votes_under_anothers_name(folder):
    edit(folder, lambda s: s.update(editor=2))
    assert "votes-1.json has a vote on a question of ballot-1.html" in refused(folder)


@pytest.mark.parametrize("content", ["", "[]", "{}", '{"lethe": "votes"}', '{"lethe": "verdict", "votes": []}', "\x00"])
def test_what_is_no_file_of_votes(folder, content):
    (folder / "a.json").write_text(content)
    assert refused(folder) == "a.json is no file of votes; remove it, or ask its editor to save it again."


def test_a_folder_that_is_not_there(tmp_path):
    assert refused(tmp_path / "none").startswith(f"--votes '{tmp_path / 'none'}' is no folder; name the one")


def test_a_key_comes_back_as_it_was_and_an_altered_one_does_not(tmp_path):
    path = write_key(KEY, tmp_path)
    assert read_key(path) == KEY
    said = json.loads(path.read_text())
    said["target"] = 0.5
    path.write_text(json.dumps(said))
    with pytest.raises(Unusable, match=r"the seal of key '.*' is broken: it was altered"):
        read_key(path)
    for other in ("{}", "[]", "", json.dumps({**said, "secret": "no"}), json.dumps({**said, "more": 1})):
        path.write_text(other)
        with pytest.raises(Unusable, match=r"is no key of a ballot; name the key\.json that 'make' has written"):
            read_key(path)
    with pytest.raises(Unusable, match="does not exist"):
        read_key(tmp_path / "none.json")


def test_a_key_that_was_resealed_after_the_ballots_went_out_knows_no_votes(folder, tmp_path):
    lower = type(KEY)(**{**vars(KEY), "target": 0.5})
    assert read_key(write_key(lower, tmp_path)).seal != KEY.seal
    assert "or the key was changed since" in refused(folder, lower)


def test_the_stamp_is_another_for_each_editor():
    assert len({KEY.stamp(n) for n in (1, 2, 3)} | {KEY.seal}) == 4
    assert sheet(KEY, 1, PAIRS).stamp == KEY.stamp(1)
