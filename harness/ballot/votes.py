"""The files of votes that editors hand back, checked against the key; what does not belong is refused by name.

A file carries a check value over all that it says, under the stamp of its ballot. It finds files that were edited or
damaged on the way. An editor who reads the page's script can compute it anew, but only for votes of his own.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from harness.ballot.key import Key, ballot_name
from harness.ballot.sheet import Sheet
from harness.specs import Unusable

FIRST, SECOND, TIE = 1, 2, 0
VERSION = 1


@dataclass(frozen=True)
class Votes:
    """One editor's votes. simulated: what voted in an editor's place, '' for a person; choices, comments: by token."""

    file: str
    editor: int
    simulated: str
    choices: Mapping[str, int]
    comments: Mapping[str, str]


def read_votes(folder: str | Path, key: Key) -> dict[int, Votes]:
    """The votes of all JSON files in a folder by editor; `Unusable` names the first file that cannot count and why."""
    folder = Path(folder)
    if not folder.is_dir():
        raise Unusable(f"--votes '{folder}' is no folder; name the one that holds the files that editors have saved.")
    found: dict[int, Votes] = {}
    for path in sorted(folder.glob("*.json")):
        votes = _read(path, key)
        if (before := found.get(votes.editor)) is not None:
            raise Unusable(
                f"{before.file} and {path.name} are both votes of editor {votes.editor}, and each votes once; remove"
                " one of them."
            )
        found[votes.editor] = votes
    return found


def write_votes(
    folder: Path, sheet: Sheet, choices: Mapping[str, int], comments: Mapping[str, str] = {}, simulated: str = ""
) -> Path:
    """A file as a ballot's page saves it. simulated: what votes in an editor's place."""
    cast = [
        {"token": q.token, "choice": choices[q.token], "comment": comments.get(q.token, "")} for q in sheet.questions
    ]
    said = {"lethe": "votes", "version": VERSION, "ballot": sheet.name, "editor": sheet.editor, "simulated": simulated}
    said |= {"votes": cast, "check": check_value(sheet.stamp, said | {"votes": cast})}
    path = folder / f"votes-{sheet.editor}{'-SIMULATED' if simulated or sheet.simulated else ''}.json"
    path.write_text(json.dumps(said, indent=1, ensure_ascii=False), encoding="utf-8")
    return path


def check_value(stamp: str, said: Mapping[str, Any]) -> str:
    """SHA-256 over stamp and content, as the page's script computes it."""
    rows = [[vote["token"], vote["choice"], vote["comment"]] for vote in said["votes"]]
    signed = [stamp, said["ballot"], said["editor"], said["simulated"], *rows]
    return hashlib.sha256(json.dumps(signed, ensure_ascii=False, separators=(",", ":")).encode()).hexdigest()


def _read(path: Path, key: Key) -> Votes:
    said = _parsed(path)
    name, editor = path.name, said["editor"]
    if said["ballot"] != key.seal:
        raise Unusable(
            f"{name} is of another head-to-head than this key, or the key was changed since; judge it with its own key,"
            " or remove it."
        )
    if not 1 <= editor <= key.editors:
        raise Unusable(f"{name} is of editor {editor}, and there are {key.editors}; remove it.")
    _check_tokens(name, editor, [vote["token"] for vote in said["votes"]], key)
    if check_value(key.stamp(editor), said) != said["check"]:
        raise Unusable(f"{name} was altered after it was saved; ask editor {editor} to save it again.")
    choices = {vote["token"]: vote["choice"] for vote in said["votes"]}
    comments = {vote["token"]: vote["comment"] for vote in said["votes"] if vote["comment"].strip()}
    return Votes(name, editor, said["simulated"], choices, comments)


def _parsed(path: Path) -> dict[str, Any]:
    """The file's content in its form; `Unusable` for any other."""
    try:
        said = json.loads(path.read_text(encoding="utf-8"))
        kinds = {"ballot": str, "editor": int, "simulated": str, "votes": list, "check": str}
        sound = said["lethe"] == "votes" and all(type(said[field]) is kind for field, kind in kinds.items())
        sound = sound and all(type(vote[field]) is str for vote in said["votes"] for field in ("token", "comment"))
        votes, version = said["votes"], said["version"]
        json.dumps(said, ensure_ascii=False).encode()  # no halves of surrogate pairs
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        sound = False
    if not sound:
        raise Unusable(f"{path.name} is no file of votes; remove it, or ask its editor to save it again.")
    if version != VERSION:
        raise Unusable(f"{path.name} is of version {version}, and this is {VERSION}; vote on new ballots.")
    for number, vote in enumerate(votes, 1):
        if type(vote.get("choice")) is not int or vote["choice"] not in (FIRST, SECOND, TIE):
            raise Unusable(
                f"{path.name} has no choice on question {number} (1, 2 or 0); ask its editor to save it again."
            )
    return said


def _check_tokens(name: str, editor: int, tokens: Sequence[str], key: Key) -> None:
    """Every question of the ballot has one vote, and no other has any."""
    asked = {place.token: n for n, place in enumerate(key.places[editor - 1], 1)}
    others = {place.token: n for n, ballot in enumerate(key.places, 1) for place in ballot}
    again = f"ask editor {editor} to save {ballot_name(editor)}'s votes again."
    seen = set()
    for token in tokens:
        if token not in asked:
            whose = f"of {ballot_name(others[token])}" if token in others else "that no ballot has"
            raise Unusable(f"{name} has a vote on a question {whose} ({token[:12]}…); {again}")
        if token in seen:
            raise Unusable(f"{name} has two votes on question {asked[token]}; {again}")
        seen.add(token)
    if lacking := [n for token, n in asked.items() if token not in seen]:
        raise Unusable(
            f"{name} lacks {len(lacking)} of {len(asked)} votes, the first of them on question {lacking[0]}; {again}"
        )
