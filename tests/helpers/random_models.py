"""Models of full size with random weights."""

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from embedx.extractors.yamnet import Network
from tests.helpers.checkpoints import CHECKPOINTS

TRANSFORMERS = tuple(name for name in CHECKPOINTS if name != "hubert-wide")
NAMES = ("logmel", "mfcc", "yamnet", "vggish", "melspec-resnet18", *TRANSFORMERS)


def random_resnet18(folder: Path) -> Path:
    models = pytest.importorskip("torchvision.models", reason="needs torchvision, which is optional")
    torch.manual_seed(0)
    path = folder / "resnet18.safetensors"
    save_file(models.resnet18().state_dict(), path)
    return path


def random_yamnet(folder: Path) -> Path:
    torch.manual_seed(0)
    path = folder / "yamnet.safetensors"
    save_file(Network().state_dict(), path)
    return path


def make_pickle(folder: Path) -> None:
    torch.save(load_file(folder / "model.safetensors"), folder / "pytorch_model.bin")
    (folder / "model.safetensors").unlink()
