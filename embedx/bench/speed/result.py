"""Figures of a speed measurement. Data only: `advice` and `text` explain them."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from embedx.bench.speed.trials import Trial

# Stages, by the threads or processes that run them: the threads that run the model (one batch each), the decoder
# processes, and the thread that writes to the store.
MODEL_STAGES, DECODER_STAGES, WRITER_STAGES = ("copy", "model", "pooling", "wait"), ("decode", "resample"), ("write",)
STAGES = (*DECODER_STAGES, *MODEL_STAGES, *WRITER_STAGES)


@dataclass(frozen=True)
class Figures:
    """The figures of one run over a sample.

    Attributes:
        recordings: number of recordings.
        failures: reason -> number of recordings that failed.
        lengths: length of each window in seconds.
        wall_s: elapsed time in seconds.
        processor_s: processor time of this process and the decoder processes, in seconds.
        padding: computed samples / samples of audio, 1 without padding.
        seconds: stage -> seconds, summed over all threads or processes that run the stage.
    """

    recordings: int
    failures: dict[str, int]
    lengths: list[float]
    wall_s: float
    processor_s: float
    padding: float
    seconds: dict[str, float]

    @property
    def audio_s(self) -> float:
        """Seconds of audio in all windows."""
        return sum(self.lengths)

    @property
    def times_real_time(self) -> float:
        """Seconds of audio per second, which equals hours of audio per hour."""
        return self.audio_s / self.wall_s


@dataclass(frozen=True)
class Measurement:
    """A speed measurement.

    Attributes:
        machine: hardware, system and versions.
        model: the model as the user named it.
        corpus: a description of the audio.
        backend, device, precision, batch_seconds, sample_rate: how the model was run.
        load_s: seconds to import and load the model. No other figure includes them.
        workers: number of threads that run the model, one batch each.
        decoders: number of decoder processes.
        figures: the figures of the run.
        operations: floating-point operations of the model for this audio; None if no limit is known.
        peak: the highest rate of matrix products on this device, in operations per second; None likewise.
        trials: other options that were tried.
        kernels: kind of layer -> implementation, for models of the fast backend.
        replaced: kind of layer -> implementation that was used because another gave wrong numbers.
    """

    machine: dict[str, Any]
    model: str
    corpus: str
    backend: str
    device: str
    precision: str
    batch_seconds: float
    sample_rate: int
    load_s: float
    workers: int
    decoders: int
    figures: Figures
    operations: float | None
    peak: float | None
    trials: Sequence[Trial] = ()
    kernels: dict[str, str] = field(default_factory=dict)
    replaced: dict[str, str] = field(default_factory=dict)

    @property
    def share_of_limit(self) -> float | None:
        """Least time that the model's products need at the peak rate, divided by the elapsed time."""
        if self.operations is None or not self.peak:
            return None
        return self.operations / self.peak / self.figures.wall_s

    def workers_of(self, stage: str) -> int:
        """Return the number of threads or processes that run a stage."""
        return self.workers if stage in MODEL_STAGES else self.decoders if stage in DECODER_STAGES else 1

    def share_of(self, *stages: str) -> float:
        """Return the fraction of their threads' or processes' time that stages take."""
        wall_s = self.figures.wall_s
        return sum(self.figures.seconds.get(stage, 0.0) / self.workers_of(stage) / wall_s for stage in stages)

    def per_hour(self, stage: str) -> float:
        """Return the seconds that a stage takes per hour of audio."""
        return self.figures.seconds.get(stage, 0.0) / self.figures.audio_s * 3600
