"""ONNX encoders: exact in any batch, by options or the file's own facts; what is refused, and with which words."""

import re
import shutil
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import embedx
from embedx import extractors
from embedx.errors import ModelError
from embedx.extractors.base import Extractor
from embedx.extractors.fingerprint import fingerprint_model
from embedx.extractors.onnx import load_classifier

pytest.importorskip("onnxruntime", reason="needs onnxruntime, which is optional")
pytest.importorskip("onnx", reason="needs onnx, which is optional")

from tests.helpers.commands import outcome
from tests.helpers.conformance import EXACT, ConformanceTests, clips_for, run
from tests.helpers.onnx_models import CLASSES, DIM, STRIDE, frames_of, save_encoder, scores_of
from tests.helpers.paths import ROOT

RATE = 16_000
ENCODERS = {  # name -> shape of the input, other arguments, options
    "window": (("batch", RATE), {}, "rate=16000&output=embedding"),
    "frames": (("batch", RATE), {}, "window=1&output=frames"),
    "one clip": ((1, RATE), {}, "rate=16000&output=embedding"),
    "four clips": ((4, 1, RATE), {"opset": 11}, "rate=16000&output=turned&axes=bdt"),
    "no batch": ((RATE,), {"opset": 12}, "rate=16000&output=frames"),
    "any length": (("batch", None), {"external": True}, "rate=16000&output=frames"),
    "any length, no batch": ((None,), {}, "rate=16000&output=embedding"),
    "any length, window": ((None, "samples", 1), {"opset": 13}, "rate=16000&window=2.5&output=turned"),
    "any channels": (("batch", "channels", "samples"), {}, "rate=16000&output=frames"),
    "mixes": (("batch", RATE), {"mixes": True}, "rate=16000&output=embedding"),
    "int16": (("batch", RATE), {"kind": "int16", "scale": 32768.0}, "rate=16000&output=embedding"),
    "float16": (("batch", RATE), {"kind": "float16"}, "rate=16000&output=embedding"),
}
FAST = ("frames", "four clips", "any length", "mixes")


def name_of(path: Path, options: str) -> str:
    return f"onnx:{path}?{options}"


def load(name: str, folder: Path) -> Extractor:
    shape, arguments, options = ENCODERS[name]
    return extractors.load(name_of(save_encoder(folder / "encoder.onnx", shape, **arguments), options))  # type: ignore[arg-type]


PARAMETERS = [pytest.param(name, marks=[] if name in FAST else [pytest.mark.long]) for name in ENCODERS]


@pytest.fixture(scope="module", params=PARAMETERS)
def extractor(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Extractor:
    return load(request.param, tmp_path_factory.mktemp("onnx"))


class TestOnnxEncoders(ConformanceTests):
    pass


@pytest.mark.parametrize("name", PARAMETERS)
def test_frames_equal_those_of_numpy(name: str, tmp_path: Path) -> None:
    extractor = load(name, tmp_path)
    is_mixed, window = name == "mixes", extractor.max_samples
    clips = clips_for(extractor)[:4]
    for clip, frames in zip(clips, run(extractor, clips, pad=99, rubbish=0.5)[0], strict=True):
        wave = clip.numpy() if window is None else np.pad(clip.numpy(), (0, window))[:window]
        expected = frames_of(wave)
        if is_mixed:
            expected = expected - expected
        if extractor.frame_rate <= 1:
            expected = expected.mean(axis=0, keepdims=True)
        elif window is not None:  # frames after the end of the clip are left out
            expected = expected[: int(np.ceil(min(1.0, len(clip) / window) * len(expected)))]
        error = {"int16": 1e-4, "float16": 5e-3}.get(name, EXACT)
        np.testing.assert_allclose(frames.numpy(), expected, atol=error)


def test_clips_are_cut_padded_and_flagged_like_other_models_with_a_window(tmp_path: Path) -> None:
    model = name_of(save_encoder(tmp_path / "a.onnx"), "window=1&output=embedding")
    encoder = embedx.load(model)
    wave = np.random.default_rng(1).uniform(-0.5, 0.5, round(2.5 * RATE)).astype(np.float32)
    vectors = encoder.encode([wave[:RATE], wave[: RATE // 2]], sample_rate=RATE)
    expected = [frames_of(wave[:RATE]), frames_of(np.pad(wave[: RATE // 2], (0, RATE // 2)))]
    np.testing.assert_allclose(vectors, [frames.mean(axis=0) for frames in expected], atol=EXACT)
    folder = tmp_path / "sounds"
    folder.mkdir()
    import soundfile

    soundfile.write(folder / "long.wav", wave, RATE, subtype="FLOAT")
    soundfile.write(folder / "short.wav", wave[: RATE // 2], RATE, subtype="FLOAT")
    with embedx.extract(folder, model=model, out=tmp_path / "c") as collection:
        rows = collection.rows()
        times = list(zip(rows["start_s"], rows["end_s"], strict=True))
        assert times == [(0.0, 1.0), (1.0, 2.0), (1.5, 2.5), (0.0, 0.5)]
        assert ["padded" in flags for flags in rows["flags"]] == [False, False, False, True]
        np.testing.assert_allclose(
            collection.vectors()[:2], [frames_of(wave[i : i + RATE]).mean(axis=0) for i in (0, RATE)], atol=1e-3
        )


def test_changed_file_is_other_weights_and_a_moved_one_is_not(manifest: Path, tmp_path: Path) -> None:
    file = save_encoder(tmp_path / "a.onnx", external=True)
    model = name_of(file, "rate=16000&output=embedding")
    with embedx.extract(manifest, model=model, out=tmp_path / "c", max_seconds=1) as collection:
        query = collection.rows()["path"].iloc[0]
        assert collection.search(query, k=1)[0].score == pytest.approx(1, abs=1e-4)
    print_before = fingerprint_model(model)
    assert print_before is not None
    assert len(print_before) == 2
    moved = tmp_path / "elsewhere"
    moved.mkdir()
    for one in (file, tmp_path / "a.onnx.data"):
        shutil.move(one, moved / one.name)
    with embedx.open(tmp_path / "c") as collection, pytest.raises(ModelError, match="no ONNX file"):
        collection.search(query)
    again = name_of(moved / "a.onnx", "window=1&rate=16000&input=waveform&output=embedding")
    with embedx.open(tmp_path / "c", model=again) as collection:
        assert collection.search(query, k=1)[0].score == pytest.approx(1, abs=1e-4)
    data = bytearray((moved / "a.onnx.data").read_bytes())
    data[2] ^= 1
    (moved / "a.onnx.data").write_bytes(data)
    with embedx.open(tmp_path / "c", model=again) as collection, pytest.raises(ModelError, match="weights"):
        collection.search(query)


def test_file_answers_what_is_unambiguous(tmp_path: Path) -> None:
    file = save_encoder(tmp_path / "a.onnx", (1, 8_000), sample_rate="8000")
    model = extractors.load(f"{file}?output=embedding")  # without the prefix
    assert (model.sample_rate, model.max_samples) == (8_000, 8_000)
    turned = extractors.load(name_of(save_encoder(tmp_path / "b.onnx", ("n", None)), "rate=8000&output=turned"))
    assert (turned.dim, turned.frame_rate) == (DIM, 8_000 / STRIDE)


@pytest.mark.parametrize(
    ("shape", "options", "message"),
    [
        (("batch", RATE), "output=embedding", r"sample rate.*inputs: waveform float32 \[batch, 16000\]\. Outputs: fra"),
        (("batch", RATE), "", "rate=32000, and the output with the vectors: output=NAME. The file is .*scores float32"),
        (("batch", RATE), "rate=16000", r"output=NAME.*embedding float32 \[batch, 8\]; logits"),
        (("batch", RATE), "rate=16000&output=embeding", "no output 'embeding' in .*embedding float32"),
        (("batch", RATE), "rate=16000&input=wave&output=frames", "no input 'wave' in .*waveform float32"),
        (("batch", RATE), "rate=8000&window=1&output=frames", "8000 samples.*takes 16000.*window=2"),
        (("batch", RATE), "rate=16000&output=size", "does not hold floating-point"),
        (("batch", RATE), "rate=16000&output=unsqueezed", None),
        (("batch", RATE), "rate=16000&output=nan", "NaN"),
        (("batch", RATE), "rate=16000&output=embedding,logits", "different dimensions .embedding: 8, logits: 5"),
        (("batch", RATE), "rate=16000&output=frames,frames", "different outputs"),
        (("batch", RATE), "sr=16000", "Did you mean 'rate'"),
        (("batch", RATE), "rate=fast", "rate must be a number from 1000"),
        (("batch", RATE), "rate=16000&output=frames&axes=tdb", "btd, bdt"),
        (("batch", RATE), "rate=16000&rate=8000", "needs one value"),
        (("batch", 64, 96), "rate=16000&output=frames", "not a waveform.*spectrogram"),
        (("batch", 100), "rate=16000&output=frames", "0.00625 s at 16000 Hz"),
    ],
)  # fmt: skip
def test_option_that_does_not_fit_is_named(
    shape: tuple[int | str, ...], options: str, message: str | None, tmp_path: Path
) -> None:
    model = name_of(save_encoder(tmp_path / "a.onnx", shape), options)
    if message is None:  # [B, 1, T] is one frame of T numbers
        assert extractors.load(model).dim == RATE
        return
    with pytest.raises(ModelError, match=message):
        extractors.load(model)


def test_unusable_file_is_named(tmp_path: Path) -> None:
    good = save_encoder(tmp_path / "a.onnx", external=True)
    contents = {
        "empty": (b"", "not an ONNX model"),
        "text": (b"these are no weights", "not an ONNX model"),
        "half": (save_encoder(tmp_path / "b.onnx").read_bytes()[:3_000], "not an ONNX model"),
        "pointer": (b"version https://git-lfs.github.com/spec/v1\noid sha256:1\n", "Git-LFS pointer"),
        "outside": (good.read_bytes().replace(b"a.onnx.data", b"../../../aa"), "outside of its folder"),
        "lost": (good.read_bytes().replace(b"a.onnx.data", b"b.onnx.data"), "not in its folder. Copy"),
    }
    for name, (content, message) in contents.items():
        (tmp_path / f"{name}.onnx").write_bytes(content)
        with pytest.raises(ModelError, match=message):
            extractors.load(name_of(tmp_path / f"{name}.onnx", "rate=16000&output=embedding"))
    with pytest.raises(ModelError, match="no ONNX file"):
        extractors.load(name_of(tmp_path / "none.onnx", "rate=16000"))


def test_clip_that_does_not_fit_into_memory_is_an_error_with_a_sentence(tmp_path: Path) -> None:
    file = save_encoder(tmp_path / "a.onnx", memory=10**14)
    with pytest.raises(ModelError, match="does not fit into memory"):
        extractors.load(name_of(file, "rate=16000&output=large"))


def test_missing_package_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = save_encoder(tmp_path / "a.onnx")
    for package in ("onnx", "onnxruntime"):
        with monkeypatch.context() as patch:
            patch.setitem(sys.modules, package, None)
            with pytest.raises(ModelError, match=re.escape("pip install 'embedx[onnx]'")):
                extractors.load(name_of(file, "rate=16000"))


def test_gpu_without_a_provider_is_refused_and_auto_takes_the_cpu(tmp_path: Path) -> None:
    onnxruntime = pytest.importorskip("onnxruntime")
    if "CUDAExecutionProvider" in onnxruntime.get_available_providers():
        pytest.skip("this ONNX Runtime has a provider for GPUs")
    extractor = extractors.load(name_of(save_encoder(tmp_path / "a.onnx"), "rate=16000&output=embedding"))
    assert getattr(extractor, "has_gpu", None) is False
    assert extractor.to("cpu") is extractor
    with pytest.raises(ModelError, match="no CUDA provider"):
        extractor.to("cuda:0")


def test_scores_equal_those_of_numpy_in_any_batch(tmp_path: Path) -> None:
    file, labels = save_encoder(tmp_path / "a.onnx", ("batch", None)), tmp_path / "labels.txt"
    labels.write_text("\n".join(CLASSES) + "\n")
    given = f"{file}?rate=16000&labels={labels}"
    classifier = load_classifier(f"{given}&scores=scores")
    assert classifier.outputs == {"label": CLASSES}
    assert classifier.multi_label == {"label"}
    clips = [torch.rand(n, generator=torch.Generator().manual_seed(n)) - 0.5 for n in (16_000, 4_000, 16_000, 9_999)]
    waves = torch.nn.utils.rnn.pad_sequence(clips, batch_first=True, padding_value=0.3)
    scores = classifier.scores(waves, torch.tensor(list(map(len, clips))))["label"]
    np.testing.assert_allclose(scores, [scores_of(clip.numpy()) for clip in clips], atol=EXACT)
    by_logits = load_classifier(f"{given}&scores=logits&activation=sigmoid")
    np.testing.assert_allclose(by_logits.scores(waves[:1], torch.tensor([16_000]))["label"], scores[:1], atol=EXACT)
    single = load_classifier(f"{given}&scores=logits&activation=softmax")
    assert single.multi_label == set()
    assert float(single.scores(waves[:1], torch.tensor([16_000]))["label"].sum()) == pytest.approx(1)
    with pytest.raises(ModelError, match="activation=sigmoid"):
        load_classifier(f"{given}&scores=logits")
    with pytest.raises(ModelError, match=r"scores=NAME&labels=FILE.*scores float32 \[batch, 5\]"):
        load_classifier(f"{file}?rate=16000")


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("l.txt", "\ufeffbird\nrain\nengine\nvoice\nbell\n\n", ""),
        ("l.csv", "inat2024\nbird\nrain\nengine\nvoice\nbell\n", ""),
        ("l.csv", 'index,mid,display_name\n0,/m/1,bird\n1,/m/2,rain\n2,/m/3,"engine"\n3,/m/4,voice\n4,/m/5,bell\n', ""),
        ("l.csv", "a,b\n0,bird\n", "header needs one of the columns"),
        ("l.txt", "bird\nrain\n", "holds 2 names, but the model gives 5"),
        ("l.txt", "bird\nrain\nbird\nvoice\nbell", "'bird' twice"),
        ("none.txt", None, "cannot be read"),
    ],
)
def test_labels_are_read_or_refused(name: str, text: str | None, message: str, tmp_path: Path) -> None:
    if text is not None:
        (tmp_path / name).write_text(text, encoding="utf-8")
    source = f"{save_encoder(tmp_path / 'a.onnx')}?rate=16000&scores=scores&labels={tmp_path / name}"
    if not message:
        assert load_classifier(source).outputs["label"] == CLASSES
        return
    with pytest.raises(ModelError, match=message):
        load_classifier(source)


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of the exporter of torch that needs no other package
def test_documented_example_exports_extracts_searches_and_predicts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    page = (ROOT / "docs/models.md").read_text(encoding="utf-8")
    (example,) = re.findall(r"```python\n(.*?)```", page, re.DOTALL)
    monkeypatch.chdir(tmp_path)
    scope: dict[str, Any] = {}
    exec(example, scope)
    assert scope["hits"][0].score > scope["hits"][-1].score + 1e-3
    assert len(scope["collection"]) == 6  # two windows of a second each
    names = [name for name in ("200.wav", "3000.wav") for _ in range(2)]
    for prediction, name in zip(scope["predictions"], names, strict=True):
        assert prediction.path.endswith(name)
        assert {label for label, _ in prediction.top} == {"low", "high"}
    scope["collection"].close()
    capsys.readouterr()
    model = scope["model"]
    for form, lines in (("raven", 3), ("csv", 3), ("audacity", 2)):
        code, text, _ = outcome(capsys, "predict", "200.wav", "--model", model, "--format", form)
        assert (code, len(text.splitlines())) == (0, lines)
    assert outcome(capsys, "search", "indexes/tones", "200.wav", "--model", model)[0] == 0
