from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Self

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor

from embedx import extractors
from embedx.audio.windows import Window
from embedx.embedding.embedder import Embedder, pick_layers, pick_poolings
from embedx.errors import RecipeMismatch, UsageError
from embedx.extractors.base import Extractor
from embedx.extractors.devices import DTYPES, pick_devices, pick_precision
from embedx.extractors.spectrogram import Prepared, Spectrogram
from embedx.recipe import Recipe
from tests.helpers.embedding import SECONDS, recipe_of, windows


@pytest.fixture(params=["logmel", "hubert"])
def model(request: pytest.FixtureRequest, checkpoint: Callable[[str], Path]) -> str:
    return "logmel" if request.param == "logmel" else str(checkpoint("hubert"))


def test_vectors_do_not_depend_on_batch_or_order(model: str) -> None:
    extractor = extractors.load(model)
    recipe = recipe_of(extractor, model)
    reference = {key: vectors for key, vectors, _ in Embedder(extractor, recipe, batch_seconds=0.001).embed(windows())}
    assert set(reference) == set(range(len(SECONDS)))
    for batch_seconds, order in ((3.0, 1), (10.0, -1), (1000.0, 1)):
        embedder = Embedder(extractor, recipe, batch_seconds=batch_seconds)
        for key, vectors, _ in embedder.embed(windows()[::order]):
            assert set(vectors) == set(recipe.views)
            for view, vector in vectors.items():
                assert vector.dtype == np.float32
                scale = max(1.0, float(np.abs(reference[key][view]).max()))
                np.testing.assert_allclose(vector, reference[key][view], atol=1e-5 * scale)


def test_window_shorter_than_a_frame_is_padded_and_flagged(model: str) -> None:
    extractor = extractors.load(model)
    embedder = Embedder(extractor, recipe_of(extractor, model))
    flags = {key: flags for key, _, flags in embedder.embed(windows())}
    for key, window in windows():
        assert flags[key] == (("padded",) if len(window.samples) < extractor.min_samples else ())


class Hungry:
    """A real extractor on a machine that has memory for two clips at a time."""

    def __init__(self, inner: Extractor) -> None:
        self.inner = inner
        self.sizes: list[int] = []
        self.sample_rate, self.layers, self.dim = inner.sample_rate, inner.layers, inner.dim
        self.frame_rate = inner.frame_rate
        self.min_samples, self.max_samples, self.weights = inner.min_samples, inner.max_samples, inner.weights

    def frames(self, waves: Tensor, lengths: Tensor, layers: tuple[int, ...]) -> Iterator[tuple[int, Tensor, Tensor]]:
        self.sizes.append(len(waves))
        if len(waves) > 2:
            raise torch.OutOfMemoryError("no room")
        return self.inner.frames(waves, lengths, layers)

    def to(self, device: str) -> Self:
        self.inner = self.inner.to(device)
        return self


def test_batch_that_does_not_fit_is_halved_with_equal_vectors(model: str) -> None:
    extractor = extractors.load(model)
    hungry, recipe = Hungry(extractor), recipe_of(extractor, model)
    clips = list(enumerate(window for _, window in windows() for _ in range(4)))  # of each length, for they go together
    found = {key: vectors for key, vectors, _ in Embedder(hungry, recipe).embed(clips)}
    expected = {key: vectors for key, vectors, _ in Embedder(extractor, recipe).embed(clips)}
    assert max(hungry.sizes) > 2
    for key in expected:
        for view in recipe.views:
            np.testing.assert_allclose(found[key][view], expected[key][view], rtol=1e-5, atol=1e-4)


def test_batches_keep_budget_and_pad_little() -> None:
    class Counting(Hungry):
        def __init__(self, inner: Extractor) -> None:
            super().__init__(inner)
            self.padded = self.valid = 0

        def frames(
            self, waves: Tensor, lengths: Tensor, layers: tuple[int, ...]
        ) -> Iterator[tuple[int, Tensor, Tensor]]:
            assert waves.shape[0] == 1 or waves.numel() <= 30 * 16_000
            self.padded += waves.numel()
            self.valid += int(lengths.sum())
            return self.inner.frames(waves, lengths, layers)

    extractor = Counting(extractors.load("logmel"))
    random = np.random.default_rng(3)
    lengths = (np.exp(random.uniform(np.log(1.0), np.log(20), 400)) * 16_000).astype(int)
    stream = ((i, Window(0, n / 16_000, np.zeros(n, np.float32))) for i, n in enumerate(lengths))
    assert len(list(Embedder(extractor, recipe_of(extractor, "logmel"), batch_seconds=30).embed(stream))) == 400
    assert extractor.padded / extractor.valid < 1.10


@pytest.mark.parametrize(
    "name, memory", [("whisper", 1), ("ast", 1), ("clap", 1), ("wav2vec2-bert", 1), ("mimi", 1.56)]
)
def test_budget_counts_the_padding_that_the_model_computes_and_its_memory(
    name: str, memory: float, checkpoint: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whisper computes 30 s for a clip of 0.4 s, so two clips fill a budget of 65 s."""
    model = str(checkpoint(name))
    extractor = extractors.load(model)
    assert isinstance(extractor, Spectrogram)
    rate, prepare = extractor.sample_rate, extractor.prepare
    sizes: list[int] = []
    field = extractor.max_samples or round(0.4 * rate)

    def count(clips: Sequence[NDArray[np.float32]]) -> list[Prepared]:
        sizes.append(len(clips))
        return prepare(clips)

    monkeypatch.setattr(extractor, "prepare", count)
    embedder = Embedder(extractor, recipe_of(extractor, model), batch_seconds=2.2 * memory * field / rate)
    clips = [(i, Window(0, 0.4, np.full(round(0.4 * rate), 0.1, np.float32))) for i in range(5)]
    assert len(list(embedder.embed(iter(clips)))) == 5
    assert sizes == [2, 2, 1]
    assert embedder.padding == pytest.approx(field / round(0.4 * rate))
    sizes.clear()
    embedder = Embedder(extractor, recipe_of(extractor, model), batch_seconds=0.1 * field / rate)
    assert len(list(embedder.embed(iter(clips[:2])))) == 2
    assert sizes == [1, 1]


def test_embedder_from_recipe_gives_equal_vectors(model: str) -> None:
    extractor = extractors.load(model)
    recipe = recipe_of(extractor, model)
    first = next(iter(Embedder(extractor, recipe).embed(windows()[:1])))[1]
    again = next(iter(Embedder.from_recipe(Recipe.from_json(recipe.to_json())).embed(windows()[:1])))[1]
    for view in recipe.views:
        np.testing.assert_array_equal(first[view], again[view])


def test_other_weights_at_same_path_are_refused() -> None:
    recipe = recipe_of(extractors.load("logmel"), "logmel")
    with pytest.raises(RecipeMismatch, match="weights"):
        Embedder.from_recipe(Recipe.from_json(recipe.to_json().replace(recipe.weights, "0" * 64)))


@pytest.mark.parametrize("precision", ["bfloat16", "float16"])
@pytest.mark.parametrize("name", ["logmel", "hubert-wide"])
def test_half_precision_vectors_are_near_float32(name: str, precision: str, checkpoint: Callable[[str], Path]) -> None:
    model = name if name == "logmel" else str(checkpoint(name))
    extractor = extractors.load(model)
    recipe = recipe_of(extractor, model, ("mean",))
    exact = {key: vectors for key, vectors, _ in Embedder(extractor, recipe).embed(windows())}
    for key, vectors, _ in Embedder(extractor, recipe, precision=precision).embed(windows()):
        for view in recipe.views:
            a, b = vectors[view], exact[key][view]
            assert a.dtype == np.float32
            assert a @ b / np.linalg.norm(a) / np.linalg.norm(b) > 0.9995


def test_invalid_choices_are_refused() -> None:
    assert pick_layers([0, -1], (0, 1, 2)) == (0, 2)
    assert pick_poolings(["max", "mean", "max"]) == ("max", "mean")
    for layers in ("13", "first", -4, "", "0,99", [3]):
        with pytest.raises(UsageError, match="0, 1, 2"):
            pick_layers(layers, (0, 1, 2))
    for pooling in ("median", "", "mean,"):
        with pytest.raises(UsageError, match="mean, sum, max"):
            pick_poolings(pooling)
    with pytest.raises(UsageError, match="auto, cpu, cuda"):
        pick_devices("tpu")
    if not torch.cuda.is_available():
        with pytest.raises(UsageError, match="no GPU"):
            pick_devices("cuda")
        assert pick_devices("auto") == ("cpu",)
    with pytest.raises(UsageError, match="bfloat16"):
        pick_precision("int8")
    assert pick_precision("auto") == "float32"
    assert set(DTYPES) == {"float32", "bfloat16", "float16"}
    extractor = extractors.load("logmel")
    with pytest.raises(UsageError, match="positive"):
        Embedder(extractor, recipe_of(extractor, "logmel"), batch_seconds=0)
