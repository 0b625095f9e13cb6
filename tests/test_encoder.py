"""Encoder: the vectors of a collection, without one."""

import io
import pickle
import shutil
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas
import pytest
import soundfile
import torch
import transformers

import embedx
from embedx import extractors
from embedx.datasets.sources import read_corpus
from embedx.embedding.embedder import Embedder
from embedx.errors import AudioError, ModelError, UsageError
from tests.helpers.checkpoints import add_tokenizer
from tests.helpers.embedding import recipe_of
from tests.helpers.encoder_checkpoints import save_tiny

RATE = 16_000


def noise(seconds: float, rate: int = RATE, channels: int = 1, seed: int = 0) -> Any:
    shape = (round(seconds * rate), channels)[: 1 + (channels > 1)]
    return np.random.default_rng(seed).uniform(-0.5, 0.5, shape).astype(np.float32)


@pytest.fixture
def files(tmp_path: Path) -> list[str]:
    """Files of other rates, lengths and channels; one is shorter than a frame."""
    kinds = ((2.3, 16_000, 1), (0.9, 44_100, 2), (3.1, 8_000, 1), (0.01, 16_000, 1), (1.0, 22_050, 3))
    for number, (seconds, rate, channels) in enumerate(kinds):
        soundfile.write(tmp_path / f"{number}.wav", noise(seconds, rate, channels, number), rate, subtype="FLOAT")
    return [str(tmp_path / f"{number}.wav") for number in range(len(kinds))]


@pytest.mark.parametrize(
    ("model", "options"),
    [
        pytest.param("hubert", {}, marks=pytest.mark.long),
        ("logmel", {"window": 0.5, "hop": 0.3, "tail": "pad", "channels": "each"}),
        ("hubert", {"window": 0.7, "channels": "first", "max_seconds": 1.2}),
        ("logmel", {"trim_silence": True}),
        pytest.param("whisper", {"window": 1.0}, marks=pytest.mark.long),
    ],
)
def test_vectors_are_those_of_a_collection(
    model: str, options: dict[str, Any], files: list[str], checkpoint: Callable[[str], Path], tmp_path: Path
) -> None:
    name = "logmel" if model == "logmel" else str(checkpoint(model))
    encoder = embedx.load(name)
    layers: dict[str, Any] = {} if model == "logmel" else {"layers": (0, -1), "pooling": "mean,max"}
    with embedx.extract(files, out=tmp_path / "c", model=name, **options, **layers) as collection:
        rows, views = collection.rows(), {view: collection.vectors(view) for view in collection.views}
    samples = [
        {"array": data.T, "sampling_rate": rate} for data, rate in (soundfile.read(f, dtype="float32") for f in files)
    ]
    for sounds in (files, samples, [torch_of(sample) for sample in samples]):
        encoded = encoder.encode_windows(sounds, **options, **layers)
        assert [files[place.sound] for place in encoded.places] == rows["path"].tolist()
        np.testing.assert_allclose([place.start_s for place in encoded.places], rows["start_s"])
        np.testing.assert_allclose([place.end_s for place in encoded.places], rows["end_s"])
        for view, expected in views.items():
            scale = max(1.0, float(np.abs(expected).max()))
            np.testing.assert_allclose(encoded.views[view], expected, atol=2e-5 * scale)
    if options.get("channels") != "each":
        result = encoder.encode(files[::-1], **options, **layers)
        assert (set(result) if layers else result.shape) == (set(views) if layers else (len(rows), encoder.dim))


def torch_of(sample: dict[str, Any]) -> dict[str, Any]:
    return {"array": torch.from_numpy(np.array(sample["array"])), "sampling_rate": sample["sampling_rate"]}


def test_vector_does_not_depend_on_the_other_sounds(files: list[str], checkpoint: Callable[[str], Path]) -> None:
    encoder = embedx.load(str(checkpoint("wav2vec2")))
    together = encoder.encode(files * 4)  # so many that batches are computed side by side
    alone = np.concatenate([encoder.encode(file) for file in files])
    assert together.shape == (4 * len(files), encoder.dim) and together.dtype == np.float32
    np.testing.assert_allclose(together, np.tile(alone, (4, 1)), atol=1e-5)


def test_long_sound_is_one_row_and_with_windows_several() -> None:
    encoder, sound = embedx.load(), noise(65)
    windows = encoder.encode_windows([noise(1), sound, noise(2)], sample_rate=RATE)
    assert [place.sound for place in windows.places] == [0, *[1] * 7, 2]
    rows = encoder.encode([noise(1), sound, noise(2)], sample_rate=RATE, pooling="mean,max")
    assert rows["L0.mean"].shape == rows["L0.max"].shape == (3, encoder.dim)
    np.testing.assert_allclose(rows["L0.mean"][1], windows.views["L0.mean"][1:8].mean(axis=0), atol=1e-4)
    assert encoder.encode(sound, sample_rate=RATE, window=10.0).shape == (7, encoder.dim)


@pytest.mark.parametrize("kind", [np.int16, np.int32, np.uint8, np.float64])
def test_integer_samples_have_the_vectors_of_a_file(kind: Any, tmp_path: Path) -> None:
    full: float = {np.int16: 2**15, np.int32: 2**31, np.uint8: 2**7, np.float64: 1}[kind]
    samples = (noise(1).astype(np.float64) * full + (128 if kind is np.uint8 else 0)).astype(kind)
    floats = (samples.astype(np.float64) - (128 if kind is np.uint8 else 0)) / full
    soundfile.write(tmp_path / "a.wav", floats, RATE, subtype="DOUBLE")
    encoder = embedx.load()
    np.testing.assert_allclose(encoder.encode(samples, sample_rate=RATE), encoder.encode(tmp_path / "a.wav"), atol=1e-5)


def test_shapes_of_arrays() -> None:
    encoder, mono, stereo = embedx.load(), noise(1), noise(1, channels=2)
    assert encoder.encode(mono, sample_rate=RATE).shape == (1, encoder.dim)
    assert encoder.encode(torch.from_numpy(stereo.T.copy()), sample_rate=RATE).shape == (2, encoder.dim)  # two sounds
    one = encoder.encode([stereo], sample_rate=RATE)
    np.testing.assert_array_equal(one, encoder.encode([stereo.T], sample_rate=RATE))
    np.testing.assert_allclose(one, encoder.encode(stereo.mean(axis=1), sample_rate=RATE), atol=1e-5)
    assert encoder.encode([]).shape == (0, encoder.dim)
    for wrong in (stereo, stereo[None], [[0.0, 0.1]], np.array(["a"]), mono.astype(complex), [np.zeros(0)]):
        with pytest.raises((UsageError, AudioError)):
            encoder.encode(wrong, sample_rate=RATE)
    with pytest.raises(UsageError, match="sample_rate is missing"):
        encoder.encode(mono)
    with pytest.raises(AudioError, match="array 1 contains samples"):
        encoder.encode([mono, mono * np.nan], sample_rate=RATE)
    with pytest.raises(UsageError, match=r"no keyword 'sr'. Did you mean sample_rate\?"):
        encoder.encode(mono, sr=RATE)  # type: ignore[call-arg]
    with pytest.raises(UsageError, match=r"no keyword 'modle'"):
        embedx.load(modle="logmel")  # type: ignore[call-arg]


def test_bad_file_is_named(files: list[str], tmp_path: Path) -> None:
    (tmp_path / "bad.wav").write_bytes(b"RIFF no audio")
    with pytest.raises(AudioError, match=r"bad\.wav"):
        embedx.load().encode([*files, tmp_path / "bad.wav"])
    with pytest.raises(UsageError, match=r"missing\.wav"):
        embedx.load().encode([*files, tmp_path / "missing.wav"])


@pytest.mark.parametrize("model", ["logmel", "hubert"])
def test_frames_pooled_are_the_vectors(model: str, checkpoint: Callable[[str], Path]) -> None:
    encoder = embedx.load("logmel" if model == "logmel" else str(checkpoint(model)))
    sounds = [noise(2.3), noise(0.01), noise(1.0)]
    frames = encoder.encode_frames(sounds, sample_rate=RATE, layers="all")
    vectors = encoder.encode(sounds, sample_rate=RATE)
    for number, one in enumerate(frames):
        assert set(one.layers) == set(encoder.layers)
        np.testing.assert_allclose(one.vectors.mean(axis=0), vectors[number], atol=1e-4)
        assert one.times.shape == (len(one.vectors),) and one.times[0] == 0.0
        assert (np.diff(one.times) > 0).all() and one.times[-1] <= len(sounds[number]) / RATE


def test_frames_of_a_long_sound_cover_it_once(checkpoint: Callable[[str], Path]) -> None:
    (frames,) = embedx.load(str(checkpoint("hubert"))).encode_frames(noise(6.3), sample_rate=RATE, window=2.0)
    steps = np.diff(frames.times)
    assert steps.min() > 0.019 and steps.max() < 0.05  # the model's frames are 0.02 s apart
    assert 6.25 < frames.times[-1] < 6.3


def test_text_is_compared_with_sounds(checkpoint: Callable[[str], Path], files: list[str], tmp_path: Path) -> None:
    folder = str(shutil.copytree(checkpoint("clap"), tmp_path / "clap"))
    add_tokenizer(Path(folder))
    encoder = embedx.load(folder)
    texts, sounds = encoder.encode_text(["dog", "rain"], normalize=True), encoder.encode(files)
    extractor = extractors.load(folder)
    view = f"L{extractor.layers[-1]}.mean"
    expected = Embedder(extractor, recipe_of(extractor, folder)).embed_text("dog", view)
    np.testing.assert_allclose(texts[:1], expected / np.linalg.norm(expected), atol=1e-6)
    scores = encoder.similarity(texts, sounds)
    assert scores.shape == (2, len(files)) and np.abs(scores).max() <= 1 + 1e-6
    np.testing.assert_allclose(encoder.similarity(sounds[0], sounds[0]), [[1.0]], atol=1e-6)
    with pytest.raises(ModelError, match="embed text"):
        embedx.load().encode_text("dog")
    for wrong in ("", ["dog", ""], [3]):
        with pytest.raises(UsageError):
            encoder.encode_text(wrong)  # type: ignore[arg-type]
    with pytest.raises(UsageError, match="one dimension"):
        encoder.similarity(sounds, sounds[:, :3])
    with pytest.raises(UsageError, match="Unknown metric"):
        encoder.similarity(sounds, sounds, metric="dot")


def test_progress_is_shown_on_standard_error(files: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    embedx.load().encode(files)
    assert capsys.readouterr() == ("", "")
    embedx.load().encode(files, progress=True)
    output = capsys.readouterr()
    assert "5/5" in output.err and output.out == ""


def test_columns_of_names_and_entries_of_data_sets_are_sounds(files: list[str]) -> None:
    encoder, wave = embedx.load(), noise(1.0)
    expected = encoder.encode(files)
    for column in (pandas.Series(files), np.array(files), np.array(files, dtype=object), pandas.Index(files)):
        np.testing.assert_array_equal(encoder.encode(column), expected)
        assert [item.path for item in read_corpus(column)] == files
    decoded = SimpleNamespace(get_all_samples=lambda: SimpleNamespace(data=torch.tensor(wave[None]), sample_rate=RATE))
    np.testing.assert_array_equal(encoder.encode([decoded]), encoder.encode(wave, sample_rate=RATE))


@pytest.mark.parametrize(
    "sound", [None, 3.0, b"RIFF", {"bytes": b"RIFF"}, pandas.Series([0.1]), iter([1]), io.BytesIO()]
)
def test_what_is_no_sound_is_refused_with_what_is_one(sound: Any) -> None:
    with pytest.raises(UsageError, match="A sound is a file, samples as an array or tensor"):
        embedx.load().encode(sound, sample_rate=RATE)


@pytest.mark.parametrize("rate", ["16k", "16000", [16_000], True, float("nan"), 16_000.5])
def test_rate_that_is_no_whole_number_is_refused(rate: Any) -> None:
    with pytest.raises(UsageError, match=r"whole number of Hz|takes sample_rate as a number"):
        embedx.load().encode(noise(1.0), sample_rate=rate)


def test_encoder_is_copied_and_loaded_from_a_path(checkpoint: Callable[[str], Path]) -> None:
    encoder = embedx.load(checkpoint("hubert"), precision="float32")  # type: ignore[arg-type]
    vectors = encoder.encode(noise(1.0), sample_rate=RATE)
    np.testing.assert_array_equal(pickle.loads(pickle.dumps(encoder)).encode(noise(1.0), sample_rate=RATE), vectors)
    with pytest.raises(UsageError, match="takes model as a text or a path"):
        embedx.load(None)  # type: ignore[arg-type]


def test_pe_audio_names_classes_as_the_library_does(tmp_path: Path, files: list[str]) -> None:
    save_tiny("pe-audio", tmp_path)
    model = transformers.PeAudioModel.from_pretrained(tmp_path).eval()
    torch.nn.init.constant_(model.text_audio_logit_scale, 7.0)
    model.save_pretrained(tmp_path)
    predictions = embedx.predict(files[:3], model=str(tmp_path), zero_shot=["dog", "rain"], prompt="{}")
    extractor, encoder = extractors.load(str(tmp_path)), embedx.load(str(tmp_path))
    texts = extractor.embed_text(["dog", "rain"])  # type: ignore[attr-defined]
    logits = 7.0 * torch.from_numpy(encoder.encode(files[:3])) @ texts.T
    np.testing.assert_allclose(predictions.proba, logits.softmax(dim=1).detach(), atol=1e-5)


def test_precision_that_a_model_lacks_is_refused(tmp_path: Path) -> None:
    save_tiny("embedding-gemma2", tmp_path)
    with pytest.raises(UsageError, match=r"does not run in float16. Precisions: auto, float32, bfloat16"):
        embedx.load(str(tmp_path), precision="float16")


@pytest.mark.parametrize(
    "options",
    [
        {"window": "1"}, {"max_seconds": "a"}, {"layers": 1.5}, {"layers": [0.5]}, {"layers": None},
        {"layers": np.zeros(2)}, {"pooling": None}, {"pooling": 3}, {"pooling": [3]},
    ],
)  # fmt: skip
def test_option_of_a_wrong_type_is_refused(options: dict[str, Any]) -> None:
    with pytest.raises(UsageError):
        embedx.load().encode(noise(1.0), sample_rate=RATE, **options)


def test_types_of_numpy_and_torch_are_options() -> None:
    encoder = embedx.load(device=torch.device("cpu"))  # type: ignore[arg-type]
    options: dict[str, Any] = {"sample_rate": np.int64(RATE), "layers": np.array([0]), "window": np.float32(0.5)}
    vectors = encoder.encode(noise(1.0), **options)
    assert len(vectors) == 2
    wrong_options: list[dict[str, Any]] = [{"device": 0}, {"batch_seconds": "1"}]
    for wrong in wrong_options:
        with pytest.raises(UsageError):
            embedx.load(**wrong)
    with pytest.raises(UsageError, match="takes texts as a text"):
        encoder.encode_text(3)  # type: ignore[arg-type]
