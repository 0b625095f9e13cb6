import re
import sys
import types
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

import embedx
from embedx import extractors
from embedx.errors import ModelError
from tests.helpers.conformance import EXACT, clips_for, run
from tests.helpers.paths import ROOT


def documented(name: str) -> str:
    """Return the example of docs/extractors.md that defines a class."""
    page = (ROOT / "docs/extractors.md").read_text(encoding="utf-8")
    blocks: list[str] = re.findall(r"```python\n(.*?)```", page, re.DOTALL)
    (code,) = [code for code in blocks if f"class {name}" in code]
    assert len(code.splitlines()) < 40
    return code


@pytest.fixture
def example(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """The worked example of docs/extractors.md as a module in the working folder."""
    code = documented("Levels")
    (tmp_path / "levels.py").write_text(code)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    yield "levels:make"
    sys.modules.pop("levels", None)


def test_documented_example_conforms(example: str) -> None:
    extractor = extractors.load(example)
    clips = clips_for(extractor)
    together, alone = run(extractor, clips, pad=999, rubbish=0.3)[0], [run(extractor, [clip])[0][0] for clip in clips]
    for a, b in zip(together, alone, strict=True):
        torch.testing.assert_close(a, b, atol=EXACT, rtol=0)


def test_plugin_code_runs_only_if_named(example: str, manifest: Path, tmp_path: Path) -> None:
    with embedx.extract(manifest, model=example, out=tmp_path / "c") as collection:
        query = collection.rows()["path"].iloc[0]
        assert collection.search(query, k=1)[0].score == pytest.approx(1, abs=1e-5)
        assert collection.vectors().shape == (40, 2)
    with embedx.open(tmp_path / "c") as collection:
        assert len(collection.search(id=1)) == 10
        with pytest.raises(ModelError, match="--model levels:make"):
            collection.search(query)
    with embedx.open(tmp_path / "c", model=example) as collection:
        assert collection.search(query, k=1)[0].score == pytest.approx(1, abs=1e-5)


def test_entry_point_name_loads_plugin(example: str, tmp_path: Path) -> None:
    package = tmp_path / "levels-1.dist-info"
    package.mkdir()
    (package / "METADATA").write_text("Metadata-Version: 2.1\nName: levels\nVersion: 1\n")
    (package / "entry_points.txt").write_text("[embedx.extractors]\nloudness = levels:make\n")
    sys.path.insert(0, str(tmp_path))
    assert extractors.resolve("loudness") == ("plugin", "loudness")
    assert extractors.load("loudness").dim == 2


class HearModel(torch.nn.Module):
    sample_rate = 16_000
    scene_embedding_size = timestamp_embedding_size = 4

    def __init__(self) -> None:
        super().__init__()
        self.gain = torch.nn.Parameter(torch.arange(4.0))


def make_hear_module(name: str) -> types.ModuleType:
    """A module by the HEAR specification whose output depends on the padding of a batch, as most do."""
    module = types.ModuleType(name)

    def get_timestamp_embeddings(audio: Tensor, model: HearModel) -> tuple[Tensor, Tensor]:
        frames = audio.unfold(1, 400, 400).square().mean(-1) + audio.mean(dim=1, keepdim=True)  # [N, T]
        times = torch.arange(frames.shape[1]) * 25.0
        return frames[..., None] * model.gain, times.expand(len(audio), -1)

    module.load_model = lambda path="": HearModel()  # type: ignore[attr-defined]
    module.get_timestamp_embeddings = get_timestamp_embeddings  # type: ignore[attr-defined]
    module.get_scene_embeddings = lambda audio, model: get_timestamp_embeddings(audio, model)[0].mean(1)  # type: ignore[attr-defined]
    return module


def test_hear_module_is_an_extractor(monkeypatch: pytest.MonkeyPatch, manifest: Path, tmp_path: Path) -> None:
    monkeypatch.setitem(sys.modules, "somebodys_hear", make_hear_module("somebodys_hear"))
    extractor = extractors.load("hear:somebodys_hear")
    assert (extractor.sample_rate, extractor.dim) == (16_000, 4)
    assert extractor.frame_rate == pytest.approx(40)
    clips = clips_for(extractor)
    together = run(extractor, clips, pad=999)[0]
    for one, clip in zip(together, clips, strict=True):
        torch.testing.assert_close(one, run(extractor, [clip])[0][0], atol=EXACT, rtol=0)
    with embedx.extract(manifest, model="hear:somebodys_hear", out=tmp_path / "c") as collection:
        assert np.isfinite(collection.vectors()).all()
        assert len(collection) == 40


@pytest.mark.parametrize(
    "name, message",
    [
        ("no_such_module:make", "ModuleNotFoundError: No module named 'no_such_module'"),
        ("levels:nothing", "has no attribute 'nothing'"),
        ("json:JSONDecoder", "has no sample_rate, layers, dim"),
        ("hear:json", "not a HEAR module: it has no load_model"),
        ("levels:Broken", "ZeroDivisionError"),
    ],
)
def test_plugin_that_does_not_work_is_named(example: str, name: str, message: str) -> None:
    with open("levels.py", "a", encoding="utf-8") as file:
        file.write("\n\ndef Broken():\n    1 / 0\n")
    with pytest.raises(ModelError, match=message):
        extractors.load(name)
