"""On a GPU: the same vectors, whatever the batch, the streams, the room and the number of GPUs. Skipped without one.

And, on any machine, that every line of `benchmarks/gpu.py` runs.
"""

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import torch
import transformers
from numpy.typing import NDArray

import embedx
from embedx import extractors
from embedx.audio.windows import Window
from embedx.embedding.embedder import BATCH_SECONDS, Embedder
from embedx.embedding.workers import WORKERS_PER_GPU, make_workers
from embedx.extractors.base import Extractor
from tests.helpers.embedding import recipe_of
from tests.helpers.paths import ROOT
from tests.helpers.random_models import random_yamnet

Vectors = dict[int, NDArray[np.float32]]
gpu = pytest.mark.skipif(not torch.cuda.is_available(), reason="torch sees no GPU here")
pytestmark = pytest.mark.filterwarnings("default")  # the machine with a GPU may have other versions of the libraries
POOLINGS = ("mean", "max")


@pytest.fixture(params=["hubert-wide", "wav2vec2-large"])
def model(request: pytest.FixtureRequest, checkpoint: Callable[[str], Path]) -> str:
    return str(checkpoint(request.param))


def clips() -> list[NDArray[np.float32]]:
    random = np.random.default_rng(0)
    lengths = (16_000 * np.exp(random.uniform(np.log(0.2), np.log(6), 80))).astype(int)
    return [random.uniform(-0.5, 0.5, n).astype(np.float32) for n in (*lengths, 400, 5)]


def embed(
    model: str, backend: str = "fast", poolings: tuple[str, ...] = POOLINGS, step: int = 1, **options: Any
) -> Vectors:
    extractor = extractors.load(model, backend=backend)
    return embed_by(Embedder(extractor, recipe_of(extractor, model, poolings), **options), step=step)


def embed_by(embedder: Embedder, times: int = 1, threads: int = 2, step: int = 1) -> Vectors:
    """Embed every `step`-th clip several times; return the last vector of each."""
    some = [*enumerate(clips())][::step]
    windows = ((i, Window(0.0, len(clip) / 16_000, clip)) for i, clip in some * times)
    return {key: np.concatenate(list(vectors.values())) for key, vectors, _ in embedder.embed(windows, threads)}


def assert_near(found: Vectors, expected: Vectors, most: float, step: int = 1) -> None:
    """Compare relative to the largest value of a clip: sums over its frames are large."""
    assert sorted(found) == sorted(expected) == list(range(0, len(clips()), step))
    for key, vector in expected.items():
        np.testing.assert_allclose(found[key], vector, atol=most * max(1.0, float(np.abs(vector).max())), rtol=0)


def worst_cosine(found: Vectors, expected: Vectors) -> float:
    """Leave out clips under 0.2 s: the rounding errors of a few frames do not cancel out."""
    keys = [key for key, clip in enumerate(clips()) if key in expected and len(clip) >= 3_200]
    assert sorted(found) == sorted(expected)
    pairs = [(found[key].astype(np.float64), expected[key].astype(np.float64)) for key in keys]
    return float(min(a @ b / np.linalg.norm(a) / np.linalg.norm(b) for a, b in pairs))


@gpu
@pytest.mark.parametrize("backend", ["fast", "reference"])
def test_float32_on_gpu_equals_cpu_reference(model: str, backend: str) -> None:
    expected = embed(model, "reference", device="cpu")
    assert_near(embed(model, backend, device="cuda"), expected, 1e-4)


@gpu
@pytest.mark.parametrize("precision", ["bfloat16", "float16"])
def test_half_precision_on_gpu_is_near(precision: str, tmp_path: Path) -> None:
    """Use the width of HuBERT-base: in narrower models the rounding errors of 8 bits do not cancel out.

    Few clips, because an emulation computes this on a processor, and most are slow in float16.
    """
    model = str(tmp_path / "model")
    torch.manual_seed(0)
    transformers.HubertModel(transformers.HubertConfig(num_hidden_layers=3)).save_pretrained(model)
    transformers.Wav2Vec2FeatureExtractor().save_pretrained(model)
    expected = embed(model, "reference", ("mean",), step=8, device="cuda")
    found = embed(model, "fast", ("mean",), step=8, device="cuda", precision=precision)
    assert worst_cosine(found, expected) > 1 - 1e-4


@gpu
@pytest.mark.parametrize(("precision", "most"), [("float32", 1e-5), ("bfloat16", 3e-2)])
def test_vectors_on_gpu_do_not_depend_on_batch(model: str, precision: str, most: float) -> None:
    alone = embed(model, device="cuda", precision=precision, batch_seconds=0.01)
    for batch_seconds in (7.0, 30.0, None):
        found = embed(model, device="cuda", precision=precision, batch_seconds=batch_seconds)
        assert_near(found, alone, most)


@gpu
def test_gpu_has_two_streams_and_large_batches(model: str) -> None:
    extractor = extractors.load(model)
    embedder = Embedder(extractor, recipe_of(extractor, model), device="cuda")
    assert embedder.budget == BATCH_SECONDS["cuda"] * 16_000
    workers = make_workers(extractor, "cuda", 2)
    assert len({worker.stream for worker in workers}) == WORKERS_PER_GPU == 2


@gpu
def test_gpu_batch_that_does_not_fit_is_halved_and_later_ones_are_smaller(
    checkpoint: Callable[[str], Path],
) -> None:
    """600 s need more than 270 MB after the first convolution alone."""
    model = str(checkpoint("hubert-wide"))
    expected = embed(model, device="cuda", batch_seconds=2.0)
    extractor = extractors.load(model)
    embedder = Embedder(extractor, recipe_of(extractor, model, POOLINGS), device="cuda")
    torch.cuda.empty_cache()
    room = torch.cuda.memory_reserved() + (256 << 20)
    refused = torch.cuda.memory_stats()["num_ooms"]
    torch.cuda.set_per_process_memory_fraction(room / torch.cuda.get_device_properties(0).total_memory)
    try:
        found = embed_by(embedder, times=8)
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0)
    assert torch.cuda.memory_stats()["num_ooms"] > refused
    assert embedder.budget < BATCH_SECONDS["cuda"] * 16_000
    assert_near(found, expected, 1e-5)


@pytest.mark.skipif(torch.cuda.device_count() < 2, reason="torch sees no two GPUs here")
def test_several_gpus_equal_one_gpu(model: str) -> None:
    expected = embed(model, device="cuda:0", batch_seconds=5.0)
    assert_near(embed(model, device="cuda:0,cuda:1", batch_seconds=5.0), expected, 1e-5)


@gpu
@pytest.mark.parametrize("name", ["logmel", "yamnet"])
def test_front_end_on_gpu_equals_cpu(name: str, tmp_path: Path) -> None:
    """YAMNet runs on the patches of a batch, of which some are not valid."""
    model = f"yamnet:{random_yamnet(tmp_path)}" if name == "yamnet" else name
    step = 8 if name == "yamnet" else 1
    on_gpu, on_cpu = (embed(model, "reference", step=step, device=device) for device in ("cuda", "cpu"))
    assert_near(on_gpu, on_cpu, 1e-4, step)


@gpu
def test_extract_on_gpu_fills_collection(model: str, tmp_path: Path) -> None:
    for i, clip in enumerate(clips()):
        soundfile.write(tmp_path / f"{i:03}.wav", clip, 16_000)
    found = []
    for device in ("cpu", "cuda"):
        with embedx.extract(tmp_path, model=model, device=device, out=tmp_path / device) as collection:
            assert collection.store.last_run()["device"] == device
            found.append(collection.vectors())
    np.testing.assert_allclose(found[1], found[0], atol=1e-4)


# -- on any machine ------------------------------------------------------------------------------------------------


class Narrow:
    """An extractor that runs out of memory above a number of samples."""

    def __init__(self, inner: Extractor, room: int) -> None:
        self.inner, self.room = inner, room
        self.sizes: list[int] = []

    def __getattr__(self, name: str) -> Any:
        return getattr(self.inner, name)

    def to(self, device: str) -> "Narrow":
        return self

    def frames(self, waves: torch.Tensor, *rest: Any) -> Iterator[Any]:
        self.sizes.append(waves.numel())
        if waves.numel() > self.room:
            raise torch.OutOfMemoryError("no room")
        yield from self.inner.frames(waves, *rest)


def test_batch_size_that_did_not_fit_is_not_tried_again(model: str) -> None:
    """Also for batches that were built before the limit was known."""
    expected = embed(model, device="cpu", batch_seconds=2.0)
    narrow = Narrow(extractors.load(model), 7 * 16_000)
    embedder = Embedder(narrow, recipe_of(narrow, model, POOLINGS), device="cpu")
    assert_near(embed_by(embedder, threads=1), expected, 1e-5)
    refused = [size for size in narrow.sizes if size > narrow.room]
    assert refused
    assert all(2 * later <= earlier for earlier, later in pairwise(refused))
    assert embedder.budget <= narrow.room


@pytest.mark.long
def test_gpu_benchmark_runs_on_cpu(tmp_path: Path) -> None:
    out = tmp_path / "gpu.md"
    command = [sys.executable, str(ROOT / "benchmarks/gpu.py"), "--small", "--device", "cpu", "--seconds", "0.01"]
    command += ["--slower", "60"]
    environment = os.environ | {"PYTHONPATH": str(ROOT), "EMBEDX_SHARED": str(tmp_path)}
    run = subprocess.run(
        [*command, "--files", "60", "--out", str(out)], env=environment, capture_output=True, text=True
    )
    assert run.returncode == 0, run.stderr
    page = out.read_text()
    headings = ["Equal clips", "Mixed lengths", "A batch that does not fit", "From 60 WAV files"]
    for heading in (*headings, "Clips of 30 s", "Layer sweep", "mlp"):
        assert f"## {heading}" in page
    assert "nan%" not in page and "| nan" not in page
    assert "| `aten::" in page  # the profiler was there


@pytest.mark.long
def test_part_of_the_gpu_benchmark_that_fails_does_not_end_the_others(tmp_path: Path) -> None:
    out = tmp_path / "gpu.md"
    command = [sys.executable, str(ROOT / "benchmarks/gpu.py"), "--small", "--device", "cpu", "--seconds", "0.01"]
    command += ["--slower", "60"]
    parts = ["--files", "0", "--parts", "files", "mlp"]
    environment = os.environ | {"PYTHONPATH": str(ROOT), "EMBEDX_SHARED": str(tmp_path)}
    run = subprocess.run([*command, *parts, "--out", str(out)], env=environment, capture_output=True, text=True)
    assert run.returncode == 1
    assert "Without a figure: files." in run.stderr
    assert out.read_text().index("**files: ") < out.read_text().index("| scikit-learn, MLPClassifier |")
