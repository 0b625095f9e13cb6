"""Trainable encoders: the checkpoints of `embedx extract` as modules whose frames have gradients.

A batch of clips of unequal lengths gives the gradients of the same clips one by one: each norm, convolution and
attention sees the valid samples of its clip only, as in `embedx.extractors`.
"""

import os
from types import SimpleNamespace
from typing import Any, Protocol

from torch import Tensor, nn

from embedx.errors import ModelError, UsageError
from embedx.extractors import spectrogram
from embedx.extractors.checkpoints import Checkpoint, load_checkpoint
from embedx.extractors.huggingface import WAVEFORM_TYPES, Transformer
from embedx.extractors.names import resolve
from embedx.extractors.native_frames import NATIVE
from embedx.extractors.shared_models import locate
from embedx.finetune.convolutions import pack_convolutions

SPECTROGRAM_TYPES = ("wav2vec2-bert", "audio-spectrogram-transformer", "whisper")
TRAINABLE_TYPES = (*WAVEFORM_TYPES, *SPECTROGRAM_TYPES)
FRONT_ENDS = ("feature_extractor", "feature_projection", "embeddings", "conv1", "conv2", "embed_positions")
# In training mode the library would drop whole layers or mask random frames by settings of the pretraining. They would
# make the gradients depend on the batch, and `--augment specaugment` masks frames where the user asks for it.
PRETRAINING = {"layerdrop": 0.0, "encoder_layerdrop": 0.0, "apply_spec_augment": False}


class TrainableEncoder(Protocol):
    """What fine-tuning needs of an encoder; it is also an `nn.Module`.

    Row i of the frames, and its gradients, depend on `waves[i, :lengths[i]]` only.

    Attributes:
        sample_rate: sample rate of the waves in Hz.
        layers: the layers that can be requested, ascending; the last is the default.
        dim: D, the same for every layer.
        min_samples: the shortest clip that gives a frame.
        max_samples: the longest clip that the model accepts, None for any length.
    """

    sample_rate: int
    layers: tuple[int, ...]
    dim: int
    min_samples: int
    max_samples: int | None

    def frames(self, waves: Tensor, lengths: Tensor, layers: tuple[int, ...]) -> list[tuple[int, Tensor, Tensor]]:
        """Return (layer, frames [B, T, D], frame lengths [B]) for each requested layer, ascending.

        Args:
            waves: [B, S], from -1 to 1.
            lengths: samples of each wave [B], at least `min_samples`.
            layers: the requested layers, ascending.
        """
        ...

    def depths(self) -> list[list[nn.Parameter]]:
        """Return the parameters by depth: those before the first block, then those of each block.

        What follows the last block, such as a final norm, belongs to the last block.
        """
        ...


class CheckpointEncoder(nn.Module):
    """A checkpoint of transformers as a `TrainableEncoder`.

    Args:
        checkpoint: the checkpoint.
        native: whether the frames are those that transformers' class for classification pools; see `native_frames`.
    """

    def __init__(self, checkpoint: Checkpoint, native: bool = False) -> None:
        super().__init__()
        for name, value in PRETRAINING.items():
            setattr(checkpoint.model.config, name, value)  # also where the library takes a missing one for set
        self.checkpoint = checkpoint
        self.kind = str(checkpoint.settings["model_type"])
        self.extractor: Any = self._make_extractor(native)
        self.model: nn.Module = self.extractor.model
        self.sample_rate = int(self.extractor.sample_rate)
        self.layers: tuple[int, ...] = self.extractor.layers
        self.dim = int(self.extractor.dim)
        self.min_samples = int(self.extractor.min_samples)
        self.max_samples: int | None = self.extractor.max_samples
        self.requires_grad_(True)

    def _make_extractor(self, native: bool) -> Any:
        """Return the extractor of the checkpoint; its masks belong to the encoder.

        Gradient checkpointing runs layers again in the backward pass, which has a thread of its own on a GPU. So the
        masks are not kept for each thread.
        """
        try:
            if self.kind in SPECTROGRAM_TYPES:
                families = {**spectrogram.FAMILIES, **(NATIVE if native else {})}
                return families[self.kind](self.checkpoint)
            batch = SimpleNamespace()
            extractor = Transformer(self.checkpoint, batch)
            pack_convolutions(extractor.model, batch)
            return extractor
        except (TypeError, ValueError, KeyError, AttributeError, ArithmeticError) as error:
            raise ModelError(f"The settings in {self.checkpoint.place} cannot be used: {error}") from error

    def requires_grad_(self, requires_grad: bool = True) -> "CheckpointEncoder":
        """Let all parameters be trained, or none, but never those that the library keeps fixed.

        These are the sinusoidal positions of Whisper and the vector that masked frames have in pretraining.
        """
        for name, parameter in self.model.named_parameters():
            is_fixed = name.endswith("masked_spec_embed") or (self.kind == "whisper" and "embed_positions" in name)
            parameter.requires_grad_(requires_grad and not is_fixed)
        return self

    def frames(self, waves: Tensor, lengths: Tensor, layers: tuple[int, ...]) -> list[tuple[int, Tensor, Tensor]]:
        """Return the frames of the requested layers; see `TrainableEncoder.frames`."""
        return list(self.extractor.frames(waves, lengths, layers))

    def forward(self, waves: Tensor, lengths: Tensor) -> Tensor:
        """Return the frames of the last layer [B, T, D]."""
        return self.frames(waves, lengths, self.layers[-1:])[0][1]

    @property
    def blocks(self) -> nn.ModuleList:
        """The blocks of the transformer."""
        count = len(self.layers) - 1
        lists = [module for module in self.model.modules() if isinstance(module, nn.ModuleList)]
        return next(module for module in reversed(lists) if len(module) == count)

    def depths(self) -> list[list[nn.Parameter]]:
        """Return the parameters by depth; see `TrainableEncoder.depths`."""
        blocks = [list(block.parameters()) for block in self.blocks]
        in_blocks = {id(parameter) for block in blocks for parameter in block}
        before: list[nn.Parameter] = []
        after: list[nn.Parameter] = []
        for name, parameter in self.model.named_parameters():
            if id(parameter) not in in_blocks:
                is_front = any(part in FRONT_ENDS or part.startswith("pos_conv") for part in name.split("."))
                (before if is_front or not self.norm_is_last else after).append(parameter)
        return [before, *blocks[:-1], [*blocks[-1], *after]]

    @property
    def norm_is_last(self) -> bool:
        """Whether the norm outside of the blocks follows them; in base models on the waveform it precedes them."""
        if self.kind in SPECTROGRAM_TYPES:
            return True
        return bool(getattr(self.model.config, "do_stable_layer_norm", False)) or "conformer" in self.kind


def load_encoder(
    model: str, *, context_s: float | None = None, native: bool = False, allow_pickle: bool = False
) -> CheckpointEncoder:
    """Load a checkpoint for training, on the CPU.

    Args:
        model: a hub id (`name` or `name@revision`) or a local folder, also one of `embedx finetune`.
        context_s: the longest clip in seconds that the model will get; None if it is not known. Whisper computes a
            fixed context of 30 s for every clip. A shorter context, in whole seconds, makes it faster for short clips.
        native: see `CheckpointEncoder`.
        allow_pickle: whether weights may be read from a pickle.

    Returns:
        The encoder, in evaluation mode, with all parameters trainable.

    Raises:
        ModelError: the checkpoint is not found, is of another type, or its weights do not fit.
        UsageError: the model is not a checkpoint of transformers.
    """
    family, source = locate(*resolve(model))
    is_trained_before = family == "finetuned" and os.path.isfile(os.path.join(source, "config.json"))
    if family != "huggingface" and not is_trained_before:
        raise UsageError(
            f"{model} cannot be fine-tuned. Give a checkpoint of transformers (a hub id or a folder) of type "
            f"{', '.join(TRAINABLE_TYPES)}, or a model from scratch such as scratch:cnn."
        )
    checkpoint = load_checkpoint(source, TRAINABLE_TYPES, allow_pickle)
    if checkpoint.settings["model_type"] == "whisper" and context_s is not None:
        shorten_whisper(checkpoint, context_s)
    return CheckpointEncoder(checkpoint, native)


def shorten_whisper(checkpoint: Checkpoint, context_s: float) -> None:
    """Shorten the context of Whisper's encoder to whole seconds; the positions that are left keep their vectors."""
    front_end, encoder = checkpoint.front_end or {}, checkpoint.model.get_encoder()
    rate, hop = int(front_end.get("sampling_rate", 16_000)), int(front_end.get("hop_length", 160))
    seconds = int(-(-context_s // 1))
    positions = seconds * rate // hop // 2  # the second convolution has stride 2
    if positions >= encoder.embed_positions.num_embeddings:
        return
    weight = encoder.embed_positions.weight.detach()[:positions].clone()
    encoder.embed_positions = nn.Embedding(len(weight), weight.shape[1], _weight=weight)
    encoder.max_source_positions = positions
    for config in (encoder.config, checkpoint.model.config):
        config.max_source_positions = positions
    checkpoint.settings["max_source_positions"] = positions
    changed = {"chunk_length": seconds, "n_samples": seconds * rate, "nb_max_frames": seconds * rate // hop}
    front_end.update(changed)
