"""Measure how fast a machine embeds a corpus with a model, how near that is to the limit, and where the time goes.

The pipeline of `embedx.extract` runs over a sample of the corpus and writes to a temporary collection, while
`embedx.timing` measures its stages. A short first run absorbs one-time costs. The second run gives the figures; it is
repeated on more audio if it was too short.
"""

import os
import platform
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any, Unpack

from embedx import timing
from embedx.bench.speed.result import Figures
from embedx.bench.speed.sample import Recordings, Sample
from embedx.bench.speed.text import Speed
from embedx.bench.speed.trials import Trial, try_options
from embedx.embedding.options import EmbeddingKwargs, EmbeddingOptions
from embedx.errors import Interrupted, NothingToDo, UsageError
from embedx.ingest.extract import plan_run
from embedx.ingest.options import ExtractOptions
from embedx.ingest.pipeline import ExtractionPipeline
from embedx.ingest.prefetch import parse_workers
from embedx.processes.cores import count_cores
from embedx.store.store import Store

if TYPE_CHECKING:
    from embedx.embedding.embedder import Embedder

WARM_UP_S = 30.0  # audio for the first run: starts processes, compiles, fills the page cache
MIN_RUN_S, AIM_RUN_S = 5.0, 10.0  # a shorter run is repeated with as much audio as should take the second value
TRIAL_RUN_S = 3.0  # how long the audio of the trials would take in the measured run
MAX_AUDIO_S = 3600.0  # audio that is used if the user does not say how much
WITHOUT_LIMIT = ("logmel", "mfcc")  # models that compute hardly any matrix products

Check = Callable[[], None]  # raises Interrupted if a signal has arrived


def measure_speed(
    source: Any = None,
    *,
    workers: int | str = "auto",
    seconds: float | None = None,
    on_step: Callable[[str], None] = lambda step: None,
    interrupted: Callable[[], int] = lambda: 0,
    **options: Unpack[EmbeddingKwargs],
) -> Speed:
    """Embed a sample of a source into a temporary collection, and return how long each stage took.

    Args:
        source: what `embedx.extract` takes; the sample is spread evenly over its recordings. None: noise clips.
        workers: number of decoder processes, as in `embedx.extract`; default "auto".
        seconds: seconds of audio to embed, 1 to 1000000; default: enough for a run of 5 to 10 s, at most one hour.
        on_step: called with a description of each step before it starts.
        interrupted: called regularly; the number of a signal (not 0) stops the measurement.
        **options: how vectors are made, as in `embedx.extract`: model, layers, pooling, window, device, precision,
            backend, batch_seconds, allow_pickle and so on.

    Returns:
        The measurement. `print` shows it as text, `to_dict` returns plain values.

    Raises:
        UsageError: an argument is invalid.
        NothingToDo: there is no audio, or none of it can be used.
        ModelError: the model cannot be loaded.
        Interrupted: a signal arrived. No files are left behind.
    """
    if seconds is not None and not 1 <= seconds <= 1e6:
        raise UsageError(f"seconds={seconds} is out of range. Give 1 to 1000000 seconds of audio.")
    settings = EmbeddingOptions(**options)
    decoders = parse_workers(workers)

    def check() -> None:
        if number := interrupted():
            raise Interrupted("Stopped before the measurement was complete. No files are left behind.", number)

    with tempfile.TemporaryDirectory(prefix="embedx-speed-") as folder:
        sample = Sample(source, folder)
        on_step(f"loading {settings.model}")
        start = time.perf_counter()
        embedder = settings.load()
        load_s = time.perf_counter() - start
        runner = Runner(embedder, folder, sample.share, sample.share if decoders is None else decoders, check)
        figures = run_long_enough(sample, runner.run, seconds, on_step)
    limit = compare_with_limit(runner, figures, on_step)
    return Speed(
        model=settings.model,
        corpus=sample.name,
        load_s=load_s,
        figures=figures,
        operations=limit.operations,
        peak=limit.peak,
        trials=limit.trials,
        **describe_run(runner),  # after the trials, because it includes their kernels
    )


def run_long_enough(
    sample: Sample, run: Callable[[Recordings], Figures], seconds: float | None, on_step: Callable[[str], None]
) -> Figures:
    """Run on a little audio to warm up, then on `seconds` of audio, or on more and more until a run is long enough."""
    on_step("warming up")
    audio_s = min(WARM_UP_S, seconds or WARM_UP_S)
    recordings = sample.take(audio_s)
    figures = run(recordings)
    while True:
        audio_s = seconds or min(MAX_AUDIO_S, audio_s * max(2.0, AIM_RUN_S / figures.wall_s))
        previous, recordings = len(recordings), sample.take(audio_s)
        on_step(f"measuring on up to {audio_s:.0f} s of audio")
        figures = run(recordings)
        if seconds or figures.wall_s >= MIN_RUN_S or audio_s >= MAX_AUDIO_S or len(recordings) == previous:
            return figures


@dataclass(frozen=True)
class Runner:
    """Runs the extraction pipeline on recordings.

    Attributes:
        embedder: the model.
        folder: where temporary collections are written.
        threads: threads that run the model; as many as for the whole source, not only for a sample.
        decoders: decoder processes.
        check: called regularly; it raises Interrupted if a signal has arrived.
    """

    embedder: "Embedder"
    folder: str
    threads: int
    decoders: int
    check: Check

    def run(self, recordings: Recordings) -> Figures:
        """Embed recordings into a temporary collection, and return the figures of the run."""

        def stop() -> int:
            self.check()
            return 0

        embedder = self.embedder
        embedder.audio_samples = embedder.batch_samples = 0
        with (
            tempfile.TemporaryDirectory(dir=self.folder) as out,
            Store.create(Path(out) / "c", embedder.recipe, embedder.extractor.dim) as store,
        ):
            difference, progress = plan_run(store, recordings, [], ExtractOptions())
            pipeline = ExtractionPipeline(
                store, embedder, difference.todo, progress, lambda progress: None, stop, {}, self.decoders, self.threads
            )
            with timing.measure() as seconds:
                start, processor_start = time.perf_counter(), time.process_time()
                pipeline.run()
                wall_s, processor_s = time.perf_counter() - start, time.process_time() - processor_start
            lengths = [row.end_s - row.start_s for row in store.rows()]
            if not lengths:
                reason = next(recording.detail for recording in store.recordings().values() if recording.reason)
                raise NothingToDo(f"None of the {len(recordings)} recordings in the sample can be used: {reason}")
        return Figures(
            recordings=len(recordings),
            failures=dict(progress.failures),
            lengths=lengths,
            wall_s=wall_s,
            processor_s=processor_s + seconds.pop("decoder", 0.0),
            padding=embedder.padding,
            seconds=seconds,
        )


@dataclass(frozen=True)
class Limit:
    """Operations of the model, the peak rate of the device (None if that is no limit), and trials of other options."""

    operations: float | None = None
    peak: float | None = None
    trials: Sequence[Trial] = ()


def compare_with_limit(runner: Runner, figures: Figures, on_step: Callable[[str], None]) -> Limit:
    """Measure the limit of the device, and try options that may be faster, on windows like those of a run."""
    embedder = runner.embedder
    if embedder.recipe.extractor in WITHOUT_LIMIT:
        return Limit()
    on_step("measuring the limit, and trying other options")
    operations, peak = find_limit(embedder, figures.lengths, runner.threads)
    runner.check()
    max_s = TRIAL_RUN_S * figures.times_real_time
    return Limit(operations, peak, try_options(embedder, figures.lengths, max_s, runner.threads, runner.check))


def find_limit(embedder: "Embedder", lengths: Sequence[float], threads: int) -> tuple[float | None, float | None]:
    """Return the operations of the model on windows of these lengths, and the peak rate; None if that is no limit."""
    from embedx.bench.speed.roofline import count_operations, measure_peak
    from embedx.embedding.workers import make_workers
    from embedx.extractors.devices import DTYPES

    operations = count_operations(embedder.extractor, lengths, embedder.device)
    if not operations:
        return None, None
    workers = make_workers(embedder.extractor, embedder.device, threads)
    return operations, len(embedder.devices) * measure_peak(workers, DTYPES[embedder.precision])


def describe_run(runner: Runner) -> dict[str, Any]:
    """Return the fields of a `Measurement` that say how the model was run."""
    embedder = runner.embedder
    return {
        "machine": describe_machine(embedder.devices),
        "backend": embedder.backend,
        "device": ",".join(embedder.devices),
        "precision": embedder.precision,
        "batch_seconds": embedder.budget / embedder.extractor.sample_rate,
        "sample_rate": embedder.extractor.sample_rate,
        "workers": len(embedder.make_workers(runner.threads)),
        "decoders": max(1, runner.decoders),
        "kernels": getattr(embedder.extractor, "kernels", {}),
        "replaced": getattr(embedder.extractor, "replaced", {}),
    }


def describe_machine(devices: Sequence[str]) -> dict[str, Any]:
    """Return the facts about the machine that the figures depend on."""
    from embedx.bench.speed.roofline import name_device

    libraries = ("embedx", "torch", "transformers", "soundfile", "soxr")
    return {
        "device": ", ".join(name_device(device) for device in devices),
        "cores": count_cores(),
        "load": os.getloadavg()[0],
        "system": platform.platform(),
        "python": platform.python_version(),
        "versions": {name: version(name) for name in libraries},
        "temporary_folder": tempfile.gettempdir(),
    }
