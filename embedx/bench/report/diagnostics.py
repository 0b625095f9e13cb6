"""Diagnostic figures of one head: confusion matrix, calibration, and F1 of each class."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from embedx.bench.report.plots import COLOURS, GREY, make_figure, shorten, styled
from embedx.metrics.calibration import Bin
from embedx.metrics.report import ClassMetrics

if TYPE_CHECKING:
    from matplotlib.figure import Figure

MAX_COUNTED = 20  # classes; the cells of a larger confusion matrix have no room for a number
Z = 1.96  # 95 % of a normal distribution is within this many standard deviations
MAX_LETTERS = 28  # of horizontal class names below a small confusion matrix
MAX_NAMED = 60  # classes; a larger confusion matrix does not show every name


def draw_confusion(counts: NDArray[np.int64], classes: Sequence[str], title: str = "") -> "Figure":
    """Plot a confusion matrix [C, C] of counts (rows are the true classes), coloured by the share of the true class."""
    count = len(classes)
    shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    size = float(np.interp(count, [2, 10, 50], [7, 7.5, 5.5]))
    side = float(np.interp(count, [2, 10, 20, 50], [3.2, 5.2, 7.0, 8.5]))
    with styled():
        figure, (axes,) = make_figure(side * 0.92, side)
        image = axes.imshow(shares, cmap="Blues", vmin=0, vmax=1, interpolation="nearest")
        step = max(1, -(-count // MAX_NAMED))
        names = [shorten(name, 22) for name in classes][::step]
        is_vertical = count > 4 or max(map(len, names)) > MAX_LETTERS // count
        axes.set_xticks(range(0, count, step), names, rotation=90 if is_vertical else 0, fontsize=size)
        axes.set_yticks(range(0, count, step), names, fontsize=size)
        axes.tick_params(length=0)
        axes.grid(False)
        axes.spines[:].set_visible(False)
        axes.set_xticks(np.arange(count - 1) + 0.5, minor=True)
        axes.set_yticks(np.arange(count - 1) + 0.5, minor=True)
        axes.grid(which="minor", color="white", linewidth=0.8 if count <= MAX_COUNTED else 0.3)
        axes.tick_params(which="minor", length=0)
        if count <= MAX_COUNTED:
            for i, j in zip(*np.nonzero(counts), strict=True):
                colour = "white" if shares[i, j] > 0.55 else "black"
                axes.text(j, i, f"{counts[i, j]}", ha="center", va="center", color=colour, fontsize=size)
        axes.set_xlabel("Predicted class")
        axes.set_ylabel("True class")
        axes.set_title(shorten(title, 60))
        bar = figure.colorbar(image, ax=axes, shrink=0.6, aspect=28, pad=0.02)
        bar.outline.set_visible(False)
        bar.set_label("Share of the true class")
    return figure


def draw_reliability(bins: Sequence[Bin], title: str = "") -> "Figure":
    """Plot the accuracy over the predicted probability, and below it the share of rows in each bin.

    Points below the line mean that the head is overconfident. Bars are 95 % intervals of the accuracy, as if rows were
    independent.
    """
    filled = [(bin.low, bin.high, bin.rows, bin.confidence or 0.0, bin.accuracy or 0.0) for bin in bins if bin.rows]
    low, high, rows, confidence, accuracy = np.array(filled, float).reshape(-1, 5).T
    # Wilson's interval (1927), which is also valid for few rows and for an accuracy of 1
    centre = (accuracy + Z**2 / (2 * rows)) / (1 + Z**2 / rows)
    half = np.sqrt(accuracy * (1 - accuracy) / rows + (Z / (2 * rows)) ** 2) * Z / (1 + Z**2 / rows)
    with styled():
        figure, (axes, below) = make_figure(4.6, 4.2, heights=[4, 1])
        axes.plot([0, 1], [0, 1], color=GREY, linestyle="--", linewidth=1.1, label="perfectly calibrated")
        bars = np.maximum([accuracy - centre + half, centre + half - accuracy], 0)
        axes.errorbar(confidence, accuracy, bars, color=COLOURS[0], marker="o", elinewidth=0.9, label="this head")
        axes.set(xlim=(0, 1), ylim=(0, 1.02), ylabel="Accuracy")
        axes.set_title(shorten(title, 44))
        axes.legend()
        below.bar(low, rows / rows.sum(), high - low, align="edge", color=COLOURS[0], edgecolor="white", linewidth=0.8)
        below.set(xlim=(0, 1), xlabel="Probability of the predicted class", ylabel="Rows (share)")
    return figure


def draw_classes(classes: Sequence[ClassMetrics], title: str = "") -> "Figure":
    """Plot F1 with its 95 % interval for every class that has rows, the best at the top, and a line at their mean."""
    scored = sorted(((each.f1, each) for each in classes if each.f1), key=lambda pair: pair[0].value)
    count, names = len(scored), [f"{shorten(each.name, 32)} ({each.rows})" for _, each in scored]
    value, low, high = np.array([(f1.value, f1.low, f1.high) for f1, _ in scored], float).reshape(-1, 3).T
    y = np.arange(count)
    with styled():
        figure, (axes,) = make_figure(min(1.1 + 0.19 * count, 11.0))
        axes.barh(y, value, height=0.72, color=COLOURS[5], zorder=2)
        axes.hlines(y, low, high, color="#222222", linewidth=1.1, zorder=3)
        axes.plot(np.r_[low, high], np.r_[y, y], "|", color="#222222", markersize=4, zorder=3)
        axes.axvline(
            value.mean(), color=GREY, linestyle="--", linewidth=1.1, label=f"mean {value.mean():.3f}", zorder=4
        )
        axes.legend(loc="lower right", bbox_to_anchor=(1.0, 1.0), borderpad=0)
        axes.set_yticks(y, names, fontsize=8 if count <= 30 else 6.5)
        axes.tick_params(axis="y", length=0)
        axes.grid(axis="y", visible=False)
        axes.set(xlim=(0, 1), ylim=(-0.6, count - 0.4), xlabel="F1 (test rows in brackets)")
        axes.set_title(shorten(title, 70))
    return figure
