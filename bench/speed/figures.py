"""The figures of docs/speed.md, as SVG that comes out the same byte for byte."""

from __future__ import annotations

from typing import Any

import matplotlib
from matplotlib.figure import Figure

from bench.drawing import BLUE, GREY, STYLE, save
from bench.speed.against import median
from bench.speed.one import BENCHMARKS

__all__ = ["against_figure", "growth_figure", "save"]

AXES = {
    "items": "MMLU questions, five shots",
    "shots": "shots before 57 MMLU questions",
    "seeds": "seeds of 40 sampled instructions",
    "models": "models on 60 chemistry items",
}


@matplotlib.rc_context(STYLE)
def against_figure(found: dict[str, Any]) -> Figure:
    """Seconds of each benchmark by both; found: see `against`."""
    figure = Figure(figsize=(8.2, 3.2))
    axes = figure.subplots()
    for row, name in enumerate(BENCHMARKS):
        theirs, ours = (median(found, who, name)["seconds"] for who in ("lm_eval", "ours"))
        axes.barh(-row + 0.2, theirs, height=0.36, color="#BBBBBB")
        axes.barh(-row - 0.2, ours, height=0.36, color=BLUE)
        axes.annotate(
            f"{theirs:.0f} s", (theirs, -row + 0.2), (4, 0), textcoords="offset points", va="center", color=GREY
        )
        text = f"{ours:.0f} s, {theirs / ours:.1f} times as fast"
        axes.annotate(text, (ours, -row - 0.2), (4, 0), textcoords="offset points", va="center", color=BLUE)
    axes.set_yticks([-row for row in range(len(BENCHMARKS))], labels=BENCHMARKS)
    axes.tick_params(axis="y", length=0)
    axes.set_xlim(0, 1.1 * max(median(found, "lm_eval", name)["seconds"] for name in BENCHMARKS))
    axes.set_xlabel("seconds")
    axes.set_title("lm-eval (grey) and Lethe (blue) on the same documents")
    return figure


@matplotlib.rc_context(STYLE)
def growth_figure(found: dict[str, Any]) -> Figure:
    """Seconds against each thing that grows; a thin line is what growing in proportion would take."""
    figure = Figure(figsize=(9.4, 2.9))
    for axes, (name, points) in zip(figure.subplots(1, len(found)), found.items(), strict=True):
        amounts, seconds = zip(*points, strict=True)
        axes.plot(amounts, seconds, "o-", color=BLUE, markersize=5)
        if amounts[0]:
            axes.plot((0, amounts[-1]), (0, seconds[0] / amounts[0] * amounts[-1]), color=GREY, linewidth=0.8)
        axes.set(xlabel=AXES[name], xlim=(0, 1.05 * amounts[-1]), ylim=(0, None))
        axes.set_xticks(amounts)
        axes.set_title(f"{name}, s")
    return figure
