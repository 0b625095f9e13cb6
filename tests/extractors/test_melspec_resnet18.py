"""melspec-resnet18 equals torchvision on the image of a patch."""

import sys
import urllib.error
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from embedx import extractors
from embedx.errors import ModelError
from embedx.extractors.melspec import LogMel
from tests.helpers.conformance import clips_for, run
from tests.helpers.random_models import random_resnet18


def test_melspec_resnet18_without_torchvision_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "torchvision.models", None)
    with pytest.raises(ModelError, match="pip install torchvision"):
        extractors.load("melspec-resnet18")


def test_melspec_resnet18_equals_torchvision_on_patch_image(tmp_path: Path) -> None:
    path = random_resnet18(tmp_path)
    from torchvision.models import resnet18

    network = resnet18().eval()
    network.load_state_dict(load_file(path))
    hidden: list[Tensor] = []
    network.avgpool.register_forward_hook(lambda module, given, output: hidden.append(output.flatten(1)))
    extractor = extractors.load(f"melspec-resnet18:{path}")
    clip = clips_for(extractor)[3]
    grey = (LogMel(0.01)(clip[None])[0, 48:144] - np.log(0.01)) / (5 - np.log(0.01))
    channels = zip((0.485, 0.456, 0.406), (0.229, 0.224, 0.225), strict=True)
    network(torch.stack([(grey - mean) / std for mean, std in channels])[None])
    torch.testing.assert_close(run(extractor, [clip])[0][0][1:2], hidden[0], atol=1e-4, rtol=1e-4)


def test_melspec_resnet18_refuses_other_weights(tmp_path: Path) -> None:
    tensors = load_file(random_resnet18(tmp_path))
    del tensors["layer3.1.conv2.weight"]
    save_file(tensors | {"layer5.weight": torch.zeros(1)}, tmp_path / "other.safetensors")
    with pytest.raises(ModelError, match=r"(?s)layer3\.1\.conv2\.weight.*layer5\.weight"):
        extractors.load(f"melspec-resnet18:{tmp_path / 'other.safetensors'}")
    with pytest.raises(ModelError, match="There is no file"):
        extractors.load(f"melspec-resnet18:{tmp_path / 'nowhere.safetensors'}")


def test_melspec_resnet18_without_network_names_local_alternative(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("torchvision", reason="needs torchvision, which is optional")

    def fail(*_: object, **__: object) -> None:
        raise urllib.error.URLError("no network")

    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    monkeypatch.setattr(torch.hub, "download_url_to_file", fail)
    with pytest.raises(ModelError, match=r"resnet18-\w+\.pth on another machine.*melspec-resnet18:PATH --allow-pickle"):
        extractors.load("melspec-resnet18")
