"""Folder: a trained network -> models/NAME, which embedx and, where it has the head, plain transformers load.

::

    config.json, model.safetensors, preprocessor_config.json   the model as transformers saves it
    head.safetensors, finetune.json                            the head, and what embedx needs beyond
    arguments.json                                             what `embedx finetune --args` takes
    metrics.json, loss.png                                     the figures and the loss curve

`config.json` names a class of transformers for classification if it has the head of the network; else the encoder's.
"""

import json
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import save_file
from torch import Tensor, nn

from embedx.errors import DiskError
from embedx.extractors.fingerprint import pin_revision
from embedx.extractors.masking import MaskedGroupNorm
from embedx.extractors.pooled_heads import HeadSettings, PooledHead
from embedx.extractors.weights import brief
from embedx.finetune.network import Network
from embedx.finetune.options import FinetuneOptions

FORMAT = 1  # of finetune.json


def write_model(folder: Path, network: Network, options: FinetuneOptions) -> bool:
    """Write the model files of a network into a folder.

    Args:
        folder: an empty folder.
        network: the network, with LoRA merged.
        options: how it was trained.

    Returns:
        Whether plain transformers loads the classifier.

    Raises:
        DiskError: the disk is full, or a file cannot be written.
    """
    encoder, head = network.encoder, network.head
    is_native = hasattr(encoder, "checkpoint") and is_plain(encoder, head.settings)
    try:
        if hasattr(encoder, "checkpoint"):
            save_checkpoint(folder, encoder, head if is_native else None)
        else:
            save_file(clean(encoder.state_dict()), folder / "model.safetensors")
        save_file(clean(head.state_dict()), folder / "head.safetensors")
        description = {
            "format": FORMAT,
            "model": pin_revision(options.model)[1] if hasattr(encoder, "checkpoint") else options.model,
            "kind": getattr(encoder, "kind", options.model),
            "plain": is_native,
            "sample_rate": encoder.sample_rate,
            "head": head.settings.to_dict(),
        }
        (folder / "finetune.json").write_text(json.dumps(description, indent=1), encoding="utf-8")
    except (OSError, SafetensorError) as error:
        raise DiskError(f"The model cannot be written to {folder}: {brief(error)}") from error
    return is_native


def clean(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """Return tensors as safetensors saves them without a fault: contiguous, on the CPU."""
    return {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}


def is_plain(encoder: Any, settings: HeadSettings) -> bool:
    """Tell whether transformers' class for classification has a head of this shape.

    It has one output, a linear projection of the mean of one layer or of the weighted sum of all, and a linear layer.
    AST has a layer norm instead of the projection. Where a final norm follows the blocks of a model on the waveform,
    the library's weighted sum takes the last block without it, and the one here with it.
    """
    is_ast = encoder.kind == "audio-spectrogram-transformer"
    is_mean = settings.pooling == "native" or (settings.pooling == "mean" and not is_ast and encoder.kind != "whisper")
    is_linear = not settings.hidden and (settings.activation == "none" or not settings.shared)
    if is_ast:
        is_layer = settings.layers == encoder.layers[-1:] and settings.layer_norm and not settings.shared
    else:
        has_last_norm = encoder.norm_is_last and encoder.kind not in ("whisper", "wav2vec2-bert")
        is_weighted = settings.layers == encoder.layers and not has_last_norm
        is_layer = (settings.layers == encoder.layers[-1:] or is_weighted) and not settings.layer_norm
    return len(settings.outputs) == 1 and is_mean and is_linear and is_layer


def save_checkpoint(folder: Path, encoder: Any, head: PooledHead | None) -> None:
    """Save an encoder as transformers does: with the head in the class for classification, else alone."""
    import transformers

    config, front_end = encoder.checkpoint.model.config, encoder.checkpoint.front_end
    config.add_adapter = False
    state = unmask(encoder.checkpoint.model)
    if head is None:
        model = type(encoder.checkpoint.model)(config)
    else:
        ((name, classes),) = head.settings.outputs.items()
        config.id2label = dict(enumerate(classes))
        config.label2id = {label: i for i, label in enumerate(classes)}
        is_multi = name in head.settings.multi_label
        config.problem_type = "multi_label_classification" if is_multi else "single_label_classification"
        config.use_weighted_layer_sum = len(head.settings.layers) > 1
        config.classifier_proj_size = head.settings.shared_dim
        model = transformers.AutoModelForAudioClassification.from_config(config)
        prefix = "encoder." if encoder.kind == "whisper" else f"{model.base_model_prefix}."
        source = unmask(encoder.model)
        state = {f"{prefix}{key}": value for key, value in source.items()} | head_state(head, encoder.kind)
    model.load_state_dict(state, strict=True)
    model.save_pretrained(folder)
    if front_end is not None:
        (folder / "preprocessor_config.json").write_text(json.dumps(front_end, indent=1), encoding="utf-8")


def unmask(model: nn.Module) -> dict[str, Tensor]:
    """Return the tensors of a model by the names that they have without masked norms."""
    masked = [f"{name}.norm." for name, module in model.named_modules() if isinstance(module, MaskedGroupNorm)]
    state = {}
    for key, value in model.state_dict().items():
        prefix = next((name for name in masked if key.startswith(name)), None)
        state[key if prefix is None else prefix.removesuffix("norm.") + key.removeprefix(prefix)] = value
    return state


def head_state(head: PooledHead, kind: str) -> dict[str, Tensor]:
    """Return the tensors of a head by their names in the class for classification."""
    state = head.linear[0].state_dict()
    if kind == "audio-spectrogram-transformer":
        return {f"classifier.dense.{name}": value for name, value in state.items()} | {
            f"classifier.layernorm.{name}": value for name, value in head.norm.state_dict().items()
        }
    named = {f"classifier.{name}": value for name, value in state.items()}
    if isinstance(head.shared, nn.Sequential):
        named |= {f"projector.{name}": value for name, value in head.shared[1].state_dict().items()}
    else:  # no projection: the library's does nothing
        named |= {"projector.weight": torch.eye(head.settings.dim), "projector.bias": torch.zeros(head.settings.dim)}
    return named | ({} if head.layer_weights is None else {"layer_weights": head.layer_weights})
