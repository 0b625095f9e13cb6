"""Maps: vectors -> two dimensions, and their picture coloured by label."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from embedx.bench.artifacts import Map
from embedx.bench.report.plots import COLOURS, MARKERS, canvas, shorten, styled
from embedx.errors import UsageError

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

NEIGHBOURS = 15  # of UMAP, its own default
NUMBERED = 8  # from so many labels on, the middle of each gets its number, since colours come twice,
BRIEF = 3  # or itself, where no label has more characters
MOST = 64  # labels in the legend; the rarest of more are grey
OTHERS = "#BDBDBD"
SHOWN = 30_000  # points of a picture: more hide each other

How = Literal["pca", "umap"]


def project(vectors: NDArray[np.float32], labels: NDArray[np.str_], how: How = "pca", *, seed: int = 0) -> Map:
    """Return vectors [N, D] in two dimensions, with the labels [N] that colour them.

    PCA keeps distances as well as two directions can, and its axes say how much of the variance they hold. UMAP keeps
    neighbours; its distances and the sizes of its clusters mean nothing.

    Raises:
        UsageError: fewer than three vectors or two columns, an unknown way, or umap-learn is not installed.
    """
    if len(vectors) < 3 or vectors.shape[1] < 2:
        raise UsageError(f"A map needs three vectors or more with two columns or more, not {vectors.shape}.")
    if how not in ("pca", "umap"):
        raise UsageError(f"There is no map {how!r}. Choose pca or umap.")
    if how == "umap":
        return Map(umap(vectors, seed), labels, ("UMAP 1", "UMAP 2"))
    centred = np.asarray(vectors, np.float64) - np.mean(vectors, axis=0, dtype=np.float64)
    left, sizes, directions = np.linalg.svd(centred, full_matrices=False)
    signs = np.sign(directions[np.arange(2), np.abs(directions[:2]).argmax(axis=1)])  # a picture is the same each time
    shares = sizes**2 / max(float((sizes**2).sum()), np.finfo(float).tiny)
    axes = tuple(f"PC {i + 1} ({shares[i]:.1%} of the variance)" for i in range(2))
    return Map((left[:, :2] * sizes[:2] * signs).astype(np.float32), labels, (axes[0], axes[1]))


def umap(vectors: NDArray[np.float32], seed: int) -> NDArray[np.float32]:
    """Return what umap-learn makes of vectors, by cosine."""
    try:
        from umap import UMAP
    except ImportError as error:
        raise UsageError("A UMAP needs umap-learn: pip install umap-learn. A PCA needs nothing more.") from error
    model = UMAP(metric="cosine", n_neighbors=min(NEIGHBOURS, len(vectors) - 1), random_state=seed, n_jobs=1)
    points: NDArray[np.float32] = model.fit_transform(vectors).astype(np.float32)
    return points


def draw_map(picture: Map, title: str = "", *, seed: int = 0) -> "Figure":
    """Draw a map; the legend goes from the commonest label on, and stays readable for fifty."""
    names, counts = np.unique(picture.labels, return_counts=True)
    order = np.argsort(-counts, kind="stable")
    named, rare = [str(name) for name in names[order[:MOST]]], names[order[MOST:]]
    drawn = np.random.default_rng(seed).permutation(len(picture.labels))[:SHOWN]  # no label lies on top of all others
    points, labels = picture.points[drawn], picture.labels[drawn]
    size = float(np.interp(len(points), [100, 1000, 10_000], [22, 11, 3]))
    brief = max(map(len, named)) <= BRIEF
    columns = 1 + (len(named) > 25) + (len(named) > 50)
    with styled():
        figure, (axes,) = canvas(4.6, 5.4 + 1.4 * columns)
        axes.set_axisbelow(True)
        if len(rare):
            others = np.isin(labels, rare)
            x, y = points[others].T
            axes.scatter(x, y, s=size * 0.6, color=OTHERS, linewidths=0, label=f"{len(rare)} rarer labels")
        for i, name in enumerate(named):
            x, y = points[labels == name].T
            number = f"{i + 1}  " if len(named) >= NUMBERED and not brief else ""
            axes.scatter(x, y, s=size, label=f"{number}{shorten(name, 24)}", **look(i))
        if len(named) >= NUMBERED:
            marks = [name if brief else str(i) for i, name in enumerate(named, start=1)]
            mark_labels(axes, {mark: points[labels == name] for mark, name in zip(marks, named, strict=True)})
        axes.set(xlabel=picture.axes[0], ylabel=picture.axes[1])
        axes.set_title(shorten(title, 60))
        axes.legend(
            loc="center left", bbox_to_anchor=(1.0, 0.5), ncols=columns, markerscale=max(1.0, (18 / size) ** 0.5),
            fontsize=float(np.interp(len(named), [10, 25, 64], [8, 7, 5.5])), handletextpad=0.2, columnspacing=0.8,
            labelspacing=0.35,
        )  # fmt: skip
    return figure


def look(i: int) -> dict[str, Any]:
    """Return colour and marker of the i-th label: all colours with one marker, then all with the next."""
    turn = i // len(COLOURS)
    return {
        "color": COLOURS[i % len(COLOURS)], "marker": MARKERS[turn % len(MARKERS)], "linewidths": 0, "alpha": 0.75
    }  # fmt: skip


def mark_labels(axes: "Axes", spots: Mapping[str, NDArray[np.float32]]) -> None:
    """Write the mark of each label at the middle of its points."""
    from matplotlib.patheffects import withStroke

    for mark, points in spots.items():
        if len(points):
            axes.annotate(
                mark, np.median(points, axis=0).tolist(), ha="center", va="center", fontsize=7,
                fontweight="bold", path_effects=[withStroke(linewidth=2.2, foreground="white")], zorder=5,
            )  # fmt: skip
