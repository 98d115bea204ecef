"""Votes -> win rate, bounds and verdict of a head-to-head.

PASS: the win rate is shown to be above the target (the lower one-sided bound clears it). MISSED: shown to be below.
INCONCLUSIVE: the votes cannot tell, or some editor has not voted yet. A tie is half a win; the prompt is the unit.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from harness import stats
from harness.ballot.key import FOLDER, Key, ballot_name
from harness.ballot.votes import FIRST, TIE, Votes
from harness.report.numbers import count, rate_interval, share_as_set
from harness.stats import Interval
from harness.stats.preference import TIE as HALF
from harness.stats.preference import WIN
from harness.target import INCONCLUSIVE, MISSED, PASS, verdict_on

EXIT = {PASS: 0, MISSED: 1, INCONCLUSIVE: 10}
FARTHEST = 100  # times the prompts at hand; more is not told as a plan


class Cast(NamedTuple):
    """Votes by what they mean. won, first: [prompts, editors]; same: for each editor, by repeat.

    won: 1 where the candidate was chosen, 0.5 on a tie, 0 where the base was; first: True where the candidate stood
    first; same: True where the choice was the same when the prompt came again.
    """

    won: NDArray[np.float64]
    first: NDArray[np.bool_]
    same: tuple[tuple[bool, ...], ...]


@dataclass(frozen=True)
class EditorRow:
    """One editor. rate: exact bounds on the win rate; first: how often the first answer was chosen, ties as half, less
    one half; same, repeats: choices that stayed the same when a prompt came again."""

    editor: int
    simulated: str
    rate: Interval
    wins: int
    ties: int
    losses: int
    first: Interval
    same: int
    repeats: int


@dataclass(frozen=True)
class HeadToHead:
    """What a head-to-head says; figures are proportions, and None where not all editors have voted.

    agreement: Krippendorff's alpha over candidate, tie and base, None where it has no meaning; position: how far the
    first place moves votes; consistency: share of equal choices when a prompt came again, None without repeats;
    correlation: of votes on one prompt; needed: prompts that would probably settle an open verdict; preferred: True if
    it is shown that the candidate is preferred at all.
    """

    verdict: str
    reason: str
    prompts: int
    editors: int
    target: float
    alpha: float
    simulated: tuple[str, ...]
    rows: tuple[EditorRow, ...] = ()
    win: Interval | None = None
    agreement: Interval | None = None
    position: Interval | None = None
    consistency: Interval | None = None
    correlation: float | None = None
    ties: float | None = None
    needed: int | None = None
    preferred: bool = False
    comments: tuple[tuple[int, int, str], ...] = ()  # (editor, prompt, text)

    @property
    def exit(self) -> int:
        return EXIT[self.verdict]


def judge(key: Key, votes: Mapping[int, Votes], key_file: str | Path) -> HeadToHead:
    """The verdict on checked votes by editor; key_file: where the key lies, beside whose folder the ballots are."""
    told = _simulated(key, votes)
    plan = {"prompts": len(key.prompts), "editors": key.editors, "target": key.target, "alpha": key.alpha}
    if lacking := [editor for editor in range(1, key.editors + 1) if editor not in votes]:
        return HeadToHead(INCONCLUSIVE, _waiting(lacking, key.editors, Path(key_file)), **plan, simulated=told)
    cast = tally(key, votes)
    win = stats.win_rate(cast.won, key.alpha)
    several = key.editors > 1
    correlation = stats.vote_correlation(cast.won) if several else None
    ties = float((cast.won == HALF).mean())
    needed = stats.prompts_to_settle(win.estimate, key.target, correlation or 0.0, key.editors, key.alpha, ties=ties)
    needed = needed and max(needed, len(cast.won) + 1)
    verdict = verdict_on(win.low, win.high, key.target)
    same = [kept for row in cast.same for kept in row]
    return HeadToHead(
        verdict,
        _reason(verdict, win, key, needed),
        **plan,
        simulated=told,
        rows=tuple(_row(key, votes[n + 1], cast, n) for n in range(key.editors)),
        win=win,
        agreement=_agreement(cast.won, key.alpha),
        position=stats.position_bias(cast.won, cast.first, key.alpha),
        consistency=stats.wilson(sum(same), len(same), key.alpha) if same else None,
        correlation=correlation,
        ties=ties,
        needed=needed if verdict == INCONCLUSIVE else None,
        preferred=win.low > 0.5,
        comments=_comments(key, votes),
    )


def tally(key: Key, votes: Mapping[int, Votes]) -> Cast:
    """The votes of all editors by prompt, and how their repeats went."""
    shape = len(key.prompts), key.editors
    won, first = np.full(shape, np.nan), np.zeros(shape, dtype=bool)
    same = []
    for n, places in enumerate(key.places):
        choices = votes[n + 1].choices
        for place in places:
            if not place.repeat:
                won[place.prompt, n] = _won(choices[place.token], place.candidate_first)
                first[place.prompt, n] = place.candidate_first
        again = [place for place in places if place.repeat]
        same.append(tuple(bool(_won(choices[p.token], p.candidate_first) == won[p.prompt, n]) for p in again))
    return Cast(won, first, tuple(same))


def _won(choice: int, candidate_first: bool) -> float:
    if choice == TIE:
        return HALF
    return float((choice == FIRST) == candidate_first)


def _row(key: Key, votes: Votes, cast: Cast, n: int) -> EditorRow:
    won, first = cast.won[:, n], cast.first[:, n]
    leaning = stats.editor_rate(np.where(first, won, 1 - won), key.alpha)
    ties, wins = int((won == HALF).sum()), int((won == WIN).sum())
    return EditorRow(
        editor=votes.editor,
        simulated=votes.simulated,
        rate=stats.editor_rate(won, key.alpha),
        wins=wins,
        ties=ties,
        losses=len(won) - wins - ties,
        first=Interval(*(bound - 0.5 for bound in leaning)),
        same=sum(cast.same[n]),
        repeats=len(cast.same[n]),
    )


def _agreement(won: NDArray[np.float64], alpha: float) -> Interval | None:
    if won.shape[1] < 2 or len(np.unique(won)) < 2:
        return None
    return stats.agreement(won, np.random.default_rng(0), alpha=alpha)


def _simulated(key: Key, votes: Mapping[int, Votes]) -> tuple[str, ...]:
    """What voted in the place of people; not empty wherever the label must stand."""
    rules = [votes[editor].simulated for editor in sorted(votes) if votes[editor].simulated]
    return tuple(rules) or (("ballots for simulated editors",) if key.simulated else ())


def _comments(key: Key, votes: Mapping[int, Votes]) -> tuple[tuple[int, int, str], ...]:
    return tuple(
        (editor, place.prompt, votes[editor].comments[place.token])
        for editor in sorted(votes)
        for place in key.places[editor - 1]
        if place.token in votes[editor].comments
    )


def _waiting(lacking: Sequence[int], editors: int, key_file: Path) -> str:
    folder = key_file.parent.parent if key_file.parent.name == FOLDER else key_file.parent
    files = ", ".join(ballot_name(editor) for editor in lacking)
    return (
        f"{len(lacking)} of {editors} editors {'has' if len(lacking) == 1 else 'have'} not voted; hand out {files} from"
        f" {folder} and put the files of votes that come back into one folder for --votes"
    )


def _reason(verdict: str, win: Interval, key: Key, needed: int | None) -> str:
    aim, seen = share_as_set(key.target), rate_interval(win)
    shown = "that editors prefer it to the base is " + ("shown" if win.low > 0.5 else "not shown")
    if verdict == PASS:
        return f"the win rate is shown to be above {aim}: {seen}"
    if verdict == MISSED:
        return f"the win rate is shown to be below {aim}: {seen}; {shown}"
    place = f"above {aim}, not proven" if win.estimate > key.target else f"not above {aim}, and not shown to be below"
    return f"the win rate is {place}: {seen}; {shown}; {_what_would_settle(len(key.prompts), needed)}"


def _what_would_settle(prompts: int, needed: int | None) -> str:
    if needed is None:
        return "it is the target itself, so no number of prompts would tell"
    if needed > FARTHEST * prompts:
        return f"at this rate more than {count(FARTHEST * prompts)} prompts would be needed"
    return f"about {count(needed)} prompts instead of {prompts} would probably settle it"
