"""The memo's plots as SVG: the changes with their bounds, and the gain beside the loss.

Text stays text (it can be searched, and is set in the memo's own font); the same verdict gives the same bytes.
"""

from __future__ import annotations

import io
import warnings
from collections.abc import Mapping, Sequence
from types import SimpleNamespace
from typing import Any

import matplotlib
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure

from harness.report.foreign import columns, shown
from harness.report.numbers import interval, percent
from harness.report.tradeoff import BASE, CANDIDATE, JUDGED, TRIED, Run, front, runs

GOOD, BAD, UNCLEAR = "#15803d", "#b91c1c", "#b45309"
INK, MUTED, LINE, ALLOWED = "#1e293b", "#64748b", "#94a3b8", "#ecfdf5"
COLORS = {"PASS": GOOD, "REGRESSED": BAD, "INCONCLUSIVE": UNCLEAR}
MARKERS = {"PASS": "s", "REGRESSED": "X", "INCONCLUSIVE": "D"}  # told apart without their colours too
STYLE = {
    "font.family": "serif",
    "font.serif": ["Libertinus Serif", "Noto Serif", "Georgia", "DejaVu Serif"],
    "font.size": 9,
    "text.color": INK,
    "text.parse_math": False,  # a name with dollar signs is a name
    "svg.fonttype": "none",
    "svg.hashsalt": "lethe",
    "axes.edgecolor": LINE,
    "axes.labelcolor": MUTED,
    "xtick.color": MUTED,
    "ytick.color": MUTED,
    "axes.unicode_minus": True,
}  # fmt: skip
WIDTH, FOOT, NUMBERS = 6.6, 0.5, 1.35  # inches: the page's, those below an axis and right of it
NAME, LETTER = 30, 0.068  # columns of a name, and inches of one


def row_height(rows: int) -> float:
    """Inches of a row of the forest plot, lower where there are many."""
    return min(0.36, 2.2 / rows)


def forest(rows: Sequence[Mapping[str, Any]], level: str, named: bool = True, width: float = WIDTH) -> bytes:
    """The change of each benchmark with its bounds, on its own margin. rows: of `verdict.json`; level: of a bound.

    named: with the names at the left; without, for a page that sets them itself; width: inches.
    """
    several = len({row["model"] for row in rows}) > 1
    names = [shown(f"{row['name']} ({row['model']})" if several else row["name"], NAME, middle=True) for row in rows]
    left = max(columns(name) for name in names) * LETTER + 0.15 if named else 0.1
    inside = row_height(len(rows)) * len(rows)
    height = inside + FOOT
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(width, height))
        axes = figure.add_axes((left / width, FOOT / height, (width - left - NUMBERS) / width, inside / height))
        _span(axes, rows)
        for at, row in enumerate(rows):
            _forest_row(axes, at, row)
        axes.axvline(0, color=INK, linewidth=0.8, zorder=2)
        axes.set_yticks(range(len(rows)), names if named else [""] * len(rows))
        axes.tick_params(axis="y", length=0, labelcolor=INK)
        axes.set_xlabel(f"Change in points, each end with {level} confidence; dashed: the allowed loss")
        _plain(axes)
        return _svg(figure)


def _span(axes, rows: Sequence[Mapping[str, Any]]) -> None:
    low = min(min(row["low"], -row["margin"]) for row in rows)
    high = max(max(row["high"], 0.0) for row in rows)
    room = max(high - low, 1.0) * 0.06
    axes.set_xlim(low - room, high + room)
    axes.set_ylim(len(rows) - 0.5, -0.5)


def _forest_row(axes, at: int, row: Mapping[str, Any]) -> None:
    color = COLORS[row["verdict"]]
    left, right = axes.get_xlim()
    axes.fill_between([-row["margin"], right], at - 0.5, at + 0.5, color=ALLOWED, linewidth=0, zorder=0)
    axes.plot([-row["margin"]] * 2, [at - 0.42, at + 0.42], color=BAD, linewidth=1, dashes=(3, 2), zorder=1)
    axes.plot([row["low"], row["high"]], [at, at], color=color, linewidth=1.6, solid_capstyle="round", zorder=3)
    axes.plot(row["change"], at, MARKERS[row["verdict"]], color=color, markersize=5.5, zorder=4)
    bound = SimpleNamespace(estimate=row["change"] / 100, low=row["low"] / 100, high=row["high"] / 100)
    axes.text(
        right + (right - left) * 0.02, at, interval(bound), va="center", fontsize=8, color=color, rotation_mode="anchor"
    )


def pareto(document: Mapping[str, Any]) -> bytes | None:
    """Domain gain beside the worst loss of each model; None where no domain set was measured."""
    models = runs(document)
    if not models:
        return None
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(WIDTH, 2.9))
        axes = figure.add_axes((0.125, 0.16, 0.855, 0.81))
        shares, gains = [run.share for run in models], [run.gain for run in models]
        lowest, highest = min(*shares, -1.0), max(*shares, 0.0)
        width = max(max(gains) - min(gains), 1.0)
        axes.set_xlim(min(gains) - 0.06 * width, max(gains) + 0.12 * width)
        axes.set_ylim(lowest - 0.16 * (highest - lowest), highest + 0.16 * (highest - lowest))
        axes.axhspan(-1, axes.get_ylim()[1], color=ALLOWED, linewidth=0, zorder=0)
        axes.axhline(-1, color=BAD, linewidth=1, dashes=(4, 3), zorder=1)
        axes.annotate("the allowed loss", (0, -1), xycoords=("axes fraction", "data"), xytext=(4, -9),
                      textcoords="offset points", ha="left", color=BAD, fontsize=8, rotation_mode="anchor")  # fmt: skip
        best = front(models)
        axes.plot([run.gain for run in best], [run.share for run in best], color="#60a5fa", linewidth=1, zorder=2)
        for run in models:
            _mark(axes, run)
        _label(axes, [run for run in models if run.kind != TRIED])
        axes.yaxis.set_major_formatter(lambda value, _: percent(value))
        axes.yaxis.set_major_locator(matplotlib.ticker.MaxNLocator(6, steps=[1, 2, 2.5, 5, 10]))
        axes.set_xlabel("Domain gain, points")
        axes.set_ylabel("Worst change, share of allowed loss", rotation_mode="anchor")
        axes.yaxis.set_label_coords(-0.11, 0.5)  # fixed: what the ticks say has any width
        _plain(axes)
        return _svg(figure)


def _mark(axes, run: Run) -> None:
    color = {True: GOOD, False: BAD, None: UNCLEAR}[run.good]
    if run.kind == TRIED:
        axes.plot(run.gain, run.share, "o", color="white", markeredgecolor=MUTED, markersize=4.5, zorder=3)
    elif run.kind == BASE:
        axes.plot(run.gain, run.share, "o", color=MUTED, markersize=6, zorder=4)
    else:
        marker, size = ("*", 12) if run.kind == CANDIDATE else ("o", 7)
        axes.plot(run.gain, run.share, marker, color=color, markersize=size, zorder=5)


def _label(axes, models: Sequence[Run]) -> None:
    """Names on the side with more room, moved apart where they would lie on each other.

    At the right above the point and at the left below it, where the line that falls to the right does not pass.
    """
    left, right = axes.get_xlim()
    bottom, top = axes.get_ylim()
    inches = axes.figure.get_figheight() * axes.get_position().height
    taken: list[tuple[bool, float]] = []
    for run in sorted(models, key=lambda run: (run.share, run.gain, run.name)):
        to_left = run.gain > left + 0.6 * (right - left)
        height = (run.share - bottom) / (top - bottom) * inches * 72  # in points from the axis
        wanted = _free(height, -1 if to_left else 1, [other for side, other in taken if side == to_left])
        taken.append((to_left, wanted))
        allowed = bottom + wanted / (inches * 72) * (top - bottom) > -1
        axes.annotate(
            run.name, (run.gain, run.share), xytext=(-4 if to_left else 4, wanted - height), fontsize=8.5,
            textcoords="offset points", ha="right" if to_left else "left", va="center", rotation_mode="anchor",
            fontweight="bold" if run.kind == CANDIDATE else "normal",
            color=INK if run.kind in (CANDIDATE, JUDGED) else MUTED, zorder=2.5,  # over the line, below the marks
            bbox={"facecolor": ALLOWED if allowed else "white", "edgecolor": "none", "pad": 0.6},
        )  # fmt: skip


def _free(height: float, way: int, taken: Sequence[float]) -> float:
    """A height for a name beside a point's, away from those of others; above it where none is left below."""
    wanted = height + 8 * way
    while any(abs(wanted - other) < 10 for other in taken):
        wanted += 2 * way
    return wanted if wanted > 6 else _free(height, 1, taken)


def _plain(axes) -> None:
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)


def _svg(figure: Figure) -> bytes:
    FigureCanvasSVG(figure)
    written = io.BytesIO()
    with warnings.catch_warnings():  # widths are measured with a font that lacks some scripts; what shows them has it
        warnings.filterwarnings("ignore", message="Glyph .* missing from font")
        figure.savefig(written, format="svg", metadata={"Date": None, "Creator": "Lethe"})
    return written.getvalue()
