"""A step of the optimizer has the gradient of its clips one by one, whatever is trained and however it is batched."""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from torch import Tensor

from embedx.finetune.batches import Batcher
from embedx.finetune.construction import make_network
from embedx.finetune.data import label_items, make_recipe, read_items
from embedx.finetune.network import Objective, balance_classes
from embedx.finetune.options import FinetuneOptions
from embedx.finetune.parameters import set_trained
from embedx.finetune.waves import read_waves
from tests.helpers.finetuning import Checkpoint, without_chance

OPTIONS: dict[str, dict[str, Any]] = {
    "plain": {},
    "lora": {"lora": 4},
    "one block frozen": {"freeze": "1"},
    "features frozen": {"freeze": "features"},
    "head alone": {"freeze": "encoder", "shared": 6, "activation": "tanh"},
    "checkpointing": {"checkpointing": True},
    "weighted layers": {"layer": "weighted", "pooling": "mean", "layer_norm": True},
    "maximum": {"pooling": "max", "hidden": 5},
    "sum of a middle layer": {"layer": "1", "pooling": "sum"},
    "weights of classes, two outputs": {"labels": ("label", "speaker"), "class_weight": "balanced"},
    "several labels": {"labels": ("tags",), "separator": ";"},
}
CASES = [  # every family and every option once; lora and frozen parts also with families of other kinds
    ("wavlm", "plain"),
    ("wav2vec2", "checkpointing"),
    ("wav2vec2-large", "weighted layers"),
    ("hubert", "maximum"),
    ("data2vec", "sum of a middle layer"),
    ("wav2vec2-bert", "checkpointing"),
    ("whisper", "weighted layers"),
    ("ast", "plain"),
    ("conformer-relative", "weights of classes, two outputs"),
    ("conformer-rotary", "several labels"),
    ("unispeech-sat", "plain"),
    ("hubert-batch-norm", "plain"),
    ("wavlm", "lora"),
    ("conformer-relative", "lora"),
    ("hubert", "one block frozen"),
    ("wavlm", "features frozen"),
    ("data2vec", "head alone"),
]


@pytest.mark.long
@pytest.mark.parametrize(("family", "name"), CASES)
def test_gradient_of_a_step_is_the_sum_of_its_clips(
    checkpoint: Checkpoint, tones: pd.DataFrame, tmp_path: Path, family: str, name: str
) -> None:
    values = {"labels": ("label",), "max_seconds": 1.0, "dropout": 0.0, "device": "cpu", **OPTIONS[name]}
    options = FinetuneOptions(str(checkpoint(family)), **values)
    items = read_items(tones.iloc[::7].assign(split=None), options)
    labelled = label_items(items, options.replace(leaky=True))
    network = without_chance(make_network(labelled, options))
    set_trained(network, options, 0)
    encoder = network.encoder
    if family == "ast":  # the sums over its 1214 tokens round too much in float32
        network.double()
        encoder.model.register_forward_pre_hook(lambda _, inputs: (inputs[0].double(),))
    if options.lora:  # new matrices give no gradient to one of each pair
        with torch.no_grad():
            for parameter in encoder.parameters():
                if parameter.requires_grad:
                    parameter.normal_(0, 0.05)
    recipe = make_recipe(options, encoder.sample_rate, encoder.max_samples)
    waves = read_waves([items[row.id - 1] for row in labelled.rows], recipe, tmp_path, lambda done: None)
    rows = np.arange(len(labelled.rows))
    weights = balance_classes(labelled.outputs, rows) if options.class_weight else None
    objective = Objective(labelled.outputs, weights)
    pad = getattr(encoder.extractor, "padded_samples", lambda length: length)

    def gradients(budget: int) -> tuple[int, dict[str, Tensor]]:
        network.zero_grad()
        batches = Batcher(waves, labelled.outputs, encoder.min_samples, encoder.sample_rate, budget, pad).make(
            waves.of_rows(rows)
        )
        for batch in batches:
            logits = network(batch["waves"], batch["lengths"])
            objective(logits, batch["targets"], batch["known"]).backward()  # type: ignore[no-untyped-call]
        return len(batches), {key: p.grad.clone() for key, p in network.named_parameters() if p.grad is not None}

    count, together = gradients(10**9)
    apart_count, apart = gradients(1)
    assert apart_count == len(waves) > count
    assert together.keys() == apart.keys()
    trained = {key for key, parameter in network.named_parameters() if parameter.requires_grad}
    assert apart.keys() <= trained
    assert len(apart) > 0.8 * len(trained) or "layer" in options.layer or options.layer == "1"
    for key, gradient in apart.items():
        scale = max(1.0, float(gradient.abs().max()))
        assert (together[key] - gradient).abs().max() < 1e-5 * scale, key
