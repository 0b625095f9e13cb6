"""Real audio and real weights from ../shared; skipped where they are missing."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import soundfile
import soxr
import torch

import embedx


@pytest.fixture(scope="module")
def esc10(shared: Path, tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], embedx.Collection]:
    root = tmp_path_factory.mktemp("esc10")
    made: dict[str, embedx.Collection] = {}

    def extract(model: str) -> embedx.Collection:
        if model not in made:
            name = f"yamnet:{shared / 'weights/yamnet/yamnet.safetensors'}" if model == "yamnet" else model
            made[model] = embedx.extract(shared / "data/esc10", layout="esc50", model=name, out=root / model)
        return made[model]

    return extract


@pytest.mark.long
@pytest.mark.parametrize(
    "model, accuracy, neighbour",
    [("logmel", 0.80, 0.70), ("yamnet", 0.95, 0.965)],
)
def test_linear_probe_and_nearest_neighbour_on_esc10(
    esc10: Callable[[str], embedx.Collection], model: str, accuracy: float, neighbour: float
) -> None:
    report = esc10(model).probe()
    assert report.split == "the column 'fold'"
    assert [fold.rows for fold in report.folds] == [80] * 5
    assert report.accuracy >= accuracy
    assert report.neighbour >= neighbour


@pytest.mark.long
@pytest.mark.parametrize("model", ["logmel", "yamnet"])
def test_search_over_the_other_folds_equals_the_report(esc10: Callable[[str], embedx.Collection], model: str) -> None:
    collection = esc10(model)
    rows = collection.rows()
    right = [
        collection.search(id=int(str(number)), k=1, where=f"fold <> {row['fold']}")[0].label == row["label"]
        for number, row in rows.iterrows()
    ]
    assert np.mean(right) == pytest.approx(collection.probe().neighbour, abs=0.003)


@pytest.mark.long
@pytest.mark.parametrize("model", ["logmel", "yamnet"])
def test_real_clip_search_finds_itself_first(esc10: Callable[[str], embedx.Collection], model: str) -> None:
    collection = esc10(model)
    for number, row in list(collection.rows().iterrows())[::10]:
        hit = collection.search(row["path"], k=1)[0]
        assert (hit.id, f"{hit.score:.4f}") == (number, "1.0000")


@pytest.mark.long
@pytest.mark.parametrize("batch_seconds", [1.0, 90.0])
def test_mixed_lengths_of_2000_clips_equal_transformers(
    shared: Path, checkpoint: Callable[[str], Path], tmp_path: Path, batch_seconds: float
) -> None:
    from transformers import AutoFeatureExtractor, AutoModel

    folder = checkpoint("hubert")
    source = shared / "data/fsdd/recordings"
    with embedx.extract(
        source, model=str(folder), label=r"(\d)_", group=r"_([a-z]+)_", batch_seconds=batch_seconds, out=tmp_path / "c"
    ) as collection:
        rows, vectors = collection.rows(), collection.vectors()
    assert len(rows) == 2000
    assert (rows["label"].nunique(), rows["group"].nunique()) == (10, 4)
    front_end, model = AutoFeatureExtractor.from_pretrained(folder), AutoModel.from_pretrained(folder).eval()
    for path, vector in zip(rows["path"], vectors, strict=True):
        samples, rate = soundfile.read(path, dtype="float32")
        inputs = front_end(
            soxr.resample(samples, rate, 16_000, quality="HQ"), sampling_rate=16_000, return_tensors="pt"
        )
        with torch.inference_mode():
            expected = model(**inputs).last_hidden_state.mean(dim=1)[0].numpy()
        np.testing.assert_allclose(vector, expected, atol=1e-5)


def test_same_speech_in_other_formats_gives_same_vector(shared: Path, tmp_path: Path) -> None:
    zoo = shared / "data/decoder_zoo"
    with embedx.extract(zoo, out=tmp_path / "c", label=r"audio-(mono|stereo)") as collection:
        rows = collection.rows(where="path LIKE '%/tests_audio-%' AND path NOT LIKE '%-8-bit%'")
        vectors = pd.DataFrame(collection.vectors(), index=collection.rows().index).loc[rows.index].to_numpy()
        assert len(collection.failures()) == 0
    assert len(rows) >= 12
    unit = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    assert (unit @ unit.T).min() > 0.999


def test_long_real_recordings_are_cut(shared: Path, tmp_path: Path) -> None:
    with embedx.extract(shared / "data/long", out=tmp_path / "c") as collection:
        rows = collection.rows()
        assert rows["duration_s"].max() <= 60
        for path, windows in rows.groupby("path"):
            info = soundfile.info(path)
            assert windows["end_s"].max() == pytest.approx(info.duration, abs=1e-3)
            assert windows["start_s"].min() == 0
