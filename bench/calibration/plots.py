"""The figures of docs/calibration.md, as SVG that comes out the same byte for byte.

Lines are labelled where they run, not in a box.
"""

from __future__ import annotations

from collections.abc import Mapping

import matplotlib
from matplotlib.figure import Figure
from numpy.typing import NDArray

from bench.calibration import coverage, early, planted, size
from bench.drawing import BLUE, DASHED, GREEN, GREY, ORANGE, PALE, RED, STYLE


@matplotlib.rc_context(STYLE)
def size_figure(sizes: Mapping[tuple[int, float, str], NDArray], n: int, margin: float) -> Figure:
    """False passes against the discordance for n items, and the worst of them against the items; for one margin.

    sizes: shares in [0, 1] over `size.grid`, by items, margin and rule.
    """
    figure = Figure(figsize=(9.4, 3.6))
    left, right = figure.subplots(1, 2, sharey=True)
    for rule, colour, lift in (("McNemar", GREEN, 0), ("CLT", RED, 6), ("Lethe", BLUE, -6)):
        rates = 100 * sizes[n, margin, rule]
        worst = [100 * sizes[items, margin, rule].max() for items in size.ITEMS]
        left.plot(100 * size.grid(margin), rates, color=colour)
        right.plot(size.ITEMS, worst, "o-", color=colour, markersize=4.5)
        for axes, x, y in ((left, 100 * size.TOP, rates[-1]), (right, size.ITEMS[-1], worst[-1])):
            axes.annotate(rule, (x, y), (6, lift), textcoords="offset points", color=colour, va="center")
    left.set(xlim=(100 * margin, 100 * size.TOP), xlabel="items that flip, %")
    left.set_title(f"{n} items: passed though {100 * margin:.0f} points were lost, %")
    right.set(xscale="log", xlabel="items", title="the worst over all shares of flips, %")
    right.set_xticks(size.ITEMS, labels=[f"{items:,}" for items in size.ITEMS], rotation=30)
    left.set(yscale="log", ylim=(0.9, 120))
    left.set_yticks([1, 2, 5, 10, 20, 50, 100], labels=["1", "2", "5", "10", "20", "50", "100"])
    for axes in (left, right):
        axes.minorticks_off()
        axes.axhline(5, color=GREY, linewidth=0.8, linestyle=DASHED)
    return figure


@matplotlib.rc_context(STYLE)
def coverage_figure(found: Mapping[tuple[int, float], Mapping[str, float]]) -> Figure:
    """Coverage of each method, a row for each (seeds, SD of seeds); shares in [0, 1]."""
    figure = Figure(figsize=(8.2, 3.2))
    axes = figure.subplots()
    rows = [-place - 0.5 * (seeds == coverage.SEEDS[-1]) for place, (seeds, _) in enumerate(found)]
    axes.axvspan(94, 96, color="#E6E6E6", linewidth=0)
    looks = (
        ("pooled", RED, "D", "center", "pooled"),
        ("items", ORANGE, "s", "right", "items"),
        ("crossed", BLUE, "o", "left", "crossed (Lethe)"),
    )
    for method, colour, marker, side, label in looks:
        values = [100 * shares[method] for shares in found.values()]
        axes.plot(values, rows, marker, color=colour, markersize=7, markeredgecolor="white")
        axes.annotate(label, (values[0], 0.3), ha=side, va="bottom", color=colour)
    axes.set_yticks(rows, labels=[f"{seeds} seeds, SD {100 * sd:.0f}" for seeds, sd in found])
    axes.set(xlim=(60, 100), ylim=(rows[-1] - 0.5, 0.95), xlabel="intervals that hold the true change, %")
    axes.tick_params(axis="y", length=0)
    axes.grid(axis="y", color="#DDDDDD", linewidth=0.6)
    axes.set_axisbelow(True)
    return figure


@matplotlib.rc_context(STYLE)
def planted_figure(found: Mapping[tuple[str, float], Mapping[str, float]]) -> Figure:
    """Shares passed, and shown to have regressed, against the planted loss; found: by label and loss, in [0, 1]."""
    figure = Figure(figsize=(9.4, 3.7))
    panels = figure.subplots(1, 2, sharey=True)
    losses = [100 * loss for loss in planted.LOSSES]
    for axes, verdict in zip(panels, ("PASS", "REGRESSED"), strict=True):
        for recording in planted.RECORDINGS:
            shares = [100 * found[recording.label, loss].get(verdict, 0.0) for loss in planted.LOSSES]
            axes.plot(losses, shares, "o-", color=_colour(recording), markersize=5, markeredgecolor="white")
        axes.axvline(100 * planted.MARGIN, color=GREY, linewidth=0.8, linestyle=DASHED)
        axes.annotate("margin", (100 * planted.MARGIN + 0.1, 102), color=GREY, va="bottom")
        axes.set(xlabel="planted loss, points", ylim=(-3, 104), xlim=(-0.3, 10.4))
        axes.set_title(f"{verdict}, % of {planted.REPEATS:,} repeats", pad=16)
        axes.set_xticks(losses)
    key = (
        ("gsm8k, probabilities", ORANGE),
        ("mmlu, ifeval, instructions", BLUE),
        ("instructions, fresh answers", GREEN),
    )
    for place, (label, colour) in enumerate(key):
        panels[0].annotate(label, (4.0, 80 - 10 * place), color=colour)
    return figure


def _colour(recording: planted.Recording) -> str:
    if recording.fresh:
        return GREEN
    return ORANGE if "prob" in recording.metric else BLUE


@matplotlib.rc_context(STYLE)
def early_figure(found: Mapping[float, early.Stops]) -> Figure:
    """Items seen against the true change: the mean, and the range of the middle 8 of 10 runs."""
    figure = Figure(figsize=(7.8, 3.7))
    axes = figure.subplots()
    changes = [100 * change for change in found]
    axes.fill_between(
        changes, [s.few for s in found.values()], [s.many for s in found.values()], color=PALE, linewidth=0
    )
    axes.plot(changes, [s.batched for s in found.values()], "o-", color=BLUE, markersize=5)
    axes.axhline(early.ITEMS, color=GREY, linewidth=1.2)
    axes.axvline(-100 * early.MARGIN, color=GREY, linewidth=0.8, linestyle=DASHED)
    axes.annotate("without early stopping", (-9.9, early.ITEMS + 15), color=GREY, va="bottom")
    axes.annotate("margin", (-100 * early.MARGIN + 0.1, 30), color=GREY)
    axes.annotate("mean", (-7.6, 290), color=BLUE, ha="right", va="bottom")
    axes.annotate("9 of 10 runs\nare decided", (-5.3, 835), color=GREY, ha="right", va="center")
    axes.annotate("1 of 10 runs\nis decided", (-5.2, 245), color=GREY, va="top")
    axes.set(xlabel="true change, points", ylabel="items seen", ylim=(0, 1110), xlim=(-10.3, 3.3))
    ticks = range(-10, 4)
    axes.set_xticks(ticks, labels=[f"{tick:+d}".replace("-", "−") if tick else "0" for tick in ticks])
    return figure
