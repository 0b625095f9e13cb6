"""Plots of scores over layers and over shots, and the style of all figures.

Figures use matplotlib's objects instead of pyplot, so there is no global state and no display is needed.
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
WIDTH = 7.0  # inches: the width of a page of text, 1400 pixels
COLOURS = (  # Okabe and Ito 2008, readable with any colour vision; without their yellow, which is too light on white
    "#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000", "#8C6D31"
)  # fmt: skip
MARKERS = "osD^vPX*"
GREY = "#6B6B6B"
BAND_OPACITY = 0.15  # of an interval
SAME_LINE_THRESHOLD = 0.004  # baselines that are closer share one line, because they would hide each other
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
    "text.parse_math": False,  # a label with two dollar signs is not a formula
}


@dataclass(frozen=True)
class Curve:
    """A line with an interval band.

    Attributes:
        name: name in the legend.
        model: the model, which has its own colour.
        x: positions [N].
        mean: values [N].
        low, high: ends of the interval [N], None where there is none.
        variant: 0, 1, ...; the dash pattern.
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
    """Set the style of figures in this context; raise UsageError if matplotlib is not installed."""
    try:
        import matplotlib
    except ImportError as error:
        raise UsageError("Figures need matplotlib: pip install 'embedx[bench]'.") from error
    with matplotlib.rc_context(STYLE), warnings.catch_warnings():  # type: ignore[arg-type]
        warnings.filterwarnings("ignore", r"Glyph \d+ .* missing from font")  # labels in a script without a font
        yield


def make_figure(
    height: float, width: float = WIDTH, heights: Sequence[float] = (1,)
) -> "tuple[Figure, Sequence[Axes]]":
    """Return an empty figure with axes below each other; sizes are in inches, `heights` are relative."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height))
    FigureCanvasAgg(figure)
    return figure, figure.subplots(len(heights), squeeze=False, sharex=True, height_ratios=heights)[:, 0].tolist()


def to_png(figure: "Figure") -> bytes:
    """Return a figure as PNG."""
    data = io.BytesIO()
    with styled():
        figure.savefig(data, format="png", dpi=DPI, facecolor="white", bbox_inches="tight", pad_inches=0.06)
    return data.getvalue()


def colours_of(models: Sequence[str]) -> dict[str, str]:
    """Return a colour for every model. Give all models of a report, so that a model has one colour in all figures."""
    return {model: COLOURS[i % len(COLOURS)] for i, model in enumerate(sorted(set(models)))}


def capitalise(text: str) -> str:
    """Return text with a capital first letter; a name with a capital second letter is not changed.

    >>> capitalise("macro F1"), capitalise("mAP")
    ('Macro F1', 'mAP')
    """
    return text if text[1:2].isupper() else text[:1].upper() + text[1:]


def shorten(text: str, max_length: int = 28) -> str:
    """Return text with its middle left out if it is too long.

    >>> shorten("a very long name of a class", 15)
    'a very…a class'
    """
    text = display_path(text)
    head = max_length // 2
    return text if len(text) <= max_length else f"{text[:head].rstrip()}…{text[head + 1 - max_length :].lstrip()}"


def draw_layers(
    curves: Sequence[Curve],
    metric: str,
    *,
    colours: Mapping[str, str],
    baselines: Mapping[str, float] | None = None,
    all_layers_x: float | None = None,
    title: str = "",
) -> "Figure":
    """Plot scores over layers.

    Args:
        curves: a curve per model; x are layers.
        metric: the name of the score.
        colours: colour by model.
        baselines: scores of constant answers by name, shown as dashed lines.
        all_layers_x: the position of heads that read all layers.
        title: the title.
    """
    with styled():
        figure, (axes,) = make_figure(3.6)
        draw_curves(axes, curves, colours)
        draw_baselines(axes, baselines or {})
        layers = sorted({x for curve in curves for x in curve.x} - {all_layers_x})
        step = max(1, round(len(layers) / 13))
        ticks = dict(zip(layers[::step], (f"{x:g}" for x in layers[::step]), strict=True))
        if all_layers_x is not None:
            ticks[all_layers_x] = "all"
        axes.set_xticks(list(ticks), list(ticks.values()))
        low, high = min(ticks), max(max(ticks), *(layers or [0]))
        axes.set_xlim(low - max(0.5, (high - low) * 0.03), high + max(0.5, (high - low) * 0.03))
        label_axes(axes, "Layer", metric, title)
        add_legend(axes)
    return figure


def draw_shots(
    curves: Sequence[Curve],
    metric: str,
    *,
    colours: Mapping[str, str],
    baselines: Mapping[str, float] | None = None,
    all_rows_x: float | None = None,
    title: str = "",
) -> "Figure":
    """Plot scores over training rows per class, on a logarithmic axis.

    Args:
        curves: a curve per model; x are training rows per class.
        metric: the name of the score.
        colours: colour by model.
        baselines: scores of constant answers by name, shown as dashed lines.
        all_rows_x: the position of scores with all training rows.
        title: the title.
    """
    with styled():
        figure, (axes,) = make_figure(3.6)
        draw_curves(axes, curves, colours)
        draw_baselines(axes, baselines or {})
        axes.set_xscale("log", base=2)
        shots = sorted({x for curve in curves for x in curve.x})
        axes.set_xticks(shots, ["all" if x == all_rows_x else f"{x:g}" for x in shots])
        axes.minorticks_off()
        axes.set_xlim(shots[0] / 1.2, shots[-1] * 1.2)
        label_axes(axes, "Training rows per class", metric, title)
        add_legend(axes)
    return figure


def draw_curves(axes: "Axes", curves: Sequence[Curve], colours: Mapping[str, str]) -> None:
    """Plot lines with bands; a single point has a bar, and a thin horizontal line to compare it with other curves."""
    models = list(colours)
    for curve in curves:
        colour = colours[curve.model]
        dashes = ("-", "--", ":", "-.")[curve.variant % 4]
        marker = MARKERS[(models.index(curve.model) + curve.variant) % len(MARKERS)]
        is_point = len(curve.x) == 1
        line = {"color": colour, "marker": marker, "linestyle": "none" if is_point else dashes}
        with_interval = [i for i, low in enumerate(curve.low) if low is not None]
        low, high = ([float(ends[i] or 0) for i in with_interval] for ends in (curve.low, curve.high))
        x = [curve.x[i] for i in with_interval]
        axes.plot(curve.x, curve.mean, zorder=3, label=shorten(curve.name, 36), **line)  # type: ignore[arg-type]
        if is_point:
            axes.vlines(x, low, high, color=colour, linewidth=1.2, zorder=2)
            axes.axhline(curve.mean[0], color=colour, linewidth=0.8, alpha=0.4, zorder=1)
        elif x:
            axes.fill_between(x, low, high, color=colour, alpha=BAND_OPACITY, linewidth=0)


def draw_baselines(axes: "Axes", baselines: Mapping[str, float]) -> None:
    """Plot a grey line for each baseline; nearly equal baselines share one line."""
    names_by_y: dict[float, list[str]] = {}
    for name, y in baselines.items():
        same = next((other for other in names_by_y if abs(other - y) < SAME_LINE_THRESHOLD), y)
        names_by_y.setdefault(same, []).append(name)
    for (y, names), dashes in zip(names_by_y.items(), ("--", ":", "-."), strict=False):
        axes.axhline(y, color=GREY, linestyle=dashes, linewidth=1.1, label=" = ".join(names), zorder=1)


def label_axes(axes: "Axes", x: str, y: str, title: str) -> None:
    """Label the axes, and limit the y axis to 0 and 1 for scores that cannot be outside."""
    axes.set_xlabel(x)
    axes.set_ylabel(capitalise(y))
    axes.set_title(shorten(title, 70))
    if not y.startswith(("log loss", "d′")):
        low, high = axes.get_ylim()
        axes.set_ylim(max(low, 0), min(high, 1.005))


def add_legend(axes: "Axes") -> None:
    """Put the legend to the right of the axes, where it hides nothing."""
    axes.legend(loc="center left", bbox_to_anchor=(1.0, 0.5), borderaxespad=0.6)
