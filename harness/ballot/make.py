"""Pairs of answers -> ballots for the editors, and the sealed key for the gate; what the design can show is said first.

DIR/ballot-1.html …      one for each editor
DIR/gate/key.json        which model wrote what; never leaves the gate
DIR/gate/answers.jsonl   both models' answers under their names
"""

from __future__ import annotations

import datetime
import secrets
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from harness import stats
from harness.ballot.design import REPEATS, ballots
from harness.ballot.key import FOLDER, NAME, Key, ballot_name, write_key
from harness.ballot.page import SIMULATED, page
from harness.ballot.prompts import Pair, write_pairs
from harness.ballot.sheet import sheet
from harness.report.numbers import as_set, coefficient, confidence, count, share_as_set
from harness.specs import Unusable

ANSWERS = "answers.jsonl"
TARGET = 0.6
CORRELATIONS = (0.1, 0.3, 0.5)  # of votes on one prompt, between which editors' usually lies
BETTER = 0.05  # above the target: the true rate for which the plan says what would prove it


def make(pairs: Sequence[Pair], key: Key, out: str | Path) -> None:
    """Writes ballots, key and answers to a folder that has no key yet; `Unusable` where it has.

    pairs: in the order of the key's prompts.
    """
    out = Path(out)
    check_out(out)
    try:
        write_key(key, out)
        write_pairs(out / FOLDER / ANSWERS, pairs)
        for editor in range(1, key.editors + 1):
            (out / ballot_name(editor)).write_text(page(sheet(key, editor, pairs)), encoding="utf-8")
    except OSError as error:
        raise Unusable(f"--out '{out}' cannot be written ({error.strerror}); name another folder.") from None


def check_out(out: Path) -> None:
    """`Unusable` if a folder has ballots: a second key would replace the one that knows them."""
    if (out / FOLDER / NAME).exists():
        raise Unusable(
            f"'{out}' has ballots already, whose votes a new key would not know; name another folder with --out."
        )


def check_design(prompts: int, editors: int, repeats: int, target: float) -> None:
    """`Unusable` for a design that decides nothing."""
    if editors < 1:
        raise Unusable(f"--editors {editors} is no number of editors; write 1 or more, 3 are usual.")
    if prompts < 2:
        raise Unusable("there is one prompt, and a win rate needs two or more; 50 are usual.")
    if not 0 <= repeats <= prompts:
        raise Unusable(f"--repeats {repeats} is out of range; write a number from 0 to the {prompts} prompts.")
    if not 0.01 < target < 1:  # a share of 0.6 is meant for 60%, and as 0.6% would let anything pass
        raise Unusable(f"--target {as_set(100 * target)} is no win rate; write a number between 1 and 100, as in 60.")


def new_key(
    pairs: Sequence[Pair],
    *,
    base: Mapping[str, Any],
    candidate: Mapping[str, Any],
    editors: int = 3,
    target: float = TARGET,
    alpha: float = 0.05,
    repeats: int = REPEATS,
    asked: Mapping[str, Any] = {},
    simulated: bool = False,
    secret: bytes | None = None,
) -> Key:
    """The design of a head-to-head, with all that its verdict will need.

    base, candidate: {"spec", "digest"}; repeats: at most as many as there are prompts; simulated: programs will vote,
    and everything says so; secret: 32 bytes, drawn anew by default: the same secret and prompts give the same ballots.
    """
    check_design(len(pairs), editors, repeats, target)
    secret = secret or secrets.token_bytes(32)
    ids = tuple(pair.id for pair in pairs)
    places = ballots(ids, editors, secret, repeats)
    return Key(
        secret=secret.hex(),
        base=dict(base),
        candidate=dict(candidate),
        prompts=ids,
        places=tuple(map(tuple, places)),
        target=target,
        alpha=alpha,
        asked=dict(asked),
        created=datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        simulated=simulated,
    )


def plan_lines(prompts: int, editors: int, target: float, alpha: float = 0.05, simulated: bool = False) -> list[str]:
    """What this design can show, before anybody votes."""
    better = min(target + BETTER, 0.99)
    shown = [coefficient(stats.win_power(prompts, editors, target, icc, alpha=alpha)) for icc in CORRELATIONS]
    proven = [coefficient(stats.win_power(prompts, editors, better, icc, target, alpha)) for icc in CORRELATIONS]
    needed = [stats.prompts_to_settle(better, target, icc, editors, alpha) for icc in CORRELATIONS]
    at = " / ".join(map(coefficient, CORRELATIONS))
    preferred = f"that a true {share_as_set(target)} is above 50% with a chance of {' / '.join(shown)}"
    return [
        *([SIMULATED] if simulated else []),
        f"{prompts} prompts, {editors} editor{'s' * (editors > 1)}; the prompt is the unit; each bound at"
        f" {confidence(alpha)}; a tie is half a win; target: more than {share_as_set(target)}",
        f"where votes on one prompt correlate {at}, this design shows",
        *([f"  {preferred}"] if target > 0.5 else []),
        f"  that a true {share_as_set(better)} is above {share_as_set(target)} with a chance of {' / '.join(proven)};"
        f" for a chance of 0.80 it takes {' / '.join(map(count, needed))} prompts",
    ]
