"""Classifiers of transformers (AutoModelForAudioClassification), by hub id or local folder.

The encoder is run as for `embedx extract`, with masks, so the scores of a clip do not depend on its batch; then the
checkpoint's own layers give the scores. They equal those of the library's pipeline `audio-classification`, which runs
one clip at a time.
"""

from collections.abc import Iterable, Sequence
from typing import Any, Self

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from embedx.errors import ModelError, UsageError
from embedx.extractors.base import Extractor, hash_weights, padded_samples
from embedx.extractors.checkpoints import Checkpoint, load_checkpoint
from embedx.extractors.classifier import LABEL, Classifier
from embedx.extractors.devices import send
from embedx.extractors.fast.encoder import accelerate
from embedx.extractors.front_ends import WaveformSettings
from embedx.extractors.huggingface import EPSILON, WAVEFORM_TYPES, Transformer
from embedx.extractors.masking import WaveInput, receptive_field
from embedx.extractors.spectrogram import FRAME, AudioSpectrogramTransformer, Prepared, Wav2Vec2Bert, WhisperEncoder
from embedx.extractors.weights import brief

SQUEEZED_TYPES = ("sew", "sew-d")  # no extractor: run one clip at a time
TYPES = (*WAVEFORM_TYPES, "wav2vec2-bert", "audio-spectrogram-transformer", "whisper", *SQUEEZED_TYPES)
MAX_LABEL = 1000  # characters of the name of a class; longer ones are no names


class HubClassifier:
    """What all classifiers of transformers share: labels, and logits to probabilities as in the pipeline."""

    encoder: Extractor
    encoder_weights: str | None = None
    max_window_s: float | None = None
    backend = "reference"

    def __init__(self, checkpoint: Checkpoint) -> None:
        config = checkpoint.model.config
        self.place = checkpoint.place
        self.model = checkpoint.model
        self.outputs = {LABEL: read_labels(checkpoint.place, config)}
        if config.problem_type == "regression":
            raise ModelError(
                f"{checkpoint.place} predicts numbers (problem_type regression) and has no classes. Embed with "
                "`embedx extract` instead."
            )
        self.multi_label = frozenset({LABEL} if config.problem_type == "multi_label_classification" else ())
        self.weights = hash_weights(self.model.state_dict(), checkpoint.settings)

    def follow(self, encoder: Extractor) -> None:
        """Take an encoder, with its limits."""
        self.encoder = encoder
        self.sample_rate = encoder.sample_rate
        self.min_samples, self.max_samples = encoder.min_samples, encoder.max_samples
        self.backend = str(getattr(encoder, "backend", "reference"))
        self.reads_lengths = bool(getattr(encoder, "reads_lengths", False))

    @property
    def prepare(self) -> Any:
        """What the encoder computes of clips on the CPU, or None; see `Classifier`."""
        return getattr(getattr(self, "encoder", None), "prepare", None)

    def prepared_scores(self, prepared: Sequence[Any]) -> dict[str, Tensor]:
        """Return the probabilities [B, C] of clips of `prepare`; see `Classifier.scores`."""
        return self.to_scores(self.prepared_logits(prepared))

    def prepared_logits(self, prepared: Sequence[Any]) -> Tensor:
        """Return the logits [B, C] of clips of `prepare`."""
        raise NotImplementedError

    def scores(self, waves: Tensor, lengths: Tensor) -> dict[str, Tensor]:
        """Return the probabilities [B, C]; see `Classifier.scores`."""
        return self.to_scores(self.logits(waves, lengths))

    def to_scores(self, logits: Tensor) -> dict[str, Tensor]:
        """Return probabilities [B, C] of logits [B, C]."""
        logits = logits.float()
        return {LABEL: logits.sigmoid() if self.multi_label else logits.softmax(dim=1)}

    def logits(self, waves: Tensor, lengths: Tensor) -> Tensor:
        """Return the logits [B, C] of waves [B, S]."""
        raise NotImplementedError

    def padded_samples(self, length: int) -> int:
        """Return the number of samples that the encoder computes for a clip."""
        return padded_samples(self.encoder, length)

    def to(self, device: str) -> Self:
        """Move the model to a device and return self."""
        self.model.to(device)
        self.encoder.to(device)
        return self


class PooledClassifier(HubClassifier):
    """A projection and a linear layer on the mean of the last hidden state, or of the learned sum of all of them.

    The projection is linear, so it may follow the mean. The sum takes the output of the last block before the final
    layer norm, which some models have after it.
    """

    def __init__(self, checkpoint: Checkpoint, encoder: Extractor, backend: str) -> None:
        super().__init__(checkpoint)
        config = self.model.config
        weighted = bool(config.use_weighted_layer_sum)
        self.layers = encoder.layers if weighted else encoder.layers[-1:]
        self.shares = self.model.layer_weights.softmax(dim=0).tolist() if weighted else [1.0]
        has_final_norm = config.model_type == "wav2vec2-conformer" or getattr(config, "do_stable_layer_norm", False)
        if weighted and has_final_norm and isinstance(encoder, Transformer):
            encoder.is_normalised = False
        self.encoder_weights = encoder.weights if has_stored_state(encoder) else None
        if backend != "reference" and getattr(encoder, "is_normalised", True):
            encoder = accelerate(encoder)
        self.follow(encoder)

    def logits(self, waves: Tensor, lengths: Tensor) -> Tensor:
        """Return the logits [B, C] of waves [B, S]."""
        return self.pooled_logits(self.encoder.frames(waves, lengths, self.layers))

    def prepared_logits(self, prepared: Sequence[Any]) -> Tensor:
        """Return the logits [B, C] of clips of `prepare`."""
        encoder: Any = self.encoder
        return self.pooled_logits(encoder.encode(prepared, self.layers))

    def pooled_logits(self, states: Iterable[tuple[int, Tensor, Tensor]]) -> Tensor:
        """Return the logits [B, C] of what the encoder yields."""
        return self.head([self.pool(frames, counts) for _, frames, counts in states])

    def pool(self, frames: Tensor, counts: Tensor) -> Tensor:
        """Return the mean [B, D] of the valid frames."""
        valid = torch.arange(frames.shape[1], device=frames.device) < counts[:, None]
        return frames.float().masked_fill(~valid[..., None], 0.0).sum(dim=1) / counts[:, None]

    def head(self, means: Sequence[Tensor]) -> Tensor:
        """Return the logits [N, C] of the means [N, D] of each layer."""
        mixed = sum(share * mean for share, mean in zip(self.shares, means, strict=True))
        logits: Tensor = self.model.classifier(self.model.projector(mixed))
        return logits

    @torch.inference_mode()
    def vector_scores(self, means: Sequence[NDArray[np.float32]]) -> dict[str, NDArray[np.float32]]:
        """Return the probabilities [N, C] of pooled vectors; see `VectorClassifier`."""
        scores = self.to_scores(self.head([torch.from_numpy(np.ascontiguousarray(mean)) for mean in means]))
        return {name: values.numpy() for name, values in scores.items()}


class WhisperClassifier(PooledClassifier):
    """The same on Whisper's encoder; the mean is over all 30 s, with the silence after the clip, as it was trained."""

    def pool(self, frames: Tensor, counts: Tensor) -> Tensor:
        """Return the mean [B, D] of all frames."""
        return frames.float().mean(dim=1)


class AstClassifier(HubClassifier):
    """AST: a linear layer on the mean of the class token and the distillation token."""

    def __init__(self, checkpoint: Checkpoint, encoder: AudioSpectrogramTransformer) -> None:
        super().__init__(checkpoint)
        self.spectrogram = encoder
        self.follow(encoder)
        self.min_samples = FRAME  # the class tokens need no whole patch; the library fills up the spectrogram

    def logits(self, waves: Tensor, lengths: Tensor) -> Tensor:
        """Return the logits [B, C] of waves [B, S]."""
        clips = [wave[:n] for wave, n in zip(waves.float().cpu().numpy(), lengths.tolist(), strict=True)]
        return self.prepared_logits(self.spectrogram.prepare(clips))

    def prepared_logits(self, prepared: Sequence[Prepared]) -> Tensor:
        """Return the logits [B, C] of clips of `prepare`."""
        inputs = np.concatenate([features["input_values"] for _, features in prepared])
        logits: Tensor = self.model(self.spectrogram.send(inputs)).logits
        return logits


class SingleClipClassifier(HubClassifier):
    """SEW and SEW-D, whose encoders mix a clip with its padding: every clip is run alone."""

    reads_lengths = True

    def __init__(self, checkpoint: Checkpoint) -> None:
        super().__init__(checkpoint)
        config = self.model.config
        settings = WaveformSettings.parse(checkpoint.place, checkpoint.front_end)
        self.input = WaveInput(settings.normalise, False, EPSILON)
        self.sample_rate = settings.sample_rate
        strides = tuple(zip(config.conv_kernel, config.conv_stride, strict=True))
        self.min_samples = receptive_field((*strides, (config.squeeze_factor, config.squeeze_factor)))
        self.max_samples: int | None = None

    def logits(self, waves: Tensor, lengths: Tensor) -> Tensor:
        """Return the logits [B, C] of waves [B, S]."""
        clips = zip(waves, lengths.tolist(), send(lengths.cpu(), waves.device), strict=True)
        return torch.cat([self.model(self.input.prepare(wave[None, :n], on[None])).logits for wave, n, on in clips])

    def padded_samples(self, length: int) -> int:
        """Return the number of samples that are computed for a clip."""
        return length

    def to(self, device: str) -> Self:
        """Move the model to a device and return self."""
        self.model.to(device)
        return self


def has_stored_state(encoder: Extractor) -> bool:
    """Tell whether the vectors that `embedx extract` stores are means of the states that a classifier takes.

    Those of Whisper are means over the frames of the clip alone.
    """
    return not isinstance(encoder, WhisperEncoder) and getattr(encoder, "is_normalised", True)


def read_labels(place: str, config: Any) -> tuple[str, ...]:
    """Return the names of the classes, in the order of the logits.

    Raises:
        ModelError: a name is missing or is not a text.
    """
    names = dict(config.id2label)
    labels = tuple(names.get(number) for number in range(config.num_labels))
    if not labels or not all(isinstance(name, str) and 0 < len(name) <= MAX_LABEL for name in labels):
        raise ModelError(f"config.json of {place} has no name (id2label) for each of its {len(labels)} classes.")
    return tuple(map(str, labels))


def load(source: str, *, allow_pickle: bool = False, download: bool = True, backend: str = "auto") -> Classifier:
    """Load a classifier by hub id (`name` or `name@revision`) or from a local folder, on the CPU.

    Args:
        source: the hub id or folder.
        allow_pickle: read weights from a pickle if there is no safetensors file.
        download: whether the model hub may be asked.
        backend: "auto", "fast" or "reference"; see `embedx.extractors.load`.

    Raises:
        ModelError: the checkpoint cannot be loaded, is of another type, or has no trained classifier.
        UsageError: the fast backend does not support the model.
    """
    checkpoint = load_checkpoint(source, TYPES, allow_pickle, download, auto_class="AutoModelForAudioClassification")
    try:
        classifier = build(checkpoint, backend)
    except (TypeError, ValueError, KeyError, AttributeError, ArithmeticError) as error:  # a setting of a wrong type
        raise ModelError(f"The settings in {checkpoint.place} cannot be used: {brief(error)}") from error
    if backend == "fast" and classifier.backend != "fast":
        raise UsageError(f"The fast backend does not support the classifier {source}. Use auto or reference.")
    return classifier


def build(checkpoint: Checkpoint, backend: str) -> HubClassifier:
    """Return the classifier of a loaded checkpoint."""
    kind, model = checkpoint.settings["model_type"], checkpoint.model
    if kind in SQUEEZED_TYPES:
        return SingleClipClassifier(checkpoint)
    base = checkpoint.with_model(model if kind == "whisper" else model.base_model)
    if kind == "audio-spectrogram-transformer":
        return AstClassifier(checkpoint, AudioSpectrogramTransformer(base))
    if kind == "whisper":
        return WhisperClassifier(checkpoint, WhisperEncoder(base), backend)
    encoder = Wav2Vec2Bert(base) if kind == "wav2vec2-bert" else Transformer(base)
    return PooledClassifier(checkpoint, encoder, backend)
