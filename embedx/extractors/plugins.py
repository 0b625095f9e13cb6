"""plugin: extractors outside embedx, as `module:factory`, an entry point of `embedx.extractors`, or a HEAR module.

This code runs with the rights of the user. So it is loaded only if the user names it on the command line or in a call,
and never because a collection names it.
"""

import importlib
import os
import sys
from collections.abc import Iterator
from types import ModuleType
from typing import Any, Self

import torch
from torch import Tensor

from embedx.errors import ModelError
from embedx.extractors.base import Extractor, hash_weights
from embedx.extractors.names import entry_point

ATTRIBUTES = ("sample_rate", "layers", "dim", "frame_rate", "min_samples", "max_samples", "weights", "frames", "to")
HEAR_FUNCTIONS = ("load_model", "get_timestamp_embeddings", "get_scene_embeddings")


class HearModule:
    """The timestamp embeddings [B, T, D] of a module with the HEAR functions, computed one clip at a time.

    HEAR has no argument for lengths, so in a batch the padding of shorter clips would affect their embeddings.
    """

    layers: tuple[int, ...] = (0,)
    max_samples: int | None = None

    def __init__(self, module: ModuleType, weights: str) -> None:
        self.module = module
        self.model = module.load_model(weights) if weights else module.load_model()
        self.sample_rate = int(self.model.sample_rate)
        self.dim = int(self.model.timestamp_embedding_size)
        self.device = "cpu"
        self.min_samples = self.sample_rate // 4  # HEAR does not specify what happens with shorter sounds
        self.frame_rate = self._frame_rate()
        state = self.model.state_dict() if isinstance(self.model, torch.nn.Module) else {}
        self.weights = hash_weights(state, {"module": module.__name__, "version": getattr(module, "__version__", "")})

    def frames(self, waves: Tensor, lengths: Tensor, layers: tuple[int, ...]) -> Iterator[tuple[int, Tensor, Tensor]]:
        """Yield the timestamp embeddings; see `Extractor.frames`."""
        clips = [
            self.module.get_timestamp_embeddings(wave[None, :length], self.model)[0][0]
            for wave, length in zip(waves, lengths.tolist(), strict=True)
        ]
        counts = torch.tensor([len(clip) for clip in clips], device=waves.device)
        yield 0, torch.nn.utils.rnn.pad_sequence(clips, batch_first=True).float(), counts

    def to(self, device: str) -> Self:
        """Move the model to a device and return self."""
        if isinstance(self.model, torch.nn.Module):
            self.model.to(device)
        return self

    def _frame_rate(self) -> float:
        """Measure the frame rate on one second of silence."""
        _, times = self.module.get_timestamp_embeddings(torch.zeros(1, self.sample_rate), self.model)
        return 1000 * (times.shape[1] - 1) / float(times[0, -1] - times[0, 0]) if times.shape[1] > 1 else 1.0


def load(source: str, *, allow_pickle: bool = False, download: bool = True) -> Extractor:
    """Load `module:factory`, `hear:module` (also with `@weights`), or the name of an entry point.

    Raises:
        ModelError: it cannot be imported, or does not implement the protocol.
    """
    try:
        point = entry_point(source)
        if point is not None:
            return check_protocol(point.load()(), source)
        name, _, attribute = source.partition(":")
        if name == "hear":
            module, _, weights = attribute.partition("@")
            return HearModule(import_hear_module(module), weights)
        return check_protocol(getattr(import_module(name), attribute)(), source)
    except ModelError:
        raise
    except Exception as error:  # code outside embedx may raise anything
        raise ModelError(f"The extractor {source} cannot be loaded: {type(error).__name__}: {error}") from error


def import_module(name: str) -> ModuleType:
    """Import a module that is installed or in the working directory."""
    if os.getcwd() not in sys.path:
        sys.path.append(os.getcwd())
    return importlib.import_module(name)


def import_hear_module(name: str) -> ModuleType:
    """Import a module, and check that it has the HEAR functions."""
    module = import_module(name)
    missing = [function for function in HEAR_FUNCTIONS if not hasattr(module, function)]
    if missing:
        raise ModelError(f"The module {name} is not a HEAR module: it has no {', '.join(missing)}.")
    return module


def check_protocol(extractor: Any, source: str) -> Extractor:
    """Return an object as an extractor; raise ModelError if it lacks an attribute of the protocol."""
    missing = [name for name in ATTRIBUTES if not hasattr(extractor, name)]
    if missing:
        raise ModelError(f"The extractor {source} has no {', '.join(missing)}; see embedx.extractors.base.Extractor.")
    checked: Extractor = extractor
    return checked
