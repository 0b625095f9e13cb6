"""Figures: curves over layers and shots, and the style that all figures share.

Figures are made with matplotlib's objects, not with pyplot, so nothing is left behind and no display is needed.
"""

import io
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from embedx.errors import UsageError
from embedx.filesystem.paths import display_path

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

DPI = 200
WIDTH = 7.0  # inches: a page of text, and 1400 pixels
COLOURS = (  # Okabe and Ito 2008, told apart with any colour vision; their yellow is too light for a line on white
    "#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000", "#8C6D31"
)  # fmt: skip
MARKERS = "osD^vPX*"
GREY = "#6B6B6B"
BAND = 0.15  # opacity of an interval
SAME = 0.004  # closer lines cannot be told apart
STYLE = {
    "font.size": 9,
    "axes.titlesize": 10,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.edgecolor": "#444444",
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": "#E4E4E4",
    "grid.linewidth": 0.6,
    "legend.frameon": False,
    "legend.fontsize": 8,
    "lines.linewidth": 1.6,
    "lines.markersize": 4.5,
    "figure.constrained_layout.use": True,
    "text.parse_math": False,  # a label with two dollars is not a formula
}


@dataclass(frozen=True)
class Curve:
    """A line with a band: x [N], mean, low and high [N]; low and high are None where there is no interval.

    `model` decides on the colour, `variant` (0, 1, ...) on the dashes; `name` is for the legend.
    """

    name: str
    model: str
    x: Sequence[float]
    mean: Sequence[float]
    low: Sequence[float | None]
    high: Sequence[float | None]
    variant: int = 0


@contextmanager
def styled() -> Iterator[None]:
    """Set the style of what is made inside, and say what to install where matplotlib is missing."""
    try:
        import matplotlib
    except ImportError as error:
        raise UsageError("Figures need matplotlib: pip install 'embedx[bench]'.") from error
    with matplotlib.rc_context(STYLE), warnings.catch_warnings():  # type: ignore[arg-type]
        warnings.filterwarnings("ignore", r"Glyph \d+ .* missing from font")  # labels in a script that no font has
        yield


def canvas(height: float, width: float = WIDTH, parts: Sequence[float] = (1,)) -> "tuple[Figure, Sequence[Axes]]":
    """Return an empty figure, its sizes in inches, with axes one below the other, as high as `parts` says."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height))
    FigureCanvasAgg(figure)
    return figure, figure.subplots(len(parts), squeeze=False, sharex=True, height_ratios=parts)[:, 0].tolist()


def to_png(figure: "Figure") -> bytes:
    """Return a figure as PNG."""
    data = io.BytesIO()
    with styled():
        figure.savefig(data, format="png", dpi=DPI, facecolor="white", bbox_inches="tight", pad_inches=0.06)
    return data.getvalue()


def colours_of(models: Sequence[str]) -> dict[str, str]:
    """Return a colour for every model; give all models of a report, so that one has the same colour everywhere."""
    return {model: COLOURS[i % len(COLOURS)] for i, model in enumerate(sorted(set(models)))}


def capital(text: str) -> str:
    """Return text with a capital first letter; a name that has its own capitals stays.

    >>> capital("macro F1"), capital("mAP")
    ('Macro F1', 'mAP')
    """
    return text if text[1:2].isupper() else text[:1].upper() + text[1:]


def shorten(text: str, most: int = 28) -> str:
    """Return text that fits beside a figure, its middle left out.

    >>> shorten("a very long name of a class", 15)
    'a very…a class'
    """
    text = display_path(text)
    head = most // 2
    return text if len(text) <= most else f"{text[:head].rstrip()}…{text[head + 1 - most :].lstrip()}"


def draw_layers(
    curves: Sequence[Curve],
    metric: str,
    *,
    colours: Mapping[str, str],
    lines: Mapping[str, float] | None = None,
    every: float | None = None,
    title: str = "",
) -> "Figure":
    """Draw the score over layers: a curve per model with its 95 % band, and a dashed line for every baseline.

    x of the curves are layers; at `every` stand the heads that read all layers.
    """
    with styled():
        figure, (axes,) = canvas(3.6)
        draw_curves(axes, curves, colours)
        draw_baselines(axes, lines or {})
        layers = sorted({x for curve in curves for x in curve.x} - {every})
        step = max(1, round(len(layers) / 13))
        ticks = dict(zip(layers[::step], (f"{x:g}" for x in layers[::step]), strict=True))
        if every is not None:
            ticks[every] = "all"
        axes.set_xticks(list(ticks), list(ticks.values()))
        low, high = min(ticks), max(max(ticks), *(layers or [0]))
        axes.set_xlim(low - max(0.5, (high - low) * 0.03), high + max(0.5, (high - low) * 0.03))
        finish(axes, "Layer", metric, title)
        legend(axes)
    return figure


def draw_shots(
    curves: Sequence[Curve],
    metric: str,
    *,
    colours: Mapping[str, str],
    lines: Mapping[str, float] | None = None,
    every: float | None = None,
    title: str = "",
) -> "Figure":
    """Draw the score over training rows per class, on an axis where each step doubles them.

    At `every` stands what all training rows give.
    """
    with styled():
        figure, (axes,) = canvas(3.6)
        draw_curves(axes, curves, colours)
        draw_baselines(axes, lines or {})
        axes.set_xscale("log", base=2)
        shots = sorted({x for curve in curves for x in curve.x})
        axes.set_xticks(shots, ["all" if x == every else f"{x:g}" for x in shots])
        axes.minorticks_off()
        axes.set_xlim(shots[0] / 1.2, shots[-1] * 1.2)
        finish(axes, "Training rows per class", metric, title)
        legend(axes)
    return figure


def draw_curves(axes: "Axes", curves: Sequence[Curve], colours: Mapping[str, str]) -> None:
    """Draw lines with bands; a single point has a bar, and a thin line through the figure."""
    models = list(colours)
    for curve in curves:
        colour = colours[curve.model]
        dashes = ("-", "--", ":", "-.")[curve.variant % 4]
        marker = MARKERS[(models.index(curve.model) + curve.variant) % len(MARKERS)]
        alone = len(curve.x) == 1
        line = {"color": colour, "marker": marker, "linestyle": "none" if alone else dashes}
        banded = [i for i, low in enumerate(curve.low) if low is not None]
        low, high = ([float(side[i] or 0) for i in banded] for side in (curve.low, curve.high))
        x = [curve.x[i] for i in banded]
        axes.plot(curve.x, curve.mean, zorder=3, label=shorten(curve.name, 36), **line)  # type: ignore[arg-type]
        if alone:
            axes.vlines(x, low, high, color=colour, linewidth=1.2, zorder=2)
            axes.axhline(curve.mean[0], color=colour, linewidth=0.8, alpha=0.4, zorder=1)  # to compare with at any x
        elif x:
            axes.fill_between(x, low, high, color=colour, alpha=BAND, linewidth=0)


def draw_baselines(axes: "Axes", lines: Mapping[str, float]) -> None:
    """Draw a grey line for each of what is reached without listening; those that would hide each other are one."""
    named: dict[float, list[str]] = {}
    for name, y in lines.items():
        named.setdefault(next((one for one in named if abs(one - y) < SAME), y), []).append(name)
    for (y, names), dashes in zip(named.items(), ("--", ":", "-."), strict=False):
        axes.axhline(y, color=GREY, linestyle=dashes, linewidth=1.1, label=" = ".join(names), zorder=1)


def finish(axes: "Axes", x: str, y: str, title: str) -> None:
    """Name the axes; shares end at 0 and 1 however wide an interval is."""
    axes.set_xlabel(x)
    axes.set_ylabel(capital(y))
    axes.set_title(shorten(title, 70))
    if not y.startswith(("log loss", "d′")):
        low, high = axes.get_ylim()
        axes.set_ylim(max(low, 0), min(high, 1.005))


def legend(axes: "Axes") -> None:
    """Put the legend where it hides nothing: to the right of the axes."""
    axes.legend(loc="center left", bbox_to_anchor=(1.0, 0.5), borderaxespad=0.6)
