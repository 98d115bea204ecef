"""Held-out accuracy as lines of text: the verdict, length controlled, by kind of fault, beside rules and base."""

from __future__ import annotations

from harness.preference_accuracy import HeldOut
from harness.report.numbers import count, interval, points
from harness.stats import Interval
from harness.target import Judged


def held_out_lines(found: HeldOut) -> list[str]:
    """All shares in points, with one-sided bounds."""
    lines = [f"{found.plain.verdict}: {found.plain.reason}", ""]
    width = max(len(name) for name in (*_names(found), "accuracy at equal length"))
    lines += [_row(row.name, row, row.items, width) for row in (found.plain, found.per_token, found.matched) if row]
    lines.append(_row("base's own likelihood", found.base, found.plain.items, width))
    lines.append(f"{'ahead of the base by':{width}}  {interval(found.over_base)}")
    if len(found.by_run) > 1:
        lines.append(f"{'training runs':{width}}  {', '.join(points(share) for share in found.by_run)}")
    for title, kinds in (("by fault", found.by_fault), ("by category", found.by_category)):
        if kinds:
            lines += ["", title, *(_row(kind, share, items, width) for kind, (share, items) in kinds.items())]
    if found.shortcuts:
        lines += ["", "rules that understand nothing, and how far the model is ahead of them on the same pairs"]
        lines += [f"{rule.name:{width}}  {points(rule.accuracy):>5}  {interval(rule.lead)}" for rule in found.shortcuts]
    return lines


def _names(found: HeldOut) -> list[str]:
    return [*found.by_fault, *found.by_category, *(rule.name for rule in found.shortcuts)]


def _row(name: str, share: Interval | Judged, items: int, width: int) -> str:
    estimate = share.share if isinstance(share, Judged) else share.estimate
    bounds = f"[{points(share.low)}, {points(share.high)}]"
    return f"{name:{width}}  {points(estimate):>5}  {bounds:14} {count(items):>6} pairs"
