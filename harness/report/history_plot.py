"""The history as a figure: a panel for each benchmark, the change since the base at each step with its bounds.

Shape and colour say the verdict; the dashed line is the margin of that step. The same audits give the same bytes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness.report.foreign import shown
from harness.verdict import INCONCLUSIVE, PASS, REGRESSED

if TYPE_CHECKING:
    from harness.report.history import History, Point

INK, QUIET, GRID = "#1a1a2e", "#64748b", "#e2e8f0"
LOOKS = {PASS: ("o", "#15803d"), INCONCLUSIVE: ("D", "#b45309"), REGRESSED: ("X", "#b91c1c"), None: ("s", "#1d4ed8")}
WORDS = {PASS: "within the margin", INCONCLUSIVE: "cannot tell", REGRESSED: "regressed", None: "domain set, not judged"}
STYLE = {
    "svg.hashsalt": "lethe", "svg.fonttype": "none", "font.family": "sans-serif", "font.size": 9, "text.color": INK,
    "axes.edgecolor": QUIET, "axes.labelcolor": QUIET, "xtick.color": QUIET, "ytick.color": QUIET,
    "axes.spines.top": False, "axes.spines.right": False, "axes.titleweight": "bold", "axes.titlesize": 10,
}  # fmt: skip
ACROSS = 3  # panels in a row
MANY = 4  # steps whose ticks have room for a word
PANEL = (3.6, 2.5)  # inches


def draw(history: History, path: Path) -> None:
    """Writes the figure as SVG; its text stays text."""
    import matplotlib
    from matplotlib.figure import Figure

    names = list(history.points)
    across = 2 if len(names) == 4 else min(ACROSS, len(names))
    down = -(-len(names) // across)
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(PANEL[0] * across, PANEL[1] * down + 0.6), layout="constrained")
        panels = figure.subplots(down, across, squeeze=False).flat
        for name, panel in zip(names, panels, strict=False):
            panel.set_title(shown(name, 32, middle=True), loc="left", parse_math=False)
            _panel(panel, history.points[name], len(history.steps))
        for panel in list(figure.axes)[len(names) :]:
            panel.set_axis_off()
        figure.supylabel("change since the base, points", fontsize=9, color=QUIET)
        figure.legend(handles=_legend(history), loc="outside lower center", ncols=5, frameon=False, fontsize=8)
        figure.savefig(path, format="svg", metadata={"Date": None})


def _panel(panel, points: Sequence[Point], steps: int) -> None:
    told = [(point.step, point.row) for point in points if point.row is not None]
    panel.axhline(0, color=QUIET, linewidth=0.8)
    panel.plot([0, *(n for n, _ in told)], [0, *(row["change"] for _, row in told)], color=QUIET, linewidth=1, zorder=2)
    panel.plot([0], [0], marker="o", color=QUIET, markersize=4)
    for step, row in told:
        marker, colour = LOOKS[row.get("verdict")]
        panel.plot([step, step], [row["low"], row["high"]], color=colour, linewidth=2, zorder=3)
        panel.plot([step], [row["change"]], marker=marker, color=colour, markersize=7, linestyle="none", zorder=4)
        if "margin" in row:
            panel.plot([step - 0.5, step + 0.5], [-row["margin"]] * 2, color=LOOKS[REGRESSED][1], ls="--", lw=1)
    for point in points:
        if point.row is None:
            panel.annotate(
                "not comparable", (point.step, 0.5), xycoords=("data", "axes fraction"), rotation=90, ha="center",
                va="center", fontsize=7, color=QUIET,
            )  # fmt: skip
    panel.set_xlim(-0.5, steps + 0.5)
    word = "step " if steps <= MANY else ""
    panel.set_xticks(range(steps + 1), ["base", *(f"{word}{n}" for n in range(1, steps + 1))])
    panel.grid(axis="y", color=GRID, linewidth=0.6)
    panel.set_axisbelow(True)


def _legend(history: History) -> list[Any]:
    from matplotlib.lines import Line2D

    rows: list[Mapping[str, Any]] = [p.row for points in history.points.values() for p in points if p.row is not None]
    seen = {row.get("verdict") for row in rows}
    made = [
        Line2D([], [], marker=marker, color=colour, markersize=6, label=WORDS[kind])
        for kind, (marker, colour) in LOOKS.items()
        if kind in seen
    ]
    if seen - {None}:
        made.append(Line2D([], [], color=LOOKS[REGRESSED][1], ls="--", lw=1, label="largest loss allowed"))
    return made
