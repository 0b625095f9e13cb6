"""Project vectors to two dimensions, and plot them coloured by label."""

from collections.abc import Mapping
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from embedx.bench.artifacts import Map
from embedx.bench.report.plots import COLOURS, MARKERS, make_figure, shorten, styled
from embedx.errors import UsageError

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

NEIGHBOURS = 15  # UMAP's own default
MIN_NUMBERED = 8  # from this number of labels on, colours repeat, so each label's number is written at its centre,
MAX_SHORT = 3  # or the label itself, if no label is longer than this
MAX_LABELS = 64  # labels in the legend; points with rarer labels are grey
OTHERS = "#BDBDBD"
MAX_POINTS = 30_000  # more points would hide each other

Method = Literal["pca", "umap"]
METHODS: tuple[Method, ...] = get_args(Method)


def project(vectors: NDArray[np.float32], labels: NDArray[np.str_], method: Method = "pca", *, seed: int = 0) -> Map:
    """Project vectors to two dimensions.

    PCA shows the two directions with the most variance; its axes give the share of the variance. UMAP keeps near
    neighbours together; its distances and the sizes of its clusters have no meaning.

    Args:
        vectors: [N, D], N at least 3 and D at least 2.
        labels: labels [N], which colour the points.
        method: "pca" or "umap"; default "pca".
        seed: random seed of UMAP; default 0.

    Raises:
        UsageError: there are too few vectors or columns, the method is unknown, or umap-learn is not installed.
    """
    if len(vectors) < 3 or vectors.shape[1] < 2:
        raise UsageError(f"A map needs at least three vectors with at least two columns, not {vectors.shape}.")
    if method not in METHODS:
        raise UsageError(f"There is no map {method!r}. Choose pca or umap.")
    if method == "umap":
        return Map(project_umap(vectors, seed), labels, ("UMAP 1", "UMAP 2"))
    centred = np.asarray(vectors, np.float64) - np.mean(vectors, axis=0, dtype=np.float64)
    left, sizes, directions = np.linalg.svd(centred, full_matrices=False)
    signs = np.sign(directions[np.arange(2), np.abs(directions[:2]).argmax(axis=1)])  # makes the map deterministic
    shares = sizes**2 / max(float((sizes**2).sum()), np.finfo(float).tiny)
    axes = tuple(f"PC {i + 1} ({shares[i]:.1%} of the variance)" for i in range(2))
    return Map((left[:, :2] * sizes[:2] * signs).astype(np.float32), labels, (axes[0], axes[1]))


def project_umap(vectors: NDArray[np.float32], seed: int) -> NDArray[np.float32]:
    """Return the UMAP of vectors by cosine distance."""
    check_umap()
    from umap import UMAP

    model = UMAP(metric="cosine", n_neighbors=min(NEIGHBOURS, len(vectors) - 1), random_state=seed, n_jobs=1)
    points: NDArray[np.float32] = model.fit_transform(vectors).astype(np.float32)
    return points


def check_umap() -> None:
    """Raise UsageError if umap-learn is not installed."""
    if find_spec("umap") is None:
        raise UsageError("The map umap needs umap-learn (pip install umap-learn). The map pca needs no extra package.")


def draw_map(vector_map: Map, title: str = "", *, seed: int = 0) -> "Figure":
    """Plot a map with a legend, the most common label first."""
    names, counts = np.unique(vector_map.labels, return_counts=True)
    order = np.argsort(-counts, kind="stable")
    named, rare = [str(name) for name in names[order[:MAX_LABELS]]], names[order[MAX_LABELS:]]
    sample = np.random.default_rng(seed).permutation(len(vector_map.labels))[:MAX_POINTS]  # mixes labels in depth too
    points, labels = vector_map.points[sample], vector_map.labels[sample]
    size = float(np.interp(len(points), [100, 1000, 10_000], [22, 11, 3]))
    is_short = max(map(len, named)) <= MAX_SHORT
    columns = 1 + (len(named) > 25) + (len(named) > 50)
    with styled():
        figure, (axes,) = make_figure(4.6, 5.4 + 1.4 * columns)
        axes.set_axisbelow(True)
        if len(rare):
            x, y = points[np.isin(labels, rare)].T
            axes.scatter(x, y, s=size * 0.6, color=OTHERS, linewidths=0, label=f"{len(rare)} rarer labels")
        for i, name in enumerate(named):
            x, y = points[labels == name].T
            number = f"{i + 1}  " if len(named) >= MIN_NUMBERED and not is_short else ""
            axes.scatter(x, y, s=size, label=f"{number}{shorten(name, 24)}", **style_of(i))
        if len(named) >= MIN_NUMBERED:
            marks = [name if is_short else str(i) for i, name in enumerate(named, start=1)]
            mark_labels(axes, {mark: points[labels == name] for mark, name in zip(marks, named, strict=True)})
        axes.set(xlabel=vector_map.axes[0], ylabel=vector_map.axes[1])
        axes.set_title(shorten(title, 60))
        axes.legend(
            loc="center left", bbox_to_anchor=(1.0, 0.5), ncols=columns, markerscale=max(1.0, (18 / size) ** 0.5),
            fontsize=float(np.interp(len(named), [10, 25, 64], [8, 7, 5.5])), handletextpad=0.2, columnspacing=0.8,
            labelspacing=0.35,
        )  # fmt: skip
    return figure


def style_of(i: int) -> dict[str, Any]:
    """Return colour and marker of the i-th label: all colours with the first marker, then with the next."""
    return {
        "color": COLOURS[i % len(COLOURS)],
        "marker": MARKERS[i // len(COLOURS) % len(MARKERS)],
        "linewidths": 0,
        "alpha": 0.75,
    }


def mark_labels(axes: "Axes", points_by_mark: Mapping[str, NDArray[np.float32]]) -> None:
    """Write the mark of each label at the median of its points."""
    from matplotlib.patheffects import withStroke

    for mark, points in points_by_mark.items():
        if len(points):
            axes.annotate(
                mark, np.median(points, axis=0).tolist(), ha="center", va="center", fontsize=7,
                fontweight="bold", path_effects=[withStroke(linewidth=2.2, foreground="white")], zorder=5,
            )  # fmt: skip
