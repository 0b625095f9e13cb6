"""Construction: options and labelled rows -> the network that is trained, with its checks."""

from typing import Any

import torch

from embedx.errors import UsageError
from embedx.extractors.pooled_heads import HeadSettings
from embedx.extractors.scratch import SCRATCH, scratch_encoder
from embedx.finetune.encoders import load_encoder
from embedx.finetune.labels import LabelledRows
from embedx.finetune.network import Network
from embedx.finetune.options import FinetuneOptions
from embedx.finetune.parameters import add_lora, check_freeze


def make_network(labelled: LabelledRows, options: FinetuneOptions) -> Network:
    """Return the encoder with a new head, and with LoRA if the options ask for it."""
    encoder = pick_encoder(options)
    torch.manual_seed(options.seed)
    network = Network(encoder, make_head_settings(encoder, labelled, options))
    if options.lora:
        add_lora(encoder, options.lora)
    return network


def pick_encoder(options: FinetuneOptions) -> Any:
    """Return the encoder of a checkpoint, or of a model from scratch."""
    if options.model.startswith(SCRATCH):
        check_scratch(options)
        torch.manual_seed(options.seed)
        return scratch_encoder(options.model.removeprefix(SCRATCH)).requires_grad_(True)
    lengths = [seconds for seconds in (options.window, options.max_seconds) if seconds is not None]
    context_s = min(lengths) if lengths else None
    native = options.pooling == "native"
    encoder = load_encoder(options.model, context_s=context_s, native=native, allow_pickle=options.allow_pickle)
    check_freeze(options, len(encoder.layers) - 1)
    if options.checkpointing:
        encoder.model.activation_checkpointing_enable()  # type: ignore[operator]
    return encoder


def check_scratch(options: FinetuneOptions) -> None:
    """Refuse options that need a pretrained transformer.

    Raises:
        UsageError: one of them is set.
    """
    for name, value in {"lora": options.lora, "checkpointing": options.checkpointing}.items():
        if value:
            raise UsageError(f"{name} needs a checkpoint of transformers; {options.model} has no pretrained blocks.")


def make_head_settings(encoder: Any, labelled: LabelledRows, options: FinetuneOptions) -> HeadSettings:
    """Return the shape of the head.

    Raises:
        UsageError: the encoder has no such layer.
    """
    layers = {"last": encoder.layers[-1:], "weighted": encoder.layers}.get(options.layer)
    if layers is None:
        layers = (int(options.layer),)
        if layers[0] not in encoder.layers:
            raise UsageError(f"layer={options.layer}, but {options.model} has the layers 0 to {encoder.layers[-1]}.")
    is_ast = getattr(encoder, "kind", "") == "audio-spectrogram-transformer"
    native_norm = is_ast and options.pooling == "native"
    return HeadSettings(
        outputs={output.name: output.classes for output in labelled.outputs},
        multi_label=tuple(output.name for output in labelled.outputs if output.multi_label),
        dim=encoder.dim,
        layers=layers,
        layer_norm=native_norm if options.layer_norm is None else options.layer_norm,
        norm_epsilon=float(encoder.model.config.layer_norm_eps) if native_norm else 1e-5,
        **{name: getattr(options, name) for name in ("pooling", "shared", "hidden", "activation", "dropout")},
    )


def check_metric(labelled: LabelledRows, options: FinetuneOptions) -> None:
    """Refuse a metric that no output has.

    Raises:
        UsageError: the metric is of the other kind of labels.
    """
    kinds = {output.multi_label for output in labelled.outputs}
    single, multi = {"accuracy", "balanced_accuracy"}, {"exact_match", "micro_f1"}
    if (options.metric in single and True in kinds) or (options.metric in multi and False in kinds):
        what = "one label" if options.metric in single else "several labels"
        raise UsageError(
            f"metric={options.metric} is for outputs with {what} in a row. Use macro_f1, macro_auc or loss."
        )
