"""The speaker encoder of docs/extractors.md passes the conformance tests, with random weights."""

import re
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from embedx import extractors
from embedx.extractors.base import Extractor
from tests.helpers.conformance import ConformanceTests, clips_for, run
from tests.helpers.paths import ROOT


@pytest.fixture(scope="module")
def extractor(tmp_path_factory: pytest.TempPathFactory) -> Extractor:
    folder: Path = tmp_path_factory.mktemp("plugin")
    page = (ROOT / "docs/extractors.md").read_text(encoding="utf-8")
    (code,) = [code for code in re.findall(r"```python\n(.*?)```", page, re.DOTALL) if "SpeakerEncoder" in code]
    assert len(code.splitlines()) < 40
    (folder / "speakers.py").write_text(code, encoding="utf-8")
    torch.manual_seed(5)
    modules = nn.ModuleDict({"lstm": nn.LSTM(40, 256, 3, batch_first=True), "linear": nn.Linear(256, 256)})
    weights = {name: 3 * values.contiguous() for name, values in modules.state_dict().items()}
    save_file(weights, folder / "ge2e.safetensors")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.syspath_prepend(folder)
        return extractors.load("speakers:make")


class TestSpeakerEncoder(ConformanceTests):
    pass


def test_frames_are_of_length_one_and_differ_between_clips(extractor: Extractor) -> None:
    found = run(extractor, clips_for(extractor))[0]
    for frames in found:
        torch.testing.assert_close(frames.norm(dim=1), torch.ones(len(frames)))
    model: Any = extractor
    hidden = model.net["lstm"](model.mel(clips_for(extractor)[1][None])[..., :160].transpose(1, 2))[0][:, -1]
    expected = nn.functional.normalize(model.net["linear"](hidden).relu(), dim=1)
    torch.testing.assert_close(found[1][:1], expected, atol=1e-5, rtol=0)
    assert float((found[0][:1] - found[2][:1]).abs().max()) > 1e-3
