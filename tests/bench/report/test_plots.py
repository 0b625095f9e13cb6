import io
import itertools
import sys
import types
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from PIL import Image

from embedx.bench.report.diagnostics import draw_classes, draw_confusion, draw_reliability
from embedx.bench.report.plots import COLOURS, DPI, Curve, colours_of, draw_layers, draw_shots, shorten, styled, to_png
from embedx.bench.report.projections import draw_map, project
from embedx.errors import UsageError
from embedx.metrics.calibration import reliability
from embedx.metrics.scoring import evaluate

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

FIRST = ("crackling fire", "$^_$ is no formula", "🦜 \x07 call", "a name that does not end", "dog")
SECOND = ("near", "far away from everything", "<b>", "\udcff", "at night", "raining", "x", "&amp;", "cat", "z")
LONG = [f"{a} {b}" for a in FIRST for b in SECOND]


def pixels(figure: "Figure") -> np.ndarray:
    """Return a figure written as PNG and decoded again."""
    image = Image.open(io.BytesIO(to_png(figure)))
    image.load()
    assert image.format == "PNG"
    assert image.info["dpi"][0] == pytest.approx(DPI, abs=0.1)
    array = np.asarray(image.convert("RGB"))
    assert array.std() > 10, "blank"
    edge = np.concatenate([array[0], array[-1], array[:, 0], array[:, -1]])
    assert (edge == 255).all(), "something is cut off at the edge"
    return array


def collide(texts: Sequence[Any]) -> bool:
    """Tell whether two texts of a drawn figure overlap."""
    with styled():
        found = [text.get_window_extent(dpi=DPI) for text in texts if text.get_text()]
    return any(
        min(min(a.x1, b.x1) - max(a.x0, b.x0), min(a.y1, b.y1) - max(a.y0, b.y0))
        > 0.2 * min(a.width, a.height, b.width, b.height)
        for a, b in itertools.combinations(found, 2)
    )


def legend_of(axes: "Axes") -> list[str]:
    """Return the legend of axes, which must stand to their right."""
    found = axes.get_legend()
    assert found is not None
    with styled():
        assert found.get_window_extent().x0 > axes.get_window_extent().x1, "the legend hides something"
    return [text.get_text() for text in found.get_texts()]


def curves(models: int, layers: int) -> list[Curve]:
    x = list(range(layers))
    return [
        Curve(f"owner/model-{i}-with-a-long-name", f"m{i}", x, [0.9 - 0.1 * i] * layers, [0.8 - 0.1 * i] * layers,
              [1.1 - 0.1 * i] * layers)
        for i in range(models)
    ]  # fmt: skip


@pytest.mark.parametrize(("models", "layers"), [(1, 1), (8, 1), (8, 25), (1, 13)])
def test_layer_curves_of_any_size_are_drawn_whole(models: int, layers: int) -> None:
    found = curves(models, layers)
    figure = draw_layers(
        found, "accuracy", colours=colours_of([one.model for one in found]), baselines={"majority": 0.1, "chance": 0.1}
    )
    pixels(figure)
    (axes,) = figure.axes
    low, high = axes.get_ylim()
    assert low >= 0
    assert high <= 1.01, "no accuracy is above 1"
    assert len(legend_of(axes)) == models + 1
    assert legend_of(axes)[-1] == "majority = chance"
    assert not collide(axes.get_xticklabels())


def test_model_has_one_colour_in_all_figures() -> None:
    colours = colours_of(["yamnet", "hubert", "ast"])
    curve = Curve("h", "hubert", [1, 2], [0.1, 0.2], [None] * 2, [None] * 2)
    alone, few = draw_layers([curve], "accuracy", colours=colours), draw_shots([curve], "accuracy", colours=colours)
    assert {figure.axes[0].lines[0].get_color() for figure in (alone, few)} == {colours["hubert"]}
    assert len(set(colours_of([str(i) for i in range(8)]).values())) == 8


def test_shots_axis_doubles_at_every_step() -> None:
    shots = [1, 2, 4, 8, 16, 32, 64]
    curve = Curve("m", "m", shots, [0.1 * i for i in range(7)], [0.0] * 7, [0.7] * 7)
    figure = draw_shots([curve], "accuracy", colours=colours_of(["m"]), all_rows_x=64)
    pixels(figure)
    axes = figure.axes[0]
    assert [text.get_text() for text in axes.get_xticklabels()] == ["1", "2", "4", "8", "16", "32", "all"]
    places = axes.transData.transform([(s, 0) for s in shots])[:, 0]
    np.testing.assert_allclose(np.diff(places), np.diff(places)[0], rtol=1e-6)


@pytest.mark.parametrize("classes", [2, 50, *(pytest.param(count, marks=pytest.mark.long) for count in (10, 20, 120))])
def test_confusion_matrix_is_readable(classes: int) -> None:
    names = [f"{name} {i}" for i, name in enumerate(itertools.islice(itertools.cycle(LONG), classes))]
    counts = np.random.default_rng(0).integers(0, 9, (classes, classes))
    counts[0] = 0  # a class that no test row has
    figure = draw_confusion(counts, names, "a model")
    pixels(figure)
    axes = figure.axes[0]
    for labels in (axes.get_xticklabels(), axes.get_yticklabels()):
        assert len(labels) >= min(classes, 40)
        assert not collide(labels)
    written = [text.get_text() for text in axes.texts]
    assert written == [str(n) for n in counts.ravel() if n] * (classes <= 20)


def test_confusion_shares_are_of_the_true_class() -> None:
    figure = draw_confusion(np.array([[3, 1], [0, 0]]), ["a", "b"])
    image = figure.axes[0].images[0].get_array()
    assert image is not None
    np.testing.assert_array_equal(image, [[0.75, 0.25], [0, 0]])


def scored(classes: int, rows: int = 300) -> tuple[np.ndarray, np.ndarray]:
    random = np.random.default_rng(0)
    truth = random.integers(classes, size=rows)
    logits = random.standard_normal((rows, classes))
    logits[np.arange(rows), truth] += 2
    proba = np.exp(logits)
    return truth, proba / proba.sum(axis=1, keepdims=True)


def test_reliability_diagram_shows_its_bins() -> None:
    truth, proba = scored(4)
    bins = reliability(truth, proba)
    figure = draw_reliability(bins, "a model")
    pixels(figure)
    drawn = np.asarray(figure.axes[0].lines[1].get_xydata(), float)
    assert drawn == pytest.approx(np.array([(one.confidence, one.accuracy) for one in bins if one.rows], float))
    assert sum(bar.get_height() for bar in figure.axes[1].patches) == pytest.approx(1)  # type: ignore[attr-defined]
    pixels(draw_reliability(reliability([0], [[1.0, 0.0]])))


@pytest.mark.parametrize("classes", [2, 50])
def test_classes_plot_is_sorted_with_intervals(classes: int) -> None:
    truth, proba = scored(classes)
    metrics = evaluate(truth, proba, LONG[:classes], samples=50)
    figure = draw_classes(metrics.per_class, "a model")
    pixels(figure)
    axes = figure.axes[0]
    widths = [bar.get_width() for bar in axes.patches]  # type: ignore[attr-defined]
    assert widths == sorted(widths)
    assert sorted(widths) == sorted(one.f1.value for one in metrics.per_class if one.f1)
    assert not collide(axes.get_yticklabels())


def test_map_equals_scikit_learn_pca() -> None:
    from sklearn.decomposition import PCA

    random = np.random.default_rng(0)
    x = (random.standard_normal((80, 12)) * np.arange(1, 13) + 100).astype(np.float32)
    found = project(x, np.array(["a"] * 80))
    model = PCA(2).fit(x.astype(np.float64))
    np.testing.assert_allclose(
        np.abs(found.points), np.abs(model.transform(x.astype(np.float64))), rtol=1e-3, atol=1e-3
    )
    assert found.axes[0] == f"PC 1 ({model.explained_variance_ratio_[0]:.1%} of the variance)"
    np.testing.assert_allclose(project(-x, found.labels).points, -found.points, atol=1e-3)
    np.testing.assert_allclose(project(x[::-1], found.labels).points, found.points[::-1], atol=1e-3)


@pytest.mark.parametrize("labels", [1, 10, 50, *(pytest.param(count, marks=pytest.mark.long) for count in (3, 90))])
def test_map_names_every_label(labels: int) -> None:
    random = np.random.default_rng(0)
    names = np.array([f"{LONG[i % 50]} {i}" for i in np.arange(300) % labels])
    figure = draw_map(project(random.standard_normal((300, 5)).astype(np.float32), names), "a view")
    pixels(figure)
    axes = figure.axes[0]
    assert len(legend_of(axes)) == min(labels, 64) + (labels > 64)
    looks = {(str(dots.get_facecolor()), str(dots.get_paths()[0].vertices)) for dots in axes.collections}
    assert len(looks) == len(axes.collections), "two labels look the same"
    assert len(axes.texts) == (min(labels, 64) if labels > len(COLOURS) - 1 else 0)


def test_map_of_degenerate_vectors_is_drawn() -> None:
    pixels(draw_map(project(np.zeros((5, 4), np.float32), np.array(list("abcde")))))
    with pytest.raises(UsageError, match="at least three vectors"):
        project(np.zeros((2, 4), np.float32), np.array(["a", "b"]))
    with pytest.raises(UsageError, match="Choose pca or umap"):
        project(np.zeros((5, 4), np.float32), np.array(["a"] * 5), "tsne")  # type: ignore[arg-type]
    with pytest.raises(UsageError, match="two columns"):
        project(np.zeros((5, 1), np.float32), np.array(["a"] * 5))


def test_missing_plot_library_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "umap", None)
    with pytest.raises(UsageError, match="pip install umap-learn"):
        project(np.zeros((5, 4), np.float32), np.array(["a"] * 5), "umap")
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(UsageError, match=r"pip install 'embedx\[bench\]'"):
        draw_confusion(np.eye(2, dtype=np.int64), ["a", "b"])


def test_long_names_are_shortened_in_the_middle() -> None:
    for name in LONG:
        assert len(shorten(name, 12)) <= 12
        assert shorten(name, 12).isprintable()
    assert shorten("dog", 12) == "dog"


def test_drawing_leaves_no_matplotlib_state() -> None:
    import matplotlib

    before = dict(matplotlib.rcParams)
    assert isinstance(matplotlib, types.ModuleType)
    pixels(draw_confusion(np.eye(2, dtype=np.int64), ["a", "b"]))
    assert dict(matplotlib.rcParams) == before
