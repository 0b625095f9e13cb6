"""Operations of a model are counted as its formula says; the peak of a device is measured."""

import importlib
import time
from pathlib import Path

import numpy as np
import pytest
import torch

from embedx import extractors
from embedx.bench.speed.roofline import count_operations, measure_peak
from embedx.embedding.workers import make_workers
from tests.helpers.paths import ROOT
from tests.helpers.speed_results import Checkpoint


@pytest.mark.long
@pytest.mark.parametrize("backend", ["fast", "reference"])
def test_operation_count_equals_formula_at_any_length(
    backend: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The formula is that of benchmarks/extraction.py: two for each product of weights or in attention."""
    import transformers

    monkeypatch.syspath_prepend(ROOT / "benchmarks")
    operations = importlib.import_module("extraction").operations
    transformers.HubertModel(transformers.HubertConfig()).save_pretrained(tmp_path)
    transformers.Wav2Vec2FeatureExtractor().save_pretrained(tmp_path)
    extractor = extractors.load(str(tmp_path), backend=backend)
    lengths = np.array([0.3, 2.5, 12.0, 30.0])
    expected = [operations(round(one * 16_000)) for one in lengths]
    found = count_operations(extractor, lengths.tolist(), "cpu")
    assert found == pytest.approx(sum(expected), rel=0.005)
    assert count_operations(extractor, [0.3], "cpu") == pytest.approx(expected[0], rel=0.02)


@pytest.mark.long
def test_operation_count_of_padded_model_does_not_depend_on_length(checkpoint: Checkpoint) -> None:
    extractor = extractors.load(str(checkpoint("whisper")))
    one = count_operations(extractor, [1.0], "cpu")
    assert one > 0
    assert count_operations(extractor, [30.0, 0.5], "cpu") == pytest.approx(2 * one, rel=1e-6)


@pytest.mark.long
def test_peak_is_near_a_plain_matrix_product() -> None:
    extractor = extractors.load("logmel")
    x, weight = torch.randn(2048, 1024), torch.randn(1024, 1024)
    threads = torch.get_num_threads()

    def plain() -> float:
        begun = time.perf_counter()
        torch.nn.functional.linear(x, weight)
        return time.perf_counter() - begun

    peak = measure_peak(make_workers(extractor, "cpu", threads), torch.float32)
    reached = 2 * 2048 * 1024 * 1024 / min(plain() for _ in range(10))
    assert torch.get_num_threads() == threads
    assert 0.01 * reached < peak < 100 * reached  # other work on the machine may take most of either
