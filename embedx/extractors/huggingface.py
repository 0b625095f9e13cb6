"""huggingface: speech transformers on the waveform, by hub id or local folder, with the forward pass of transformers.

Wav2Vec2 (with XLS-R and MMS), Wav2Vec2-Conformer, HuBERT, DistilHuBERT, WavLM, data2vec-audio, UniSpeech and
UniSpeech-SAT; the other model types are in `families`. The library's modules run with an attention mask. Two parts are
changed, because padding would affect their results: the GroupNorm after the first convolution of base models, and
convolutions that run without a mask.
"""

import math
import warnings
from collections.abc import Iterator
from typing import Any, Self

import torch
from torch import Tensor, nn

from embedx.errors import ModelError
from embedx.extractors.base import Extractor, hash_weights
from embedx.extractors.checkpoints import Checkpoint, load_checkpoint
from embedx.extractors.devices import send
from embedx.extractors.families import FAMILIES, PARTS
from embedx.extractors.front_ends import WaveformSettings
from embedx.extractors.masking import BATCH, WaveInput, count_frames, mask_group_norms, receptive_field
from embedx.extractors.weights import brief

EPSILON = 1e-7  # added to the variance by transformers' Wav2Vec2FeatureExtractor
MISMATCHED = "Support for mismatched key_padding_mask"  # a warning of torch about a call in the library's WavLM
WAVEFORM_TYPES = (  # DistilHuBERT has type "hubert" with two layers; XLS-R and MMS have type "wav2vec2"
    *("wav2vec2", "wav2vec2-conformer", "hubert", "wavlm"),
    *("data2vec-audio", "unispeech", "unispeech-sat"),
)


class Transformer:
    """Hidden states [B, T, D] of a speech transformer, 50 frames per second.

    Layer 0 is the input of the transformer, layer n the output of its n-th block. The last layer is the model's
    `last_hidden_state`, after the final layer norm if the model has one and `is_normalised` is true.
    """

    max_samples: int | None = None
    is_normalised = True
    reads_lengths = True

    def __init__(self, checkpoint: Checkpoint, batch: Any = BATCH) -> None:
        """Take a checkpoint; `batch` holds the masks of the current batch, by default one set for each thread."""
        self.batch = batch
        front_end = WaveformSettings.parse(checkpoint.place, checkpoint.front_end)
        self.model = checkpoint.model
        self.model.adapter = None  # in models for translation it would shorten the last hidden state
        config = self.model.config
        self.sample_rate = front_end.sample_rate
        self.layers = tuple(range(config.num_hidden_layers + 1))
        self.dim = int(config.hidden_size)
        self.strides = tuple(zip(config.conv_kernel, config.conv_stride, strict=True))
        self.frame_rate = self.sample_rate / math.prod(stride for _, stride in self.strides)
        self.min_samples = receptive_field(self.strides)
        self.weights = hash_weights(self.model.state_dict(), checkpoint.settings | {"normalise": front_end.normalise})
        self.input = WaveInput(front_end.normalise, mask_group_norms(self.model.feature_extractor, batch), EPSILON)
        mask_inputs(self.model, batch)

    def frames(self, waves: Tensor, lengths: Tensor, layers: tuple[int, ...]) -> Iterator[tuple[int, Tensor, Tensor]]:
        """Yield the hidden states of the requested layers; see `Extractor.frames`."""
        on_cpu = lengths.cpu()  # where reading them waits for no GPU
        waves, lengths = waves[:, : int(on_cpu.max())], send(on_cpu, waves.device)
        valid = torch.arange(waves.shape[1], device=waves.device) < lengths[:, None]  # [B, S]
        mask = valid.long() if int(on_cpu.min()) < waves.shape[1] else None  # attention without a mask is faster
        waves = self.input.prepare(waves, lengths)
        counts, longest = count_frames(lengths, self.strides), int(count_frames(on_cpu, self.strides).max())
        self.batch.valid = (torch.arange(longest, device=waves.device) < counts[:, None])[:, None]
        self.batch.lengths = count_frames(on_cpu, self.strides[:1])
        hidden = not self.is_normalised or any(layer != self.layers[-1] for layer in layers)
        warnings.filterwarnings("ignore", MISMATCHED)  # not restored: that would affect other threads in their forward
        output = self.model(waves, attention_mask=mask, output_hidden_states=hidden)
        for layer in layers:
            last = self.is_normalised and layer == self.layers[-1]
            yield layer, output.last_hidden_state if last else output.hidden_states[layer], counts

    def to(self, device: str) -> Self:
        """Move the model to a device and return self."""
        self.model.to(device)
        return self


def mask_inputs(model: nn.Module, batch: Any) -> None:
    """Set the padding to zero before convolutions over time that the library runs without a mask.

    These are the depthwise convolutions of conformers and the positional convolutions (data2vec has several, and some
    HuBERT models have a batch norm before them). A single clip has zeros after its end there; a batch needs them too.
    `batch.valid` [B, 1, T] is the mask of the current batch.
    """
    for name, module in model.named_modules():
        if name.endswith("depthwise_conv") or ("pos_conv_embed." in name and name.endswith(".conv")):
            module.register_forward_pre_hook(lambda _, inputs: (inputs[0] * batch.valid, *inputs[1:]))


def load(source: str, *, allow_pickle: bool = False, download: bool = True) -> Extractor:
    """Load a checkpoint by hub id (`name` or `name@revision`) or from a local folder.

    Raises:
        ModelError: see `load_checkpoint`.
    """
    checkpoint = load_checkpoint(source, (*WAVEFORM_TYPES, *FAMILIES), allow_pickle, download, parts=PARTS)
    kind = checkpoint.settings["model_type"]
    try:
        return FAMILIES.get(kind, Transformer)(checkpoint)
    except (TypeError, ValueError, KeyError, AttributeError, ArithmeticError) as error:  # a setting of a wrong type
        raise ModelError(f"The settings in {checkpoint.place} cannot be used: {brief(error)}") from error
