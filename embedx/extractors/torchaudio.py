"""torchaudio: the speech bundles of torchaudio.pipelines by name, `HUBERT_BASE` or `HUBERT_BASE@weights.safetensors`.

The modules are torchaudio's own, the way through them is ours, because upstream's leaks or stops: its GroupNorm and its
layer_norm over the waveform see the whole batch, and its WavLM refuses `lengths` (AssertionError in torchaudio 2.11).
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
from embedx.extractors.masking import BATCH, count_frames, mask_group_norms, normalise, receptive_field
from embedx.extractors.names import BUNDLES
from embedx.extractors.weight_files import torch_cache
from embedx.extractors.weights import brief, read_weights

log = logging.getLogger(__name__)

HOST = "download.pytorch.org"
PATIENCE = 10.0  # seconds until a host that does not answer counts as no network
EPSILON = 1e-5  # of torch's layer_norm, which the bundles run over the waveform


class BundleEncoder:
    """Hidden states [B, T, D] of a bundle's transformer, 50 frames a second.

    Layer 0 is the input of the first block (what `Transformer._preprocess` returns), layer n the output of the n-th
    block, `model.extract_features(wave)[0][n - 1]`. The last layer is what `model(wave)` gives without a head: equal to
    the last of extract_features for base models, and with the closing layer norm, which extract_features leaves out,
    for large ones. transformers' hidden states of the same checkpoint are numbered alike.
    """

    max_samples: int | None = None
    epsilon = EPSILON

    def __init__(self, model: Any, normalise: bool, sample_rate: int, settings: dict[str, Any]) -> None:
        convolutions = model.feature_extractor.conv_layers
        self.model = model.eval().requires_grad_(False)
        self.normalise = normalise
        self.sample_rate = sample_rate
        self.layers = tuple(range(len(model.encoder.transformer.layers) + 1))
        self.dim = int(model.encoder.transformer.layer_norm.normalized_shape[0])
        self.strides = tuple((int(one.kernel_size), int(one.stride)) for one in convolutions)
        self.frame_rate = sample_rate / math.prod(stride for _, stride in self.strides)
        self.min_samples = receptive_field(self.strides)
        self.weights = hash_weights(model.state_dict(), settings | {"normalise": normalise})
        mask_group_norms(model.feature_extractor)
        self.biased = hasattr(model.encoder.transformer.layers[0].attention, "rel_attn_embed")  # WavLM

    def frames(self, waves: Tensor, lengths: Tensor, layers: tuple[int, ...]) -> Iterator[tuple[int, Tensor, Tensor]]:
        """Yield the asked hidden states as they appear; see `Extractor.frames`."""
        encoder, transformer = self.model.encoder, self.model.encoder.transformer
        if self.normalise:
            valid = torch.arange(waves.shape[1], device=waves.device) < lengths[:, None]  # [B, S]
            waves = normalise(waves, lengths, valid, EPSILON)
        BATCH.lengths = count_frames(lengths, self.strides[:1])
        x, _ = self.model.feature_extractor(waves, None)  # [B, T, C]
        counts = count_frames(lengths, self.strides)
        behind = torch.arange(x.shape[1], device=x.device) >= counts[:, None]  # [B, T]
        x = encoder.feature_projection(x).masked_fill(behind[..., None], 0.0)  # the positional convolution looks ahead
        x = transformer._preprocess(x)
        if 0 in layers:
            yield 0, x, counts
        shut = torch.zeros(behind.shape, device=x.device).masked_fill(behind, -torch.inf)  # added to the scores
        mask = None if self.biased else shut[:, None, None].expand(-1, 1, x.shape[1], -1)  # [B, 1, T, T]
        bias = None
        for layer, block in enumerate(transformer.layers[: layers[-1]], start=1):
            x, bias = block(x, mask, position_bias=bias, key_padding_mask=shut)  # WavLM takes the last alone
            if layer in layers:
                closing = layer == self.layers[-1] and not transformer.layer_norm_first
                yield layer, transformer.layer_norm(x) if closing else x, counts

    def to(self, device: str) -> Self:
        """Move to a device and return self."""
        self.model.to(device)
        return self


def load(source: str, *, allow_pickle: bool = False) -> BundleEncoder:
    """Load a bundle by NAME, from torch's hub cache or the network, or by NAME@FILE with weights from a local file.

    A head for speech recognition (`aux`) is left out: its logits are no features.

    Raises:
        ModelError: there is no such bundle, no network, or the weights are missing or do not fit.
    """
    name, named, file = source.partition("@")
    bundle = find(name)
    return fit(bundle, source, read_weights(Path(file).expanduser(), allow_pickle) if named else fetch(name, bundle))


def find(name: str) -> Any:
    """Return a bundle of torchaudio.pipelines."""
    try:
        from torchaudio import pipelines
    except (ImportError, OSError) as error:
        raise ModelError(
            f"torchaudio does not load beside torch {torch.__version__}: {brief(error)} Install the torchaudio that "
            "was built for it, or take the model by its hub id, such as facebook/hubert-base-ls960."
        ) from error
    known = [
        one
        for one in dir(pipelines)
        if one.startswith(BUNDLES) and isinstance(getattr(pipelines, one), pipelines.Wav2Vec2Bundle)
    ]
    if name not in known:
        near = difflib.get_close_matches(name.upper(), known, n=4, cutoff=0.0)
        raise ModelError(f"torchaudio has no speech bundle {name!r}. Near names: {', '.join(near)}.")
    return getattr(pipelines, name)


def fetch(name: str, bundle: Any) -> dict[str, Tensor]:
    """Return the published weights of a bundle from torch's hub cache, and download them into it when needed.

    They are published as pickles only; torch reads nothing but tensors from them (`weights_only`).
    """
    file = torch_cache() / os.path.basename(bundle._path)
    instead = (
        f"Without a network, put {file.name} into {file.parent}, or give --model {name}@FILE with weights in a local "
        "file (.safetensors, or .pth with --allow-pickle)."
    )
    cached = file.exists()
    if not cached:
        log.info("Downloading %s to %s", file.name, file)
    try:
        if not cached and not urllib.request.getproxies():
            socket.create_connection((HOST, 443), timeout=PATIENCE).close()
        with contextlib.redirect_stdout(io.StringIO()):  # torch announces a download where results belong
            return dict(
                bundle._get_state_dict({"model_dir": str(file.parent), "progress": False, "weights_only": True})
            )
    except Exception as error:  # torch raises whatever its readers raise, from URLError to UnpicklingError
        if file.exists():
            raise ModelError(f"{file} cannot be read: {brief(error)} Delete it to have it fetched anew.") from error
        raise ModelError(f"{name} cannot be fetched from {HOST} (no network?): {brief(error)} {instead}") from error


def fit(bundle: Any, source: str, tensors: dict[str, Tensor]) -> BundleEncoder:
    """Build the encoder of a bundle and fill it; every weight must have its place, and every place its weight."""
    from torchaudio.models import wav2vec2_model, wavlm_model

    settings = {key: value for key, value in bundle._params.items() if key != "aux_num_out"}
    model = (wavlm_model if bundle._model_type == "WavLM" else wav2vec2_model)(**settings, aux_num_out=None)
    tensors = {key: tensor for key, tensor in tensors.items() if not key.startswith("aux.")}
    try:
        report = model.load_state_dict(tensors, strict=False)  # takes old names of weight norm for the new ones
    except RuntimeError as error:
        raise ModelError(f"The weights of {source} do not fit the bundle: {brief(error)}") from error
    wrong = {"missing": report.missing_keys, "unexpected": report.unexpected_keys}
    complaints = [f"{kind}: {', '.join(keys[:5])} ({len(keys)} in all)" for kind, keys in wrong.items() if keys]
    if complaints:
        raise ModelError(f"The weights of {source} do not fit the bundle. {'; '.join(complaints)}.")
    return BundleEncoder(model, bundle._normalize_waveform, int(bundle.sample_rate), settings)
