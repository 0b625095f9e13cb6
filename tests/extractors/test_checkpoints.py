"""Broken checkpoints are refused with a reason."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from embedx import extractors
from embedx.errors import ModelError
from tests.helpers.conformance import Checkpoint
from tests.helpers.random_models import make_pickle


def break_weights(folder: Path) -> None:
    data = (folder / "model.safetensors").read_bytes()
    (folder / "model.safetensors").write_bytes(data[: len(data) // 2])


def drop_weight(folder: Path) -> None:
    tensors = load_file(folder / "model.safetensors")
    del tensors["encoder.layers.1.final_layer_norm.weight"]
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})


def add_weight(folder: Path) -> None:
    tensors = load_file(folder / "model.safetensors")
    tensors["encoder.layers.9.final_layer_norm.weight"] = torch.zeros(32)
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})


def make_text_model(folder: Path) -> None:
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"model_type": "bert"}))


BREAKAGES: dict[str, Callable[[Path], object]] = {
    "cannot be loaded": break_weights,
    r"missing: encoder\.layers\.1\.final_layer_norm\.weight": drop_weight,
    r"unexpected: encoder\.layers\.9\.final_layer_norm\.weight": add_weight,
    "type 'bert', which embedx does not support": make_text_model,
    "contains no config.json": lambda folder: (folder / "config.json").unlink(),
    "config.json cannot be read": lambda folder: (folder / "config.json").write_text("{"),
    "a pickle .*, which can run code. If you trust its source, use --allow-pickle": make_pickle,
    "weights in .* cannot be loaded": lambda folder: (folder / "model.safetensors").unlink(),
}


@pytest.mark.parametrize("message", BREAKAGES)
def test_broken_checkpoint_is_refused_with_reason(checkpoint: Checkpoint, tmp_path: Path, message: str) -> None:
    folder = tmp_path / "broken"
    shutil.copytree(checkpoint("hubert"), folder)
    BREAKAGES[message](folder)
    with pytest.raises(ModelError, match=message):
        extractors.load(str(folder))
