"""The sealed key of a head-to-head: which model wrote what. It stays with the gate; no ballot can be read with less.

Its seal is an HMAC over everything that it says, under its own secret, and every ballot carries that seal as its name.
So votes that come back prove that the key was not changed after the ballots went out: neither the sides, nor the
target, nor the models. From the seal alone nothing about the key can be learnt.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from harness.ballot.design import Place, keyed
from harness.specs import Unusable

VERSION = 1
FOLDER, NAME = "gate", "key.json"


@dataclass(frozen=True)
class Key:
    """secret: 64 hex digits; base, candidate: {"spec", "digest"}; prompts: ids; places: of each editor's ballot.

    target: the win rate to clear, a proportion; alpha: one-sided error rate; asked: how the answers were made;
    simulated: True if programs answer in the place of editors.
    """

    secret: str = field(repr=False)
    base: Mapping[str, Any]
    candidate: Mapping[str, Any]
    prompts: tuple[str, ...]
    places: tuple[tuple[Place, ...], ...]
    target: float
    alpha: float
    asked: Mapping[str, Any]
    created: str
    simulated: bool = False

    @property
    def editors(self) -> int:
        return len(self.places)

    @property
    def seal(self) -> str:
        return keyed(bytes.fromhex(self.secret), "seal", json.dumps(_content(self), sort_keys=True))

    def stamp(self, editor: int) -> str:
        """What a ballot's page signs its votes with, so that a file that was edited shows it. Editors count from 1."""
        return keyed(bytes.fromhex(self.secret), "stamp", editor)


def ballot_name(editor: int) -> str:
    return f"ballot-{editor}.html"


def write_key(key: Key, out: Path) -> Path:
    """Writes it where only the user who runs the gate can read it; returns the file."""
    folder = out / FOLDER
    folder.mkdir(parents=True, exist_ok=True)
    folder.chmod(0o700)
    path = folder / NAME
    path.unlink(missing_ok=True)
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w", encoding="utf-8") as file:
        json.dump({"lethe": "ballot key", **_content(key), "seal": key.seal}, file, indent=1)
    return path


def read_key(path: str | Path) -> Key:
    """A key whose seal holds; `Unusable` for anything else."""
    try:
        given = json.loads(Path(path).read_text(encoding="utf-8"))
        if given.pop("lethe") != "ballot key":
            raise ValueError
        version, seal = given.pop("version"), given.pop("seal")
        if version != VERSION:
            raise Unusable(f"key '{path}' is of version {version}, and this is {VERSION}; make new ballots.")
        places = tuple(tuple(Place(**place) for place in ballot) for ballot in given.pop("places"))
        key = Key(prompts=tuple(given.pop("prompts")), places=places, **given)
        holds = key.seal == seal
    except FileNotFoundError:
        raise Unusable(f"key '{path}' does not exist; name the {NAME} that 'make' has written.") from None
    except (OSError, UnicodeDecodeError, ValueError, KeyError, TypeError, AttributeError):
        raise Unusable(f"'{path}' is no key of a ballot; name the {NAME} that 'make' has written.") from None
    if not holds:
        raise Unusable(
            f"the seal of key '{path}' is broken: it was altered; take back the file that 'make' has written."
        )
    return key


def _content(key: Key) -> dict[str, Any]:
    return {"version": VERSION, **asdict(key)}
