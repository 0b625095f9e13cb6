"""onnx: an audio encoder in an ONNX file, as `onnx:FILE?rate=32000&window=5&input=waveform&output=embedding`.

Each named output is a layer: [B, D] is one frame for a clip, [B, T, D] are T frames. A model with a window takes one
length only: shorter clips are padded with zeros, and frames after the end of the clip are left out. A model for any
length gets clips of one length together, without padding. A batch that changes the result is run clip by clip.
"""

import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Self

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from embedx.errors import ModelError
from embedx.extractors.classifier import LABEL
from embedx.extractors.names import split_onnx
from embedx.extractors.onnx_file import Array, OnnxFile, has_gpu
from embedx.extractors.onnx_options import Input, Options, check_output, pick_outputs, read_input, read_labels

Samples = NDArray[np.float32]
TOLERANCE = 1e-5  # of a number in a batch and alone, times the largest number if that is above 1
TRIAL_S = 1.0  # length of the noise with which a model for any length is tried
MAX_TRIAL_S = 60.0  # a model for any length must give frames for a clip of this length
ONE_FRAME = 1 / 3600  # frames per second of outputs without a time axis: one for the longest window


class OnnxEncoder:
    """Frames [B, T, D] of the outputs of an ONNX model; layer i is the i-th output."""

    def __init__(self, file: OnnxFile, source: Input, outputs: Sequence[str], axes: str | None) -> None:
        """Try a model with noise, which gives the sizes of its outputs and whether a batch changes them.

        Raises:
            ModelError: the model cannot be run, or an output is not frames.
        """
        self.file, self.input, self.outputs = file, source, tuple(outputs)
        self.axes = {name: axes or guess_axes(file, name) for name in outputs}
        self.has_gpu = has_gpu()
        self.layers: tuple[int, ...] = tuple(range(len(self.outputs)))
        self.sample_rate, self.max_samples = source.rate, source.samples
        self.batch = 1 if source.layout == "s" else source.batch  # None: of any size
        if source.samples is None:
            self.min_samples, self.frame_rate = self._measure_steps()
        noise = make_noise(2, source.samples or max(self.min_samples, round(TRIAL_S * source.rate)))
        first, second = (self._run_batch(self.outputs, noise[i : i + 1]) for i in range(2))
        self.dim = self._check_frames(first)
        if source.samples is not None:
            count = max(frames.shape[1] for frames in first)
            self.min_samples, self.frame_rate = -(-source.samples // count), count * source.rate / source.samples
        if self.batch is None and not self._is_batchable(noise, [first, second]):
            self.batch = 1
        self.weights = file.hash(
            {
                "input": [source.value.name, source.rate, source.samples, source.scale],
                "outputs": [[name, self.axes[name]] for name in self.outputs],
            }
        )

    def frames(self, waves: Tensor, lengths: Tensor, layers: tuple[int, ...]) -> Iterator[tuple[int, Tensor, Tensor]]:
        """Yield the outputs of the requested layers; see `Extractor.frames`."""
        counts = lengths.tolist()
        clips = [wave[:count] for wave, count in zip(waves.float().cpu().numpy(), counts, strict=True)]
        results = self._run_clips([self.outputs[layer] for layer in layers], clips)
        for i, layer in enumerate(layers):
            frames = [torch.from_numpy(result[i]) for result in results]
            padded = torch.nn.utils.rnn.pad_sequence(frames, batch_first=True)
            yield layer, padded.to(waves.device), torch.tensor(list(map(len, frames)), device=waves.device)

    def padded_samples(self, length: int) -> int:
        """Return the number of samples that are computed for a clip: always the window, if there is one."""
        return self.input.samples or max(length, self.min_samples)

    def to(self, device: str) -> Self:
        """Move the model to a device and return self."""
        self.file.to(device)
        return self

    def __deepcopy__(self, memo: object) -> Self:
        """Return self: several threads may run one session, which holds no state between clips."""
        return self

    def _run_clips(self, names: Sequence[str], clips: Sequence[Samples]) -> list[list[Samples]]:
        """Return the frames [T, D] of each output for each clip [S]; clips of one length run together."""
        results: list[list[Samples]] = [[] for _ in clips]
        window = self.input.samples
        lengths = np.array([len(clip) if window is None else window for clip in clips])
        for length in np.unique(lengths).tolist():
            places = np.flatnonzero(lengths == length).tolist()
            waves = np.zeros((len(places), length), np.float32)
            for row, i in zip(waves, places, strict=True):
                row[: len(clips[i])] = clips[i][:length]
            outputs = self._run_batch(names, waves)
            for row, i in enumerate(places):
                share = 1.0 if window is None else min(1.0, len(clips[i]) / window)
                results[i] = [frames[row, : max(1, int(np.ceil(share * frames.shape[1])))] for frames in outputs]
        return results

    def _run_batch(self, names: Sequence[str], waves: Samples) -> list[Samples]:
        """Return the frames [B, T, D] of each output for waves [B, S], in batches of the size that the model takes."""
        size = self.batch or len(waves)
        parts = []
        for first in range(0, len(waves), size):
            part = waves[first : first + size]
            rows = np.pad(part, ((0, size - len(part)), (0, 0)))
            outputs = self.file.run(names, {self.input.value.name: self._shape(rows)})
            frames = [self._to_frames(*pair, size) for pair in zip(names, outputs, strict=True)]
            parts.append([one[: len(part)] for one in frames])
        return [np.concatenate(one) for one in zip(*parts, strict=True)]

    def _shape(self, waves: Samples) -> Array:
        """Return waves [B, S] with the axes, the scale and the type of the input."""
        kind, layout = self.input.value.dtype, self.input.layout
        scaled = waves * np.float32(self.input.scale)
        if np.issubdtype(kind, np.integer):
            limits = np.iinfo(kind)
            scaled = np.clip(np.rint(scaled), limits.min, limits.max)
        shaped = {"s": scaled[0], "bs": scaled, "b1s": scaled[:, None], "bs1": scaled[..., None]}[layout]
        return np.ascontiguousarray(shaped, dtype=kind)

    def _to_frames(self, name: str, output: Array, size: int) -> Samples:
        """Return an output for a batch of `size` clips as frames [B, T, D]; the batch axis may be missing for one.

        Raises:
            ModelError: it has other axes.
        """
        frames = output
        if frames.ndim > 3:  # axes of length 1 beside the batch, as in [B, 1, 1, D]
            frames = frames.reshape(len(frames), *(axis for axis in frames.shape[1:] if axis != 1))
        if size == 1 and frames.ndim == 1:
            frames = frames[None]  # [1, D]
        if size == 1 and frames.ndim == 2:
            frames = frames[None]  # [1, T, D]; T is 1 if the axis was that of the batch
        elif frames.ndim == 2:
            frames = frames[:, None]
        if frames.ndim != 3 or len(frames) != size:
            raise ModelError(
                f"The output {name} of {self.file.path} has the shape {list(output.shape)} for {size} clip(s). "
                "embedx takes vectors [B, D] or frames [B, T, D] (axes=btd) or [B, D, T] (axes=bdt)."
            )
        frames = frames.transpose(0, 2, 1) if self.axes[name] == "bdt" else frames
        return np.ascontiguousarray(frames, dtype=np.float32)

    def _check_frames(self, outputs: Sequence[Samples]) -> int:
        """Return the dimension of the frames of noise; raise ModelError if they cannot be used."""
        for name, frames in zip(self.outputs, outputs, strict=True):
            if not frames.size or not np.isfinite(frames).all():
                raise ModelError(
                    f"The output {name} of {self.file.path} is empty, or NaN or infinite, for noise. The file may be "
                    "damaged, or the option scale may be wrong."
                )
        sizes = [frames.shape[2] for frames in outputs]
        if len(set(sizes)) > 1:
            shown = ", ".join(f"{name}: {size}" for name, size in zip(self.outputs, sizes, strict=True))
            raise ModelError(
                f"The outputs of {self.file.path} have different dimensions ({shown}). Extract each one into a "
                "collection of its own."
            )
        return int(sizes[0])

    def _is_batchable(self, noise: Samples, alone: Sequence[Sequence[Samples]]) -> bool:
        """Tell whether two clips give the same frames together as alone."""
        try:
            together = self._run_batch(self.outputs, noise)
        except (ModelError, torch.OutOfMemoryError):  # an operation inside takes one size only, or two do not fit
            return False
        for pair, both in zip(zip(*alone, strict=True), together, strict=True):
            expected = np.concatenate(pair)
            limit = TOLERANCE * max(1.0, float(np.abs(expected).max(initial=0.0)))
            if expected.shape != both.shape or not np.allclose(expected, both, rtol=0, atol=limit, equal_nan=True):
                return False
        return True

    def _count(self, length: int) -> int:
        """Return the largest number of frames for a clip of this length; 0 if the model refuses it, or gives NaN."""
        try:
            outputs = self._run_batch(self.outputs, make_noise(1, length))
        except ModelError:
            return 0
        has_all = all(frames.size and np.isfinite(frames).all() for frames in outputs)
        return max(frames.shape[1] for frames in outputs) if has_all else 0

    def _measure_steps(self) -> tuple[int, float]:
        """Return the shortest clip and the frame rate of a model for any length, by trying lengths of noise."""
        length = round(TRIAL_S * self.sample_rate)
        while not self._count(length):
            if length > MAX_TRIAL_S * self.sample_rate:
                self._run_batch(self.outputs, make_noise(1, length))  # raises the error that explains it
                raise ModelError(f"{self.file.path} gives no frames, or NaN, for noise of {MAX_TRIAL_S:g} s.")
            length *= 2
        shortest = self._first_length(1, 0, length)
        least = self._count(shortest)
        while self._count(length) < least + 2:
            if length > MAX_TRIAL_S * self.sample_rate:
                return shortest, ONE_FRAME
            length *= 4
        second = self._first_length(least + 1, shortest, length)
        third = self._first_length(least + 2, second - 1, length)
        return shortest, self.sample_rate / (third - second)

    def _first_length(self, count: int, low: int, high: int) -> int:
        """Return the smallest length above `low` that gives at least `count` frames; `high` gives them."""
        while high - low > 1:
            middle = (low + high) // 2
            low, high = (low, middle) if self._count(middle) >= count else (middle, high)
        return high


class OnnxClassifier:
    """The scores of an ONNX model as a classifier; scores of several frames are averaged."""

    backend = "reference"

    def __init__(self, encoder: OnnxEncoder, labels: Path, activation: str) -> None:
        """Take the encoder whose only output are the scores.

        Raises:
            ModelError: the labels do not fit, or the scores are no probabilities.
        """
        self.encoder, self.activation = encoder, activation
        self.outputs = {LABEL: read_labels(labels, encoder.dim)}
        self.sample_rate = encoder.sample_rate
        self.min_samples, self.max_samples = encoder.min_samples, encoder.max_samples
        self.weights, self.has_gpu = encoder.weights, encoder.has_gpu
        length = encoder.max_samples or max(encoder.min_samples, round(TRIAL_S * encoder.sample_rate))
        noise = torch.rand(1, length, generator=torch.Generator().manual_seed(0)) * 0.6 - 0.3
        total = float(self.scores(noise, torch.tensor([length]))[LABEL].sum())
        is_single = activation == "softmax" or (activation == "none" and abs(total - 1) < 1e-3)
        self.multi_label = frozenset(() if is_single else (LABEL,))

    def scores(self, waves: Tensor, lengths: Tensor) -> dict[str, Tensor]:
        """Return the probabilities [B, C]; see `Classifier.scores`."""
        ((_, frames, counts),) = self.encoder.frames(waves, lengths, (0,))
        if self.activation != "none":
            frames = frames.sigmoid() if self.activation == "sigmoid" else frames.softmax(dim=2)
        valid = torch.arange(frames.shape[1], device=frames.device) < counts[:, None]
        kept = frames[valid]
        if ((kept < -TOLERANCE) | (kept > 1 + TOLERANCE)).any():
            raise ModelError(
                f"The scores {self.encoder.outputs[0]} of {self.encoder.file.path} go from {float(kept.min()):.3g} to "
                f"{float(kept.max()):.3g}, so they are not probabilities. Add activation=sigmoid (several classes can "
                "be true at once) or activation=softmax (one of them is true)."
            )
        return {LABEL: frames.masked_fill(~valid[..., None], 0.0).sum(dim=1) / counts[:, None]}

    def padded_samples(self, length: int) -> int:
        """Return the number of samples that are computed for a clip."""
        return self.encoder.padded_samples(length)

    def to(self, device: str) -> Self:
        """Move the model to a device and return self."""
        self.encoder.to(device)
        return self


def make_noise(count: int, length: int) -> Samples:
    """Return clips [count, length] of noise, the same at each call."""
    return np.random.default_rng(0).uniform(-0.3, 0.3, (count, length)).astype(np.float32)


def guess_axes(file: OnnxFile, name: str) -> str:
    """Return the order of the axes of an output: "bdt" if only the last of three has no fixed length."""
    shape = file.outputs[name].shape
    is_last_time = len(shape) == 3 and isinstance(shape[1], int) and not isinstance(shape[2], int)
    return "bdt" if is_last_time or (len(shape) == 3 and shape[2] == 1 and shape[1] != 1) else "btd"


def make_encoder(file: OnnxFile, options: Options, outputs: Sequence[str] = ()) -> OnnxEncoder:
    """Return the encoder of some outputs, or of those that the options name; raise ModelError if it cannot be run."""
    source = read_input(file, options)
    try:
        return OnnxEncoder(file, source, outputs or pick_outputs(file, options), options.axes)
    except torch.OutOfMemoryError as error:
        raise ModelError(f"One clip does not fit into memory with {file.path}: {error}") from error


def load(source: str, *, allow_pickle: bool = False, download: bool = True) -> OnnxEncoder:
    """Load an ONNX model as `FILE?rate=32000&window=5&...`; see `embedx.extractors.onnx_options.Options`.

    Raises:
        ModelError: the file cannot be loaded, or an option is missing or wrong.
    """
    location, text = split_onnx(source)
    options = Options.parse(text)
    file = OnnxFile(location)
    return make_encoder(file, options)


def load_classifier(source: str) -> OnnxClassifier:
    """Load the scores of an ONNX model: `FILE?scores=NAME&labels=FILE&...`.

    Raises:
        ModelError: the file cannot be loaded, or an option is missing or wrong.
    """
    location, text = split_onnx(source)
    options = Options.parse(text)
    file = OnnxFile(location)
    if options.scores is None or options.labels is None:
        raise ModelError(f"To classify, add the output with the scores and a file with one class a line: "
                         f"scores=NAME&labels=FILE. The file is {file}.")  # fmt: skip
    check_output(file, options.scores)
    encoder = make_encoder(file, options, (options.scores,))
    return OnnxClassifier(encoder, Path(os.path.expanduser(options.labels)), options.activation)
