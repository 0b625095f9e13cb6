"""Diagnostics: what a head confuses, how far its probabilities can be believed, and which classes it knows."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from embedx.bench.report.plots import COLOURS, GREY, canvas, shorten, styled
from embedx.metrics.calibration import Bin
from embedx.metrics.report import ClassMetrics

if TYPE_CHECKING:
    from matplotlib.figure import Figure

COUNTED = 20  # classes up to which the cells of a confusion matrix can hold a number
Z = 1.96  # standard deviations to either side hold 95 % of a normal distribution
LETTERS = 28  # that stand side by side below a confusion matrix of few classes
NAMED = 60  # classes up to which every one gets its name


def draw_confusion(counts: NDArray[np.int64], classes: Sequence[str], title: str = "") -> "Figure":
    """Draw a confusion matrix [C, C] (rows are the truth), each row as shares of its class."""
    many = len(classes)
    shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    size = float(np.interp(many, [2, 10, 50], [7, 7.5, 5.5]))
    side = float(np.interp(many, [2, 10, 20, 50], [3.2, 5.2, 7.0, 8.5]))
    with styled():
        figure, (axes,) = canvas(side * 0.92, side)
        image = axes.imshow(shares, cmap="Blues", vmin=0, vmax=1, interpolation="nearest")
        step = max(1, -(-many // NAMED))
        names = [shorten(name, 22) for name in classes][::step]
        upright = many > 4 or max(map(len, names)) > LETTERS // many
        axes.set_xticks(range(0, many, step), names, rotation=90 if upright else 0, fontsize=size)
        axes.set_yticks(range(0, many, step), names, fontsize=size)
        axes.tick_params(length=0)
        axes.grid(False)
        axes.spines[:].set_visible(False)
        axes.set_xticks(np.arange(many - 1) + 0.5, minor=True)
        axes.set_yticks(np.arange(many - 1) + 0.5, minor=True)
        axes.grid(which="minor", color="white", linewidth=0.8 if many <= COUNTED else 0.3)
        axes.tick_params(which="minor", length=0)
        if many <= COUNTED:
            for i, j in zip(*np.nonzero(counts), strict=True):
                ink = "white" if shares[i, j] > 0.55 else "black"
                axes.text(j, i, f"{counts[i, j]}", ha="center", va="center", color=ink, fontsize=size)
        axes.set_xlabel("Predicted class")
        axes.set_ylabel("True class")
        axes.set_title(shorten(title, 60))
        bar = figure.colorbar(image, ax=axes, shrink=0.6, aspect=28, pad=0.02)
        bar.outline.set_visible(False)
        bar.set_label("Share of the true class")
    return figure


def draw_reliability(bins: Sequence[Bin], title: str = "") -> "Figure":
    """Draw the share of right answers over the probability given, and below how many rows have it.

    Where the points lie below the line, the head is too sure of itself. Bars are 95 % intervals of a share.
    """
    filled = [(one.low, one.high, one.rows, one.confidence or 0.0, one.accuracy or 0.0) for one in bins if one.rows]
    low, high, rows, confidence, right = np.array(filled, float).reshape(-1, 5).T
    centre = (right + Z**2 / (2 * rows)) / (1 + Z**2 / rows)  # Wilson 1927: also right for few rows, and for none wrong
    half = np.sqrt(right * (1 - right) / rows + (Z / (2 * rows)) ** 2) * Z / (1 + Z**2 / rows)
    with styled():
        figure, (axes, below) = canvas(4.6, 4.2, parts=[4, 1])
        axes.plot([0, 1], [0, 1], color=GREY, linestyle="--", linewidth=1.1, label="perfectly calibrated")
        sides = np.maximum([right - centre + half, centre + half - right], 0)
        axes.errorbar(confidence, right, sides, color=COLOURS[0], marker="o", elinewidth=0.9, label="this head")
        axes.set(xlim=(0, 1), ylim=(0, 1.02), ylabel="Share that is right")
        axes.set_title(shorten(title, 44))
        axes.legend()
        below.bar(low, rows / rows.sum(), high - low, align="edge", color=COLOURS[0], edgecolor="white", linewidth=0.8)
        below.set(xlim=(0, 1), xlabel="Probability of the predicted class", ylabel="Rows (share)")
    return figure


def draw_classes(classes: Sequence[ClassMetrics], title: str = "") -> "Figure":
    """Draw F1 with its 95 % interval for every class that has rows, the best on top, and a line at their mean."""
    found = sorted(
        ((one.f1.value, one.f1.low, one.f1.high, f"{shorten(one.name, 32)} ({one.rows})") for one in classes if one.f1),
        key=lambda one: one[0],
    )
    many, names = len(found), [one[3] for one in found]
    value, low, high = np.array([one[:3] for one in found], float).reshape(-1, 3).T
    y = np.arange(many)
    with styled():
        figure, (axes,) = canvas(min(1.1 + 0.19 * many, 11.0))
        axes.barh(y, value, height=0.72, color=COLOURS[5], zorder=2)
        axes.hlines(y, low, high, color="#222222", linewidth=1.1, zorder=3)
        axes.plot(np.r_[low, high], np.r_[y, y], "|", color="#222222", markersize=4, zorder=3)
        axes.axvline(
            value.mean(), color=GREY, linestyle="--", linewidth=1.1, label=f"mean {value.mean():.3f}", zorder=4
        )
        axes.legend(loc="lower right", bbox_to_anchor=(1.0, 1.0), borderpad=0)
        axes.set_yticks(y, names, fontsize=8 if many <= 30 else 6.5)
        axes.tick_params(axis="y", length=0)
        axes.grid(axis="y", visible=False)
        axes.set(xlim=(0, 1), ylim=(-0.6, many - 0.4), xlabel="F1 (test rows in brackets)")
        axes.set_title(shorten(title, 70))
    return figure
