"""hear: the extractors as a module for the HEAR benchmark (Turian et al. 2022).

It has the three functions of that benchmark: `load_model`, `get_timestamp_embeddings` and `get_scene_embeddings`. In
the other direction, `--model hear:MODULE` uses a HEAR module as an extractor.
"""

from typing import Any, Self

import torch
from torch import Tensor

from embedx import extractors
from embedx.embedding.pooling import mean_pool


class Model(torch.nn.Module):
    """An extractor with the attributes that HEAR requires; embeddings are those of one layer."""

    def __init__(self, name: str, layer: int) -> None:
        super().__init__()
        self.extractor = extractors.load(name)
        self.layer = self.extractor.layers[layer]
        self.sample_rate = self.extractor.sample_rate
        self.scene_embedding_size = self.timestamp_embedding_size = self.extractor.dim

    def to(self, *args: Any, **options: Any) -> Self:
        """Move to a device and return self."""
        device = torch.empty(0).to(*args, **options).device
        self.extractor.to(str(device))
        return self


def load_model(model_file_path: str = "logmel", layer: int = -1) -> Model:
    """Load an extractor.

    Args:
        model_file_path: a name as for `--model`.
        layer: a position in the layers of the extractor; the default is the last.

    Raises:
        ModelError: the model cannot be loaded.
    """
    return Model(model_file_path, layer)


def get_timestamp_embeddings(audio: Tensor, model: Model) -> tuple[Tensor, Tensor]:
    """Compute the embeddings of all frames; sounds that exceed the model's maximum input are computed in pieces.

    Args:
        audio: sounds [N, S] at the rate of the model.
        model: from `load_model`.

    Returns:
        Embeddings [N, T, D], and the middle of each frame in ms [N, T].
    """
    step = model.extractor.max_samples or audio.shape[1]
    pieces, times = [], []
    for start in range(0, audio.shape[1], step):
        frames = run(audio[:, start : start + step], model)
        middle = start / model.sample_rate + model.extractor.min_samples / model.sample_rate / 2
        times.append((middle + torch.arange(frames.shape[1], dtype=torch.float64) / model.extractor.frame_rate) * 1000)
        pieces.append(frames)
    all_times = torch.cat(times).float().to(audio.device)
    return torch.cat(pieces, dim=1), all_times.expand(len(audio), -1)


def get_scene_embeddings(audio: Tensor, model: Model) -> Tensor:
    """Compute one embedding of each sound: the mean over its frames.

    Args:
        audio: sounds [N, S] at the rate of the model.
        model: from `load_model`.

    Returns:
        Embeddings [N, D].
    """
    embeddings, _ = get_timestamp_embeddings(audio, model)
    return mean_pool(embeddings, torch.full((len(audio),), embeddings.shape[1], device=audio.device))


@torch.inference_mode()
def run(audio: Tensor, model: Model) -> Tensor:
    """Return the frames [N, T, D] of sounds of one length; sounds that are too short are padded with zeros."""
    short = max(0, model.extractor.min_samples - audio.shape[1])
    waves = torch.nn.functional.pad(audio, (0, short))
    lengths = torch.full((len(waves),), waves.shape[1], device=waves.device)
    ((_, frames, counts),) = model.extractor.frames(waves, lengths, (model.layer,))
    return frames[:, : int(counts[0])].float()
