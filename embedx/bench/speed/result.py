"""Pace: what was measured of a speed, and what follows from it."""

from dataclasses import asdict, dataclass, field
from typing import Any

from embedx.bench.speed.advice import advise
from embedx.bench.speed.trials import Trial

# Stages by what they run in: threads with a batch each, processes that read ahead, and the thread that commits.
LANE, DECODER, WRITER = ("copy", "model", "pooling", "wait"), ("decode", "resample"), ("write",)


@dataclass(frozen=True)
class Figures:
    """What a run took. Seconds are those of the clock, of all threads or processes that do the same added up."""

    recordings: int
    failures: dict[str, int]  # reason -> recordings
    lengths: list[float]  # of the windows, in seconds
    wall_s: float
    processor_s: float  # of this process and the decoders
    padding: float  # samples computed for one that was heard
    seconds: dict[str, float]  # stage -> seconds

    @property
    def audio_s(self) -> float:
        """Seconds of audio in all windows."""
        return sum(self.lengths)

    @property
    def times_real_time(self) -> float:
        """Seconds of audio in a second, which is hours of audio in an hour."""
        return self.audio_s / self.wall_s


@dataclass(frozen=True)
class Speed:
    """What was measured; `str` is for people, `to_dict` for programs."""

    machine: dict[str, Any]
    model: str
    corpus: str
    backend: str
    device: str
    precision: str
    batch_seconds: float
    sample_rate: int
    load_s: float  # to import and load the model
    lanes: int  # batches that are computed at a time
    decoders: int  # processes
    figures: Figures
    operations: float | None  # floating-point operations of the model on what was measured; None: no limit is known
    peak: float | None  # of matrix products, in operations a second
    trials: list[Trial] = field(default_factory=list)
    kernels: dict[str, str] = field(default_factory=dict)  # kind of layer -> how it is computed, if that was asked
    replaced: dict[str, str] = field(default_factory=dict)  # kind -> what was taken for what gave wrong numbers

    @property
    def share_of_limit(self) -> float | None:
        """How much of the time the model's products would take at the peak."""
        if self.operations is None or not self.peak:
            return None
        return self.operations / self.peak / self.figures.wall_s

    def workers_of(self, stage: str) -> int:
        """Return how many threads or processes a stage runs in."""
        return self.lanes if stage in LANE else self.decoders if stage in DECODER else 1

    def share_of(self, *stages: str) -> float:
        """Return the part that stages take of the time of all threads or processes that they run in."""
        wall = self.figures.wall_s
        return sum(self.figures.seconds.get(one, 0.0) / self.workers_of(one) / wall for one in stages)

    def per_hour(self, stage: str) -> float:
        """Return the seconds that a stage takes for an hour of audio."""
        return self.figures.seconds.get(stage, 0.0) / self.figures.audio_s * 3600

    @property
    def advice(self) -> list[str]:
        """What would help, in sentences."""
        return advise(self)

    def to_dict(self) -> dict[str, Any]:
        """Return every number as plain values."""
        figures = asdict(self.figures)
        found = {name: value for name, value in vars(self).items() if name not in ("figures", "trials")}
        windows = figures.pop("lengths")
        del figures["seconds"]
        return {
            **found,
            **figures,
            "windows": len(windows),
            "audio_s": self.figures.audio_s,
            "audio_hours_per_hour": self.figures.times_real_time,
            "share_of_limit": self.share_of_limit,
            "stages": [
                {
                    "stage": stage,
                    "runs_in": self.workers_of(stage),
                    "seconds_per_audio_hour": self.per_hour(stage),
                    "share": self.share_of(stage),
                }
                for stage in (*DECODER, *LANE, *WRITER)
            ],
            "trials": [asdict(trial) for trial in self.trials],
            "advice": self.advice,
        }

    def __str__(self) -> str:
        from embedx.bench.speed.text import as_text

        return as_text(self)
