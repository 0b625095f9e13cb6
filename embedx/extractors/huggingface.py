"""huggingface: Wav2Vec2, HuBERT, DistilHuBERT and WavLM by hub id or local folder, through transformers' own forward.

One thing is replaced: the GroupNorm behind the first convolution of base models, whose statistics run over time
and would see the padding of the batch. Everything else is the library's, with an attention mask.
"""

import json
import logging
import math
import socket
import urllib.parse
import urllib.request
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Self

import torch
from torch import Tensor, nn

from embedx.errors import ModelError
from embedx.extractors.base import hash_weights

log = logging.getLogger(__name__)

MODEL_TYPES = ("wav2vec2", "hubert", "wavlm")  # DistilHuBERT is a "hubert" with two layers
UNUSED = ("masked_spec_embed",)  # a training-time parameter that some checkpoints leave out
NAMES = ("_name_or_path", "transformers_version", "architectures", "torch_dtype", "dtype")  # say nothing of the output


class MaskedGroupNorm(nn.Module):
    """GroupNorm over the valid frames of each clip alone: [B, C, T] -> [B, C, T], zero behind `lengths` [B].

    Each clip gets the library's own group_norm on its own slice, so its frames equal those of the clip run alone.
    """

    lengths: Tensor

    def __init__(self, norm: nn.GroupNorm) -> None:
        super().__init__()
        self.norm = norm

    def forward(self, x: Tensor) -> Tensor:
        """Normalise clip by clip."""
        out = torch.zeros_like(x)
        for clip, result, length in zip(x, out, self.lengths.tolist(), strict=True):
            result[:, :length] = self.norm(clip[None, :, :length])[0]
        return out


class Transformer:
    """Hidden states [B, T, D] of a speech transformer, 50 frames a second.

    Layer 0 is the input of the transformer, layer n the output of its n-th block; the last is the model's
    `last_hidden_state` (with the closing layer norm, where a model has one).
    """

    def __init__(self, model: Any, normalise: bool, sample_rate: int, settings: dict[str, Any]) -> None:
        config = model.config
        self.model = model.eval().requires_grad_(False)
        self.normalise = normalise
        self.sample_rate = sample_rate
        self.layers = tuple(range(config.num_hidden_layers + 1))
        self.dim = int(config.hidden_size)
        self.strides = tuple(zip(config.conv_kernel, config.conv_stride, strict=True))
        self.frame_rate = sample_rate / math.prod(stride for _, stride in self.strides)
        self.min_samples = receptive_field(self.strides)
        self.weights = hash_weights(model.state_dict(), settings | {"normalise": normalise})
        self.norms = mask_group_norms(model.feature_extractor)

    def frames(self, waves: Tensor, lengths: Tensor, layers: tuple[int, ...]) -> Iterator[tuple[int, Tensor, Tensor]]:
        """Yield the asked hidden states; see `Extractor.frames`."""
        valid = torch.arange(waves.shape[1], device=waves.device) < lengths[:, None]  # [B, S]
        if self.normalise:
            waves = normalise(waves, lengths, valid)
        for norm in self.norms:
            norm.lengths = count_frames(lengths, self.strides[:1])
        hidden = any(layer != self.layers[-1] for layer in layers)
        with warnings.catch_warnings():  # WavLM's own forward calls torch in a way that torch warns of
            warnings.filterwarnings("ignore", message="Support for mismatched key_padding_mask")
            output = self.model(waves, attention_mask=valid.long(), output_hidden_states=hidden)
        counts = count_frames(lengths, self.strides)
        for layer in layers:
            last = layer == self.layers[-1]
            yield layer, output.last_hidden_state if last else output.hidden_states[layer], counts

    def to(self, device: str) -> Self:
        """Move to a device and return self."""
        self.model.to(device)
        return self


def normalise(waves: Tensor, lengths: Tensor, valid: Tensor) -> Tensor:
    """Give each wave [B, S] zero mean and unit variance over its own valid samples; padding stays zero.

    Source: transformers' Wav2Vec2FeatureExtractor, which adds 1e-7 to the variance.
    """
    count = lengths[:, None]
    centred = (waves - waves.sum(dim=1, keepdim=True, dtype=torch.float64) / count) * valid
    variance = centred.square().sum(dim=1, keepdim=True) / count
    return (centred / torch.sqrt(variance + 1e-7)).float()


def count_frames(lengths: Tensor, strides: tuple[tuple[int, int], ...]) -> Tensor:
    """Return how many frames unpadded convolutions make of `lengths` samples.

    >>> count_frames(torch.tensor([400, 16000]), ((10, 5),) + 4 * ((3, 2),) + 2 * ((2, 2),))
    tensor([ 1, 49])
    """
    for kernel, stride in strides:
        lengths = (lengths - kernel) // stride + 1
    return lengths


def receptive_field(strides: tuple[tuple[int, int], ...]) -> int:
    """Return how many samples one frame sees.

    >>> receptive_field(((10, 5),) + 4 * ((3, 2),) + 2 * ((2, 2),))
    400
    """
    samples = 1
    for kernel, stride in reversed(strides):
        samples = (samples - 1) * stride + kernel
    return samples


def mask_group_norms(feature_extractor: nn.Module) -> list[MaskedGroupNorm]:
    """Replace every GroupNorm among the convolutions, and return the replacements (one, or none)."""
    masked: list[MaskedGroupNorm] = []
    for layer in list(feature_extractor.modules()):
        norm = getattr(layer, "layer_norm", None)
        if isinstance(norm, nn.GroupNorm):
            masked.append(MaskedGroupNorm(norm))
            layer.layer_norm = masked[-1]
    return masked


def load(source: str, *, allow_pickle: bool = False) -> Transformer:
    """Load a checkpoint by hub id (`name` or `name@revision`) or from a local folder.

    Raises:
        ModelError: nothing is there, the network cannot be reached, the model is of another kind, or its weights do
            not fit.
    """
    from transformers import AutoModel
    from transformers.utils.logging import disable_progress_bar, set_verbosity_error

    set_verbosity_error()
    disable_progress_bar()
    place, _, revision = (source, "", "") if Path(source).is_dir() else source.partition("@")
    options: dict[str, Any] = {"revision": revision} if revision else {}
    if not Path(source).is_dir() and not hub_is_near():
        options["local_files_only"] = True  # the cache may have it, and the library would try for half a minute
    settings = read_json(place, "config.json", options)
    if settings is None:
        raise ModelError(missing(place))
    kind = settings.get("model_type")
    if kind not in MODEL_TYPES:
        raise ModelError(
            f"{place} is a model of type {kind!r}, not a speech encoder that embedx runs ({', '.join(MODEL_TYPES)})."
        )
    front_end = read_json(place, "preprocessor_config.json", options)
    if front_end is None:
        log.warning("%s has no preprocessor_config.json: waves are normalised, as transformers does by default.", place)
        front_end = {}
    try:
        model, report = AutoModel.from_pretrained(
            place, output_loading_info=True, use_safetensors=True, dtype=torch.float32, **options
        )
    except Exception as error:  # transformers raises whatever its file readers raise, from OSError to SafetensorError
        pickled = " A pickle (.bin) can run code and is not read: save it as safetensors." if has_pickle(place) else ""
        raise ModelError(f"The weights in {place} cannot be loaded: {first_line(error)}{pickled}") from error
    check_keys(place, model, report)
    settings = {key: value for key, value in settings.items() if key not in NAMES}
    return Transformer(
        model, bool(front_end.get("do_normalize", True)), int(front_end.get("sampling_rate", 16_000)), settings
    )


def hub_is_near() -> bool:
    """Tell whether the name of the model hub can be looked up; behind a proxy that is the proxy's business."""
    from huggingface_hub import constants

    if urllib.request.getproxies():
        return True
    try:
        socket.getaddrinfo(urllib.parse.urlsplit(constants.ENDPOINT).hostname, 443)
    except OSError:
        return False
    return True


def read_json(place: str, name: str, options: dict[str, Any]) -> dict[str, Any] | None:
    """Return a JSON file of a local folder or a hub repository, None where it is not to be had."""
    from transformers.utils.hub import cached_file

    try:
        path = cached_file(place, name, _raise_exceptions_for_missing_entries=False, **options)
    except (OSError, ValueError):
        return None
    if path is None:
        return None
    try:
        values = json.loads(Path(path).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ModelError(f"{path} cannot be read: {error}") from error
    if not isinstance(values, dict):
        raise ModelError(f"{path} should hold a JSON object.")
    return values


def check_keys(place: str, model: nn.Module, report: dict[str, Any]) -> None:
    """Refuse a checkpoint that leaves a parameter of the encoder untouched.

    A head behind the encoder (`lm_head`, `classifier`) is left out without complaint: it is not part of a frozen
    encoder.
    """
    names = {name.split(".")[0] for name in model.state_dict()}
    unexpected = [key for key in report["unexpected_keys"] if key.split(".")[0] in names]
    wrong = {
        "missing": sorted(set(report["missing_keys"]) - set(UNUSED)),
        "unexpected": sorted(unexpected),
        "of another shape": sorted(str(key[0]) for key in report["mismatched_keys"]),
    }
    complaints = [f"{kind}: {', '.join(keys[:5])} ({len(keys)} in all)" for kind, keys in wrong.items() if keys]
    if complaints:
        raise ModelError(f"The weights in {place} do not fit their configuration. {'; '.join(complaints)}.")


def missing(place: str) -> str:
    """Say what can be done about a checkpoint that is not there."""
    if Path(place).is_dir():
        return f"{place} holds no config.json: give the folder that save_pretrained() wrote."
    return (
        f"{place} is no folder here, and it cannot be had from the model hub (wrong name, or no network). "
        "Without a network, download the checkpoint elsewhere and give its folder as --model FOLDER."
    )


def has_pickle(place: str) -> bool:
    """Tell whether a local folder holds weights as a pickle."""
    return any(Path(place).glob("*.bin"))


def first_line(error: Exception) -> str:
    """Return the first line of a message, for an error that wraps it."""
    return next(iter(str(error).splitlines()), "") or type(error).__name__
