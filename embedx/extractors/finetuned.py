"""finetuned: models that `embedx finetune` has written: the encoder, the dense layers of the head, the classifier.

`models/NAME` is the encoder, `models/NAME?layer=shared` the vector that all outputs share, and `models/NAME?layer=head`
the vectors before the last linear layers; the last two are one frame for each clip.
"""

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Self

import safetensors.torch
import torch
from torch import Tensor

from embedx.errors import ModelError
from embedx.extractors import spectrogram
from embedx.extractors.base import Extractor, hash_weights, padded_samples
from embedx.extractors.checkpoints import load_checkpoint
from embedx.extractors.huggingface import WAVEFORM_TYPES, Transformer
from embedx.extractors.names import FINETUNED_FILE, split_option
from embedx.extractors.native_frames import NATIVE
from embedx.extractors.pooled_heads import HeadSettings, PooledHead, States
from embedx.extractors.scratch import SCRATCH, scratch_structure
from embedx.extractors.weights import brief

TYPES = (*WAVEFORM_TYPES, *spectrogram.FAMILIES)
PARTS = ("", "?layer=shared", "?layer=head")


class HeadExtractor:
    """A dense layer of the head as an extractor: one frame [B, 1, D] for each clip."""

    layers: tuple[int, ...] = (0,)

    def __init__(self, encoder: Extractor, head: PooledHead, part: str) -> None:
        self.encoder, self.head, self.part = encoder, head, part
        self.sample_rate = encoder.sample_rate
        self.min_samples, self.max_samples = encoder.min_samples, encoder.max_samples
        self.frame_rate = 1.0  # not used: there is one frame
        self.dim = head.settings.shared_dim if part == "shared" else head.settings.head_dim
        self.weights = hash_weights(head.state_dict(), {"encoder": encoder.weights, "part": part})
        self.reads_lengths = bool(getattr(encoder, "reads_lengths", False))

    @property
    def prepare(self) -> Any:
        """What the encoder computes of clips on the CPU, or None; see `Extractor`."""
        return getattr(self.encoder, "prepare", None)

    def encode(self, prepared: Sequence[Any], layers: tuple[int, ...]) -> Iterator[tuple[int, Tensor, Tensor]]:
        """Yield the vector of clips of `prepare`; see `Extractor.frames`."""
        yield from self._frame(run_prepared(self.encoder, self.head, prepared))

    def frames(self, waves: Tensor, lengths: Tensor, layers: tuple[int, ...]) -> Iterator[tuple[int, Tensor, Tensor]]:
        """Yield the vector as one frame; see `Extractor.frames`."""
        yield from self._frame(run(self.encoder, self.head, waves, lengths))

    def _frame(self, states: States) -> Iterator[tuple[int, Tensor, Tensor]]:
        """Yield the vector of these frames as one frame."""
        vector = self.head.shared_vector(states) if self.part == "shared" else self.head.head_vector(states)
        yield 0, vector.float()[:, None], torch.ones(len(vector), dtype=torch.int64, device=vector.device)

    def padded_samples(self, length: int) -> int:
        """Return the number of samples that are computed for a clip."""
        return padded_samples(self.encoder, length)

    def to(self, device: str) -> Self:
        """Move the model to a device and return self."""
        self.encoder.to(device)
        self.head.to(device)
        return self


class FinetunedClassifier:
    """The classifier of a fine-tuned model; see `embedx.extractors.classifier.Classifier`."""

    backend = "reference"

    def __init__(self, encoder: Extractor, head: PooledHead) -> None:
        self.encoder, self.head = encoder, head
        self.outputs = dict(head.settings.outputs)
        self.multi_label = frozenset(head.settings.multi_label)
        self.sample_rate = encoder.sample_rate
        self.min_samples, self.max_samples = encoder.min_samples, encoder.max_samples
        self.weights = hash_weights(head.state_dict(), {"encoder": encoder.weights})
        self.reads_lengths = bool(getattr(encoder, "reads_lengths", False))

    @property
    def prepare(self) -> Any:
        """What the encoder computes of clips on the CPU, or None; see `Classifier`."""
        return getattr(self.encoder, "prepare", None)

    def prepared_scores(self, prepared: Sequence[Any]) -> dict[str, Tensor]:
        """Return the probabilities [B, C] of clips of `prepare`; see `Classifier.scores`."""
        return self.head.probabilities(self.head(run_prepared(self.encoder, self.head, prepared)))

    def scores(self, waves: Tensor, lengths: Tensor) -> dict[str, Tensor]:
        """Return the probabilities [B, C] of each output; see `Classifier.scores`."""
        return self.head.probabilities(self.head(run(self.encoder, self.head, waves, lengths)))

    def padded_samples(self, length: int) -> int:
        """Return the number of samples that are computed for a clip."""
        return padded_samples(self.encoder, length)

    def to(self, device: str) -> Self:
        """Move the model to a device and return self."""
        self.encoder.to(device)
        self.head.to(device)
        return self


def run(encoder: Extractor, head: PooledHead, waves: Tensor, lengths: Tensor) -> States:
    """Return the frames that a head takes, with their lengths."""
    return [(frames, counts) for _, frames, counts in encoder.frames(waves, lengths, head.settings.layers)]


def run_prepared(encoder: Any, head: PooledHead, prepared: Sequence[Any]) -> States:
    """Return the same for clips of the method `prepare` of the encoder."""
    return [(frames, counts) for _, frames, counts in encoder.encode(prepared, head.settings.layers)]


def load(source: str, *, allow_pickle: bool = False, download: bool = True) -> Extractor:
    """Load the encoder, or a dense layer with `?layer=shared` or `?layer=head`, from a folder of `embedx finetune`.

    Raises:
        ModelError: there is no such folder, it is damaged, or the option is unknown.
    """
    folder, option = split_option(source)
    if option not in PARTS:
        raise ModelError(
            f"{option!r} is no part of a fine-tuned model. Give the folder alone, or with {PARTS[1]} or {PARTS[2]}."
        )
    description = read_description(folder)
    if not option:
        return load_encoder(folder, description, native=False)
    head = read_head(folder, description)
    encoder = load_encoder(folder, description, native=head.settings.pooling == "native")
    return HeadExtractor(encoder, head, option.rpartition("=")[2])


def load_classifier(source: str) -> FinetunedClassifier:
    """Load the classifier of a folder of `embedx finetune`.

    Raises:
        ModelError: there is no such folder, or it is damaged.
    """
    description = read_description(source)
    head = read_head(source, description)
    return FinetunedClassifier(load_encoder(source, description, native=head.settings.pooling == "native"), head)


def read_description(folder: str) -> dict[str, Any]:
    """Return the content of finetune.json; raise ModelError if it cannot be read."""
    file = Path(folder) / FINETUNED_FILE
    try:
        description = json.loads(file.read_text(encoding="utf-8"))
        if description["format"] != 1 or not isinstance(description["head"], dict):
            raise ValueError("it has another format")
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ModelError(f"{file} cannot be read: {brief(error)} Fine-tune again, or update embedx.") from error
    return dict(description)


def load_encoder(folder: str, description: dict[str, Any], native: bool) -> Extractor:
    """Return the encoder of a folder; `native` as in `embedx.extractors.native_frames`."""
    kind = str(description.get("kind"))
    if kind.startswith(SCRATCH):
        return load_scratch(folder, kind)
    in_classifier = description.get("plain") is True and kind == "whisper"
    auto_class = "AutoModelForAudioClassification" if in_classifier else "AutoModel"
    checkpoint = load_checkpoint(folder, TYPES, allow_pickle=False, download=False, auto_class=auto_class)
    kind = str(checkpoint.settings["model_type"])
    try:
        families = {**spectrogram.FAMILIES, **(NATIVE if native else {})}
        return families.get(kind, Transformer)(checkpoint)
    except (TypeError, ValueError, KeyError, AttributeError, ArithmeticError) as error:  # a setting of a wrong type
        raise ModelError(f"The settings in {folder} cannot be used: {brief(error)}") from error


def load_scratch(folder: str, kind: str) -> Extractor:
    """Return the encoder of a model from scratch.

    Raises:
        ModelError: the weights do not fit.
    """
    try:
        encoder: Any = scratch_structure(kind.removeprefix(SCRATCH))
        tensors = safetensors.torch.load_file(Path(folder) / "model.safetensors")
        encoder.load_state_dict(tensors, strict=True)
    except Exception as error:  # the reader raises many kinds of errors for damaged files
        raise ModelError(f"The weights in {folder} cannot be loaded: {brief(error)}") from error
    encoder.weights = hash_weights(tensors, {"kind": kind})
    extractor: Extractor = encoder.eval().requires_grad_(False)
    return extractor


def read_head(folder: str, description: dict[str, Any]) -> PooledHead:
    """Return the head of a folder.

    Raises:
        ModelError: it is damaged.
    """
    head = PooledHead(HeadSettings.from_dict(description["head"], folder))
    try:
        head.load_state_dict(safetensors.torch.load_file(Path(folder) / "head.safetensors"), strict=True)
    except Exception as error:  # the reader raises many kinds of errors for damaged files
        raise ModelError(f"head.safetensors in {folder} cannot be read: {brief(error)}") from error
    return head.eval().requires_grad_(False)
