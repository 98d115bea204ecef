"""What a reward model must reach, and what its scores must not look like: a TOML file -> Policy.

    policy = with_options(load_policy("fixtures/baskets/reward.toml"), read_targets(["overall=75", "tone=60"]))

Shares are points in the file and on the command line, and lie in [0, 1] inside. `fixtures/baskets/reward.toml` states
every value with its reason; what another file leaves out is as it is there. Whatever a file must not hold is
`Unusable`, in one sentence that ends in the remedy.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any

from harness.baskets import known_keys, read_toml
from harness.reward.checks import BLOCKING
from harness.specs import Unusable

OVERALL, CATEGORY = "overall", "category"  # as names of targets; any other name is that of one category
SHARE, NUMBER, WHOLE = "share", "number", "whole"


def _limit(default: Any, kind: str = NUMBER, low: float = 0, high: float = math.inf) -> Any:
    """A threshold between low and high, neither of them allowed; a share is given in points, as its bounds are."""
    return field(default=default, metadata={"kind": kind, "low": low, "high": high})


@dataclass(frozen=True)
class Diagnostics:
    """Thresholds of the diagnostics, whose meaning and reasons stand in `fixtures/baskets/reward.toml`."""

    spread: float = _limit(0.05)
    resolution: float = _limit(0.001)
    distinct: float = _limit(0.05, SHARE, 1, 100)
    near_tie: float = _limit(0.05, NUMBER, 0, 0.5)
    near_ties: float = _limit(0.5, SHARE, 0, 100)
    saturation: float = _limit(0.999, NUMBER, 0.5, 1)
    saturated: float = _limit(0.5, SHARE, 0, 100)
    category_spread: float = _limit(0.1, NUMBER, 0, 1)
    margin_spread: float = _limit(0.1, NUMBER, 0, 1)
    agreement: float = _limit(0.6, SHARE, 50, 100)
    length_matched: float = _limit(0.1, SHARE, 0, 100)
    length_only: float = _limit(0.9, NUMBER, 0, 1)
    length_correlation: float = _limit(0.5, NUMBER, 0, 1)
    length_gap: float = _limit(0.15, SHARE, 0, 100)
    calibration_error: float = _limit(0.1, NUMBER, 0, 1)
    bins: int = _limit(10, WHOLE, 1, 101)
    reordered: float = _limit(0.01)
    truncated: float = _limit(0.8, SHARE, 0, 100)
    fewest: int = _limit(30, WHOLE, 0)


@dataclass(frozen=True)
class Policy:
    """overall, category: least shares of pairs that must be right, in (0, 1); categories: of one category, by name.

    inherent_length: categories in which the length is what is judged, and which length is not held against.
    may_skip: checks that block and yet may stay unasked, by their names.
    """

    name: str = "reward"
    overall: float = 0.72
    category: float = 0.65
    categories: Mapping[str, float] = field(default_factory=dict)
    alpha: float = 0.05
    inherent_length: tuple[str, ...] = ("brevity",)
    may_skip: tuple[str, ...] = ()
    diagnostics: Diagnostics = field(default_factory=Diagnostics)

    def target_of(self, category: str) -> float:
        return self.categories.get(category, self.category)


def load_policy(path: str | Path) -> Policy:
    """Reads a policy; raises `Unusable` for what it must not hold (unknown keys, a share above 100, …)."""
    table = read_toml(path, "reward.toml")
    where = f"basket '{Path(path).name}'"
    known_keys(table, {"name", "alpha", "inherent_length", "may_skip", "targets", "diagnostics"}, where)
    alpha = table.get("alpha", Policy.alpha)
    if not _is_number(alpha) or not 0 < alpha < 0.5:
        raise Unusable(f"{where}: alpha = {alpha!r} is no error rate; write a number such as 0.05.")
    policy = Policy(
        name=_name(table.get("name", Path(path).stem), where),
        alpha=float(alpha),
        inherent_length=_names(table, "inherent_length", Policy.inherent_length, where),
        may_skip=_skipped(table, where),
        diagnostics=_diagnostics(table.get("diagnostics", {}), f"{where}, [diagnostics]"),
    )
    targets = table.get("targets", {})
    if not isinstance(targets, dict):
        raise Unusable(f"{where}, [targets] must be a table of key = value lines.")
    return _aimed(policy, targets, f"{where}, [targets]: ")


def read_targets(texts: Sequence[str]) -> dict[str, float]:
    """The values of --target, NAME=POINTS each; what they may be is checked by `with_options`."""
    targets = {}
    for text in texts:
        name, _, value = text.partition("=")
        try:
            targets[name] = float(value)
        except ValueError:
            raise Unusable(f"--target {text} is no NAME=POINTS; write as in --target overall=75.") from None
    return targets


def with_options(policy: Policy, targets: Mapping[str, float]) -> Policy:
    """The policy with targets of the command line, which win over the file's; `category` is that of every category."""
    if CATEGORY in targets:
        policy = replace(policy, categories={})
    return _aimed(policy, targets, "--target ")


def check_categories(policy: Policy, categories: Iterable[str]) -> None:
    """`Unusable` where a target names a category that no pair has, or where no pair has any."""
    known = sorted(set(categories))
    if taken := {OVERALL, CATEGORY} & set(known):
        raise Unusable(
            f"a category is named '{min(taken)}', which is the name of another target; rename it in the pairs."
        )
    if not known:
        raise Unusable('no held-out pair has a category, and each is judged; write "category" into every pair.')
    for name in policy.categories:
        if name not in known:
            names = ", ".join((OVERALL, CATEGORY, *known))
            raise Unusable(f"there is a target for '{name}', a category that no pair has; targets are {names}.")


def _aimed(policy: Policy, targets: Mapping[str, Any], where: str) -> Policy:
    for name, points in targets.items():
        if not _is_number(points) or not 50 <= points < 100:
            raise Unusable(
                f"{where}{name}={points!r} is no share of pairs in points; write a number from 50, which is chance, to"
                " 100, as in 75 for three quarters."
            )
    shares = {name: points / 100 for name, points in targets.items()}
    own = {name: share for name, share in shares.items() if name not in (OVERALL, CATEGORY)}
    overall, category = shares.get(OVERALL, policy.overall), shares.get(CATEGORY, policy.category)
    return replace(policy, overall=overall, category=category, categories={**policy.categories, **own})


def _diagnostics(table: Any, where: str) -> Diagnostics:
    limits = {f.name: f.metadata for f in fields(Diagnostics)}
    known_keys(table, set(limits), where)
    return Diagnostics(**{key: _threshold(key, value, limits[key], where) for key, value in table.items()})


def _threshold(key: str, value: Any, limit: Mapping[str, Any], where: str) -> float:
    whole = limit["kind"] == WHOLE
    if not (isinstance(value, int) if whole else _is_number(value)) or isinstance(value, bool):
        raise Unusable(f"{where}: {key} = {value!r} is of the wrong kind; write a {'whole ' if whole else ''}number.")
    low, high = limit["low"], limit["high"]
    if not low < value < high:
        below = "" if high == math.inf else f" and below {high:g}"
        points = ", in points" if limit["kind"] == SHARE else ""
        raise Unusable(f"{where}: {key} = {value!r} is out of range; write a number above {low:g}{below}{points}.")
    return value / 100 if limit["kind"] == SHARE else value


def _names(table: Mapping[str, Any], key: str, default: tuple[str, ...], where: str) -> tuple[str, ...]:
    found = table.get(key, list(default))
    if not isinstance(found, list) or not all(isinstance(name, str) and name for name in found):
        raise Unusable(f'{where}: {key} = {found!r} is no list of names; write as in ["brevity"].')
    return tuple(found)


def _skipped(table: Mapping[str, Any], where: str) -> tuple[str, ...]:
    found = _names(table, "may_skip", (), where)
    if unknown := [name for name in found if name not in BLOCKING]:
        raise Unusable(f"{where}: may_skip names no check '{unknown[0]}'; known are {', '.join(BLOCKING)}.")
    return found


def _name(value: Any, where: str) -> str:
    if not isinstance(value, str) or not value:
        raise Unusable(f"{where}: name = {value!r} is no text; write one, or leave it out.")
    return value


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
