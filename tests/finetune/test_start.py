"""The start of a training from a probe, averaged weights, and training on all rows."""

from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from safetensors.torch import load_file

from embedx.errors import UsageError
from embedx.finetune.construction import make_network
from embedx.finetune.data import TrainingData, make_recipe, read_data, read_items
from embedx.finetune.network import Network
from embedx.finetune.options import FinetuneOptions
from embedx.finetune.start import average_weights, averaged, copy_weights, vectors_of
from embedx.heads.fitting import fit
from tests.helpers.finetuning import QUICK, Checkpoint, train_tones


def prepare(tones: pd.DataFrame, model: Path, folder: Path, **options: Any) -> tuple[Network, TrainingData, Any]:
    """Return a network before its training, its data, and its trainer."""
    from embedx.finetune.training import make_trainer  # imports the trainer of transformers, which takes seconds

    chosen = FinetuneOptions(str(model), **(QUICK | options))
    items = read_items(tones, chosen)
    data = read_data(items, chosen, make_recipe(chosen, 16_000, None), folder, lambda done, total: None)
    network = make_network(data.labelled, chosen)
    return network, data, make_trainer(network, data, chosen, folder)


@pytest.mark.parametrize("settings", [{}, {"hidden": 8, "activation": "relu", "layer": "weighted"}])
def test_head_starts_with_the_logits_of_a_logistic_regression(
    checkpoint: Checkpoint, tones: pd.DataFrame, tmp_path: Path, settings: dict[str, Any]
) -> None:
    network, data, trainer = prepare(tones, checkpoint("wav2vec2"), tmp_path, start="probe", **settings)
    output, rows = data.labelled.outputs[0], data.part.train
    (x,) = vectors_of(
        network, trainer.steps.batcher, data.waves.of_rows(rows), partial(torch.autocast, "cpu", enabled=False)
    )
    head = fit(
        "logistic", x, output.truth[rows].argmax(axis=1), output.classes, groups=data.labelled.splits.inner_groups[rows]
    )
    ours = network.head.linear[0](torch.from_numpy(x)).detach().numpy()
    np.testing.assert_allclose(ours, head.logits(x), atol=1e-3)


def test_rate_of_a_head_from_a_probe_is_that_of_the_encoder() -> None:
    assert FinetuneOptions("m", start="probe", learning_rate=3e-5).linear_rate == 3e-5
    assert FinetuneOptions("m", start="probe", head_rate=1e-2).linear_rate == 1e-2
    assert FinetuneOptions("m").linear_rate == 1e-3
    with pytest.raises(UsageError, match="start must be one of random, probe"):
        FinetuneOptions("m", start="head")
    with pytest.raises(UsageError, match="average must be a number from 0 to 1"):
        FinetuneOptions("m", average=1.5)


@pytest.mark.long
def test_saved_weights_are_the_average_of_start_and_end(
    checkpoint: Checkpoint, tones: pd.DataFrame, tmp_path: Path
) -> None:
    """With `average` 0 nothing but the start is left; at a half each weight is between the two."""
    train = partial(train_tones, tones, checkpoint("wav2vec2"), epochs=1, start="probe", hold_out=False)
    states = {
        share: load_file(train(tmp_path / str(share), average=share).folder / "model.safetensors")
        for share in (0.0, 0.5, 1.0)
    }
    moved = 0.0
    for name, end in states[1.0].items():
        torch.testing.assert_close(states[0.5][name], (states[0.0][name] + end) / 2, atol=1e-6, rtol=1e-4)
        moved = max(moved, float((end - states[0.0][name]).abs().max()))
    assert moved > 1e-3


def test_validation_is_of_the_averaged_weights_and_training_goes_on_with_its_own(
    checkpoint: Checkpoint, tones: pd.DataFrame, tmp_path: Path
) -> None:
    network, _, trainer = prepare(tones, checkpoint("wav2vec2"), tmp_path, start="probe", average=0.25)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.add_(1.0)
    before = copy_weights(network)
    seen: dict[str, torch.Tensor] = {}

    def validate() -> dict[str, float]:
        seen.update(copy_weights(network))
        return {"loss": 0.0, "main": 0.0}

    trainer.validate = validate
    trainer.evaluate()
    for name, value in before.items():
        torch.testing.assert_close(seen[name], value - 0.75)
        torch.testing.assert_close(dict(network.named_parameters())[name], value)


def test_product_of_the_matrices_of_lora_is_averaged(
    checkpoint: Checkpoint, tones: pd.DataFrame, tmp_path: Path
) -> None:
    network, _, _ = prepare(tones, checkpoint("wav2vec2"), tmp_path, lora=2)
    start = copy_weights(network)
    first, second = (
        next(parameter for name, parameter in network.named_parameters() if matrix in name)
        for matrix in ("lora_A", "lora_B")
    )
    with torch.no_grad():
        first.add_(0.5)
        second.add_(1.0)
    product = second @ first
    with averaged(network, start, 0.25):
        torch.testing.assert_close(second @ first, product / 4)
    torch.testing.assert_close(second @ first, product)
    average_weights(network, start, 0.25)
    torch.testing.assert_close(second @ first, product / 4)


def test_without_holding_out_all_training_rows_are_trained_on(
    checkpoint: Checkpoint, tones: pd.DataFrame, tmp_path: Path
) -> None:
    two = tones[tones.split != "validation"]
    result = train_tones(two, checkpoint("wav2vec2"), tmp_path / "m", epochs=1, hold_out=False)
    assert (result.facts["train_rows"], result.facts["validation_rows"]) == (18, 0)
    assert any("none is held out" in note for note in result.notes)
