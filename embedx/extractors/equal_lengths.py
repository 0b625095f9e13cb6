"""EqualLengths: base class of encoders that pass over padding wrongly or not at all in the library.

The library's convolutions with padding, norms over time and position biases see the zeros after a short clip, and its
masks do not cover all of them. So the clips of a batch are grouped by length, and each group runs without padding. The
frames of a clip are then those of the library for this clip alone, whatever it is batched with. Windows of one length,
which most batches have, run in one call.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from embedx.extractors.checkpoints import Checkpoint
from embedx.extractors.front_ends import DEFAULTS, WaveformSettings
from embedx.extractors.spectrogram import Prepared, Spectrogram


class EqualLengths(Spectrogram):
    """An encoder of transformers that runs on clips of one length at a time."""

    def encode(self, prepared: Sequence[Prepared], layers: tuple[int, ...]) -> Iterator[tuple[int, Tensor, Tensor]]:
        """Yield the hidden states of the requested layers for clips of `prepare`; see `Extractor.frames`."""
        groups: dict[tuple[tuple[Any, ...], ...], list[int]] = {}
        for i, (_, arrays) in enumerate(prepared):
            groups.setdefault(tuple(shape_and_mask(name, array) for name, array in arrays.items()), []).append(i)
        clips: dict[int, list[Tensor]] = {layer: [torch.empty(0)] * len(prepared) for layer in layers}
        for rows in groups.values():
            names = prepared[rows[0]][1]
            inputs = {name: self.send(np.concatenate([prepared[i][1][name] for i in rows])) for name in names}
            for layer, states in self.states(inputs, layers):
                for i, frames in zip(rows, states, strict=True):
                    clips[layer][i] = frames[: self.count(prepared[i])]
        for layer, frames in clips.items():
            counts = self.send(np.array([len(clip) for clip in frames]))
            yield layer, pad_sequence(frames, batch_first=True), counts

    def states(self, inputs: Mapping[str, Tensor], layers: tuple[int, ...]) -> Iterator[tuple[int, Tensor]]:
        """Yield (layer, states [B, T, D]) of clips of one length.

        Args:
            inputs: what the front end returns for each clip, as a batch.
            layers: the requested layers, ascending.
        """
        hidden = any(layer != self.layers[-1] for layer in layers)
        output = self.model(**inputs, output_hidden_states=hidden)
        for layer in layers:
            yield layer, output.last_hidden_state if layer == self.layers[-1] else output.hidden_states[layer]

    def count(self, prepared: Prepared) -> int | None:
        """Return the number of frames with audio of a clip; None if all have."""
        return None

    def padded_samples(self, length: int) -> int:
        """Return the number of samples that are computed for a clip: there is no padding."""
        return max(length, self.min_samples)


class EqualWaves(EqualLengths):
    """An encoder of the waveform; a missing front end has the defaults of the library, with a warning."""

    front_end_class = "Wav2Vec2FeatureExtractor"
    defaults: Mapping[str, Any] = DEFAULTS  # of the front end

    def __init__(self, checkpoint: Checkpoint) -> None:
        found = WaveformSettings.parse(checkpoint.place, checkpoint.front_end, self.defaults)
        settings: dict[str, Any] = {"do_normalize": found.normalise, "sampling_rate": found.sample_rate}
        super().__init__(replace(checkpoint, front_end=settings))


def shape_and_mask(name: str, array: Any) -> tuple[Any, ...]:
    """Return what an array of the front end has in common with those of other clips of the same length."""
    return np.shape(array), np.asarray(array).tobytes() if "mask" in name else b""
