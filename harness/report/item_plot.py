"""The change of every item of a benchmark as one drawing: how many were lost and won, and by how much each."""

from __future__ import annotations

import io

import matplotlib
import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray

LOST, WON, SAME = "#B3261E", "#00805E", "#8A8F98"
STYLE = {
    "svg.hashsalt": "lethe",
    "svg.fonttype": "path",
    "font.family": "DejaVu Sans",
    "font.size": 9,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "figure.constrained_layout.use": True,
}


@matplotlib.rc_context(STYLE)
def changes(change: NDArray[np.float64]) -> str:
    """Items from the most lost to the most won. change: proportions, one an item. Returns SVG, the same every time."""
    ordered = 100 * np.sort(change)
    lost, won = int((ordered < 0).sum()), int((ordered > 0).sum())
    figure = Figure(figsize=(7.2, 2.3))
    axes = figure.subplots()
    edges = np.arange(len(ordered) + 1)
    for low, high, colour in ((0, lost, LOST), (len(ordered) - won, len(ordered), WON)):
        if low < high:
            axes.stairs(ordered[low:high], edges[low : high + 1], baseline=0, fill=True, color=colour)
    axes.axhline(0, color=SAME, linewidth=1)
    axes.set_xlim(0, len(ordered))
    axes.set_ylabel("change, points")
    axes.set_xlabel(f"{len(ordered)} items, sorted: {lost} lost, {len(ordered) - lost - won} the same, {won} won")
    drawn = io.StringIO()
    figure.savefig(drawn, format="svg", metadata={"Date": None, "Creator": None})
    return drawn.getvalue()
