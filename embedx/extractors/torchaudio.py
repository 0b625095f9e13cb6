"""torchaudio: the speech bundles of torchaudio.pipelines by name, `HUBERT_BASE` or `HUBERT_BASE@weights.safetensors`.

The modules are torchaudio's own, but they are called here one by one. torchaudio's own forward pass depends on the
batch (its GroupNorm and its layer norm over the waveform use all clips), and its WavLM does not accept `lengths`
(AssertionError in torchaudio 2.11).
"""

import contextlib
import difflib
import io
import logging
import math
import os
import socket
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Self

import torch
from torch import Tensor

from embedx.errors import ModelError
from embedx.extractors.base import hash_weights
from embedx.extractors.checkpoints import explain_download
from embedx.extractors.masking import BATCH, WaveInput, count_frames, mask_group_norms, receptive_field
from embedx.extractors.names import BUNDLES
from embedx.extractors.weight_files import torch_cache
from embedx.extractors.weights import brief, read_weights

log = logging.getLogger(__name__)

HOST = "download.pytorch.org"
TIMEOUT_S = 10.0  # a host that does not answer in this time counts as no network
EPSILON = 1e-5  # of torch's layer_norm, which the bundles apply to the waveform


class BundleEncoder:
    """Hidden states [B, T, D] of a bundle's transformer, 50 frames per second.

    Layer 0 is the input of the first block (the result of `Transformer._preprocess`), layer n the output of the n-th
    block, `model.extract_features(wave)[0][n - 1]`. The last layer is the result of `model(wave)` without a head. For
    base models it equals the last layer of extract_features; for large models it includes the final layer norm, which
    extract_features leaves out. transformers numbers the hidden states of the same checkpoint in the same way.
    """

    max_samples: int | None = None

    def __init__(self, model: Any, normalise: bool, sample_rate: int, settings: dict[str, Any]) -> None:
        convolutions = model.feature_extractor.conv_layers
        self.model = model.eval().requires_grad_(False)
        self.sample_rate = sample_rate
        self.layers = tuple(range(len(model.encoder.transformer.layers) + 1))
        self.dim = int(model.encoder.transformer.layer_norm.normalized_shape[0])
        self.strides = tuple((int(layer.kernel_size), int(layer.stride)) for layer in convolutions)
        self.frame_rate = sample_rate / math.prod(stride for _, stride in self.strides)
        self.min_samples = receptive_field(self.strides)
        self.weights = hash_weights(model.state_dict(), settings | {"normalise": normalise})
        self.input = WaveInput(normalise, mask_group_norms(model.feature_extractor), EPSILON)
        self.is_wavlm = hasattr(model.encoder.transformer.layers[0].attention, "rel_attn_embed")

    def frames(self, waves: Tensor, lengths: Tensor, layers: tuple[int, ...]) -> Iterator[tuple[int, Tensor, Tensor]]:
        """Yield the hidden states of the requested layers; see `Extractor.frames`."""
        encoder, transformer = self.model.encoder, self.model.encoder.transformer
        waves = self.input.prepare(waves, lengths)
        BATCH.lengths = count_frames(lengths, self.strides[:1])
        x, _ = self.model.feature_extractor(waves, None)  # [B, T, C]
        counts = count_frames(lengths, self.strides)
        padding = torch.arange(x.shape[1], device=x.device) >= counts[:, None]  # [B, T]
        x = encoder.feature_projection(x).masked_fill(padding[..., None], 0.0)  # the positional convolution sees it
        x = transformer._preprocess(x)
        if 0 in layers:
            yield 0, x, counts
        key_mask = torch.zeros(padding.shape, device=x.device).masked_fill(padding, -torch.inf)  # added to the scores
        mask = None if self.is_wavlm else key_mask[:, None, None].expand(-1, 1, x.shape[1], -1)  # [B, 1, T, T]
        bias = None
        for layer, block in enumerate(transformer.layers[: layers[-1]], start=1):
            x, bias = block(x, mask, position_bias=bias, key_padding_mask=key_mask)  # WavLM uses key_padding_mask only
            if layer in layers:
                needs_norm = layer == self.layers[-1] and not transformer.layer_norm_first
                yield layer, transformer.layer_norm(x) if needs_norm else x, counts

    def to(self, device: str) -> Self:
        """Move the model to a device and return self."""
        self.model.to(device)
        return self


def load(source: str, *, allow_pickle: bool = False, download: bool = True) -> BundleEncoder:
    """Load a bundle by NAME, with weights from torch's hub cache or the network, or by NAME@FILE with a local file.

    A head for speech recognition (`aux`) is left out.

    Raises:
        ModelError: there is no such bundle or no network, or the weights are missing or do not fit.
    """
    name, separator, file = source.partition("@")
    bundle = find_bundle(name)
    weights = (
        read_weights(Path(file).expanduser(), allow_pickle) if separator else fetch_weights(name, bundle, download)
    )
    return build_encoder(bundle, source, weights)


def find_bundle(name: str) -> Any:
    """Return a bundle of torchaudio.pipelines."""
    try:
        from torchaudio import pipelines
    except (ImportError, OSError) as error:
        raise ModelError(
            f"torchaudio cannot be imported with torch {torch.__version__}: {brief(error)} Install the torchaudio for "
            "this version of torch, or use the model by its hub id, such as facebook/hubert-base-ls960."
        ) from error
    known = [
        attribute
        for attribute in dir(pipelines)
        if attribute.startswith(BUNDLES) and isinstance(getattr(pipelines, attribute), pipelines.Wav2Vec2Bundle)
    ]
    if name not in known:
        similar = difflib.get_close_matches(name.upper(), known, n=4, cutoff=0.0)
        raise ModelError(f"torchaudio has no speech bundle {name!r}. Similar names: {', '.join(similar)}.")
    return getattr(pipelines, name)


def fetch_weights(name: str, bundle: Any, download: bool) -> dict[str, Tensor]:
    """Return the published weights of a bundle from torch's hub cache, downloaded first if necessary and allowed.

    They are published as pickles only; torch reads only tensors from them (`weights_only`).
    """
    file = torch_cache() / os.path.basename(bundle._path)
    alternative = (
        f"Without a network, put {file.name} into {file.parent}, or give --model {name}@FILE with the weights in a "
        "local file (.safetensors, or .pth with --allow-pickle)."
    )
    is_cached = file.exists()
    if not is_cached and not download:
        raise ModelError(explain_download(name))
    if not is_cached:
        log.info("Downloading %s to %s", file.name, file)
    try:
        if not is_cached and not urllib.request.getproxies():
            socket.create_connection((HOST, 443), timeout=TIMEOUT_S).close()
        with contextlib.redirect_stdout(io.StringIO()):  # torch prints about a download to stdout
            return dict(
                bundle._get_state_dict({"model_dir": str(file.parent), "progress": False, "weights_only": True})
            )
    except Exception as error:  # torch passes on all errors of its readers, from URLError to UnpicklingError
        if file.exists():
            raise ModelError(f"{file} cannot be read: {brief(error)} Delete it to download it again.") from error
        raise ModelError(
            f"{name} cannot be downloaded from {HOST} (no network?): {brief(error)} {alternative}"
        ) from error


def build_encoder(bundle: Any, source: str, tensors: dict[str, Tensor]) -> BundleEncoder:
    """Build the encoder of a bundle with weights, which must match its parameters exactly."""
    from torchaudio.models import wav2vec2_model, wavlm_model

    settings = {key: value for key, value in bundle._params.items() if key != "aux_num_out"}
    model = (wavlm_model if bundle._model_type == "WavLM" else wav2vec2_model)(**settings, aux_num_out=None)
    tensors = {key: tensor for key, tensor in tensors.items() if not key.startswith("aux.")}
    try:
        report = model.load_state_dict(tensors, strict=False)  # it also accepts the old names of weight norm
    except RuntimeError as error:
        raise ModelError(f"The weights of {source} do not fit the bundle: {brief(error)}") from error
    problems = {"missing": report.missing_keys, "unexpected": report.unexpected_keys}
    texts = [f"{kind}: {', '.join(keys[:5])} ({len(keys)} in total)" for kind, keys in problems.items() if keys]
    if texts:
        raise ModelError(f"The weights of {source} do not fit the bundle. {'; '.join(texts)}.")
    return BundleEncoder(model, bundle._normalize_waveform, int(bundle.sample_rate), settings)
