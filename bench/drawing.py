"""How the figures that `bench` writes look, as SVG that comes out the same byte for byte.

Colours are Okabe and Ito's, which stay apart for colour-blind readers (Color Universal Design, 2008), some of them
darkened for text.
"""

from __future__ import annotations

from pathlib import Path

import matplotlib
from matplotlib.figure import Figure

BLUE, RED, GREEN, ORANGE, GREY = "#0072B2", "#D55E00", "#00805E", "#A86F00", "#666666"
PALE = "#CFE3F0"
DASHED = (0, (4, 3))
STYLE = {
    "svg.hashsalt": "lethe",
    "svg.fonttype": "path",
    "font.family": "DejaVu Sans",
    "font.size": 10,
    "axes.titlesize": 10.5,
    "axes.titlelocation": "left",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.edgecolor": GREY,
    "xtick.color": GREY,
    "ytick.color": GREY,
    "axes.linewidth": 0.8,
    "lines.linewidth": 1.8,
    "figure.constrained_layout.use": True,
}


def save(figure: Figure, path: Path) -> None:
    """Writes one figure, SVG or PNG by the name, without date or program."""
    metadata = {"Date": None, "Creator": None} if path.suffix == ".svg" else {}
    with matplotlib.rc_context(STYLE):
        figure.savefig(path, metadata=metadata, dpi=110, facecolor="white")
