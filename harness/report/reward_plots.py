"""The drawings of a reward model as SVG: scores by category, margins, reliability, accuracy against its two targets.

    svg = accuracy(reward_accuracy(found, policy))

Text stays text; the same scores give the same bytes. Scores that are no numbers are left out and counted.
"""

from __future__ import annotations

from collections.abc import Sequence

import matplotlib
import numpy as np
from matplotlib.figure import Figure

from harness.report.foreign import columns, shown
from harness.report.numbers import count, points, rate_interval
from harness.report.plots import ALLOWED, BAD, GOOD, INK, LETTER, LINE, MUTED, NAME, STYLE, UNCLEAR, WIDTH, _plain, _svg
from harness.reward.accuracy import Accuracy
from harness.reward.calibration import reliability
from harness.reward.checks import alone
from harness.reward.scores import SIDES, RewardScores
from harness.stats import Interval
from harness.target import INCONCLUSIVE, MISSED, PASS

CHOSEN, REJECTED = "#1d4ed8", "#c2410c"
SHADES = ("#1d4ed8", "#0f766e", "#7c3aed", "#be185d", "#475569")  # of the runs
MARKS = ("o", "s", "^", "D", "v")  # of the runs, which are told apart without their colours too
COLORS = {PASS: GOOD, MISSED: BAD, INCONCLUSIVE: UNCLEAR}
VERDICTS = {PASS: "s", MISSED: "X", INCONCLUSIVE: "D"}
ROW, RIGHT, FOOT, HEAD = 0.46, 1.3, 0.5, 0.3  # inches: of a row, and beside, below and above the rows
HALF = 3.35  # inches of a drawing that stands beside another
NAMED = 5  # runs with a name of their own; further ones are counted
EDGE = (0.5, 99.5)  # percentiles between which scores are drawn; the rest is drawn at the edge
SPAN = 0.2  # least width of an axis of scores, so that a constant head looks constant


def scores_by_category(found: RewardScores, run: str | None = None, row: float = ROW) -> bytes:
    """Violins of chosen and rejected answers in each category, of one run (by default the first with numbers).

    row: inches of each category.
    """
    name, own = _one(found, run)
    kinds = own.categories() or {"all pairs": np.ones(len(own.pairs), bool)}
    with matplotlib.rc_context(STYLE):
        figure, axes = _rows(list(kinds), right=0.15, row=row)
        axes.set_xlim(*_around(own.scores, 0.04))
        for at, kept in enumerate(kinds.values()):
            for side, color in enumerate((CHOSEN, REJECTED)):
                _violin(axes, own.scores[kept, 0, side], at, side, color)
        axes.set_xlabel(f"Score in run {shown(name, NAME)}; the white line is the median{_left_out(found, name)}")
        _key(axes, [(SIDES[0], CHOSEN, "s"), (SIDES[1], REJECTED, "s")])
        return _svg(figure)


def margins(found: RewardScores, width: float = WIDTH) -> bytes:
    """Histogram of the margins of every run, right ones at the right of zero. width: inches."""
    runs = _numbers(found)
    with matplotlib.rc_context(STYLE):
        figure, axes = _single(2.7, width)
        together = np.concatenate([own.margin[:, 0] for own in runs.values()])
        edges = np.linspace(*_around(together, 0.0), 41)
        labels = _named([f"{shown(name, 14)}{'' if name in runs else ': no numbers'}" for name in found.runs])
        for name, label, color in zip(found.runs, labels, _cycle(SHADES, len(found.runs)), strict=True):
            if (own := runs.get(name)) is None:
                axes.plot([], [], color=color, label=label)
                continue
            heights, _ = np.histogram(np.clip(own.margin[:, 0], edges[0], edges[-1]), edges)
            axes.stairs(100 * heights / len(own.pairs), edges, color=color, linewidth=1.3, label=label)
        axes.axvspan(0, edges[-1], color=ALLOWED, linewidth=0, zorder=0)
        axes.axvline(0, color=INK, linewidth=0.8)
        axes.set_xlim(edges[0], edges[-1])
        axes.set_xlabel("Margin, chosen minus rejected; above 0 it is right\n(the outermost bars hold all beyond)")
        axes.set_ylabel("% of pairs")
        axes.legend(frameon=False, fontsize=7.5, loc="upper right", handlelength=1.2, borderaxespad=0.1, ncols=2)
        axes.set_ylim(0, axes.get_ylim()[1] * (1.1 + 0.1 * min(len(found.runs), NAMED) / 2))  # so that it lies on none
        _plain(axes)
        return _svg(figure)


def reliability_curve(found: RewardScores, bins: int = 10, alpha: float = 0.05, width: float = 4.6) -> bytes:
    """Share of right answers beside confidence, with bounds, of the run with the largest calibration error; the other
    runs as lines. The number of pairs of a bin is said. width: inches."""
    curves = {
        name: reliability(own.margin[:, 0], own.right[:, 0], bins, alpha) for name, own in _numbers(found).items()
    }
    worst = max(curves, key=lambda name: curves[name].error)
    with matplotlib.rc_context(STYLE):
        figure, axes = _single(2.7 if width <= HALF else 3.6, width)
        axes.plot([50, 100], [50, 100], color=LINE, linewidth=1, dashes=(4, 3), zorder=1)
        for name, curve in curves.items():
            if name != worst:
                axes.plot(*_curve(curve), color=LINE, linewidth=1, zorder=2)
        x, y = _curve(curves[worst])
        low, high = (100 * np.array([getattr(own, end) for own in curves[worst].bins]) for end in ("low", "high"))
        axes.vlines(x, low, high, color=CHOSEN, linewidth=1.4, zorder=3)
        axes.plot(x, y, "o-", color=CHOSEN, markersize=4, linewidth=1.2, zorder=4)
        bottom = 5 * np.floor(min(45, low.min() - 6) / 5)
        each = sorted({own.pairs for own in curves[worst].bins})
        held = count(each[0]) if len(each) == 1 else f"{count(each[0])} to {count(each[-1])}"
        others = "; grey: the other runs" if len(curves) > 1 else ""
        axes.text(99.5, bottom + 1.5, f"each point {held} pairs{others}", ha="right", fontsize=8, color=MUTED)
        error = f"calibration error {points(curves[worst].error)} points, by chance {points(curves[worst].by_chance)}"
        axes.set_title(f"{shown(worst, 14)}: {error}", fontsize=8, loc="right", color=INK)
        axes.set_xlim(49, 101)
        axes.set_ylim(bottom, 101)
        axes.set_xlabel("Confidence, sigmoid(|margin|), %")
        axes.set_ylabel("Right, % of pairs")
        _plain(axes)
        return _svg(figure)


def accuracy(found: Accuracy, row: float = ROW) -> bytes:
    """Overall and each category with bounds over all runs, each on its own target (dashed), and every run as a mark.

    row: inches of each.
    """
    with matplotlib.rc_context(STYLE):
        figure, axes = _rows([judged.name for judged in found.judged], right=RIGHT, row=row)
        shares = [[run.overall for run in found.runs]]
        shares += [[run.categories[name] for run in found.runs] for name in found.categories]
        drawn = [value for judged in found.judged for value in (judged.low, judged.high, judged.target)]
        axes.set_xlim(100 * min(*drawn, *np.ravel(shares)) - 2, min(100.5, 100 * max(*drawn, *np.ravel(shares)) + 2))
        for at, (judged, own) in enumerate(zip(found.judged, shares, strict=True)):
            _judged(axes, at, judged, own)
        axes.axhline(0.5, color=LINE, linewidth=0.6)
        axes.set_xlabel("Right, % of held-out pairs; dashed: the target")
        runs = _named([shown(run.name, 14) for run in found.runs])
        shown_ones = zip(runs, _cycle(MARKS, len(runs)), strict=True)
        _key(axes, [(name, MUTED, mark) for name, mark in shown_ones if name is not None], hollow=True)
        return _svg(figure)


def _judged(axes, at: int, judged, shares: Sequence[float]) -> None:
    color = COLORS[judged.verdict]
    left, right = axes.get_xlim()
    axes.fill_between([100 * judged.target, right], at - 0.5, at + 0.5, color=ALLOWED, linewidth=0, zorder=0)
    axes.plot([100 * judged.target] * 2, [at - 0.42, at + 0.42], color=BAD, linewidth=1, dashes=(3, 2), zorder=1)
    axes.plot([100 * judged.low, 100 * judged.high], [at - 0.14] * 2, color=color, linewidth=1.6, zorder=3)
    axes.plot(100 * judged.share, at - 0.14, VERDICTS[judged.verdict], color=color, markersize=5.5, zorder=4)
    heights = np.linspace(0.08, 0.34, len(shares)) if len(shares) > 1 else [0.2]  # equal runs lie on no other
    for share, height, mark in zip(shares, heights, _cycle(MARKS, len(shares)), strict=True):
        axes.plot(100 * share, at + height, mark, color="white", markeredgecolor=MUTED, markersize=4, zorder=3)
    text = rate_interval(Interval(judged.share, judged.low, judged.high))
    axes.text(right + 0.02 * (right - left), at, text, va="center", fontsize=8, color=color)


def _violin(axes, scores: np.ndarray, at: int, side: int, color: str) -> None:
    """Half a violin: chosen above the row's line, rejected below it; scores that hardly differ are a line."""
    scores = np.clip(scores, *np.percentile(scores, EDGE))
    middle = float(np.median(scores))
    if np.ptp(scores) < 0.01 * np.ptp(axes.get_xlim()):
        axes.vlines(middle, at - 0.4 * (1 - side), at + 0.4 * side, color=color, linewidth=2)
        return
    x = np.linspace(scores.min(), scores.max(), 120)
    width = 1.06 * scores.std() * len(scores) ** -0.2  # Silverman 1986, eq. 3.28
    height = np.exp(-0.5 * ((x[:, None] - scores) / width) ** 2).sum(axis=1)
    height *= (0.42 if side else -0.42) / height.max()
    axes.fill_between(x, at, at + height, color=color, alpha=0.75, linewidth=0)
    axes.vlines(middle, at, at + np.interp(middle, x, height), color="white", linewidth=1.4)


def _rows(names: Sequence[str], right: float, row: float):
    """A figure with a row for each name, which stands at its left."""
    names = [shown(name, NAME, middle=True) for name in names]
    left = max(columns(name) for name in names) * LETTER + 0.15
    inside = row * len(names)
    height = HEAD + inside + FOOT
    figure = Figure(figsize=(WIDTH, height))
    axes = figure.add_axes((left / WIDTH, FOOT / height, (WIDTH - left - right) / WIDTH, inside / height))
    axes.set_ylim(len(names) - 0.5, -0.5)
    axes.set_yticks(range(len(names)), names)
    axes.tick_params(axis="y", length=0, labelcolor=INK)
    _plain(axes)
    return figure, axes


def _single(height: float, width: float = WIDTH):
    figure, foot = Figure(figsize=(width, height)), FOOT + 0.14  # a label of two lines
    return figure, figure.add_axes((0.6 / width, foot / height, 1 - 0.75 / width, 1 - (foot + HEAD) / height))


def _key(axes, entries: Sequence[tuple[str, str, str]], hollow: bool = False) -> None:
    """(name, colour, mark) above the rows."""
    for name, color, mark in entries:
        face = "white" if hollow else color
        axes.plot([], [], mark, color=face, markeredgecolor=color, markersize=5, label=name)
    axes.legend(loc="lower left", bbox_to_anchor=(0, 1), ncols=len(entries), frameon=False, fontsize=8,
                borderaxespad=0, handletextpad=0.2, columnspacing=1.2)  # fmt: skip


def _curve(curve) -> tuple[np.ndarray, np.ndarray]:
    return (
        100 * np.array([own.confidence for own in curve.bins]),
        100 * np.array([own.accuracy for own in curve.bins]),
    )


def _around(values: np.ndarray, room: float) -> tuple[float, float]:
    low, high = np.percentile(values, EDGE)
    middle, half = (low + high) / 2, max(high - low, SPAN) * (0.5 + room)
    return float(middle - half), float(middle + half)


def _one(found: RewardScores, run: str | None) -> tuple[str, RewardScores]:
    runs = _numbers(found)
    name = run or next(iter(runs))
    if name not in runs:
        raise ValueError(f"run '{name}' has no scores that are numbers; draw one of {', '.join(runs)}")
    return name, runs[name]


def _numbers(found: RewardScores) -> dict[str, RewardScores]:
    """Runs with scores that are numbers; ValueError where there are none."""
    runs = dict(alone(found))
    if not runs:
        raise ValueError("no run has scores that are numbers, so there is nothing to draw; leave the drawing out")
    return runs


def _left_out(found: RewardScores, run: str) -> str:
    missing = len(found.pairs) - len(dict(alone(found))[run].pairs)
    return f"; {count(missing)} pairs without numbers left out" if missing else ""


def _named(labels: Sequence[str]) -> list[str | None]:
    """None for what is only counted, by the last label that is there."""
    more = len(labels) - NAMED
    return [*labels] if more <= 0 else [*labels[: NAMED - 1], f"and {more + 1} more", *[None] * more]


def _cycle(values: Sequence[str], count: int) -> list[str]:
    return [values[n % len(values)] for n in range(count)]
