"""Speed: how fast a machine embeds a corpus with a model, how near that is to the limit, and where the time goes.

The pipeline of `embedx.extract` runs over a sample into a temporary collection, with the stopwatch on: once for what
happens once, then for the figures, again with more if that was over too soon.
"""

import os
import platform
import tempfile
import time
from collections.abc import Callable, Sequence
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from embedx import timing
from embedx.audio.decoder_process import borrow_decoder
from embedx.bench.speed.result import Figures, Speed
from embedx.bench.speed.sample import Recordings, Sample
from embedx.bench.speed.trials import try_others
from embedx.embedding.options import EmbeddingOptions
from embedx.errors import Interrupted, NothingToDo, UsageError
from embedx.ingest.changes import compare
from embedx.ingest.extract import plan
from embedx.ingest.pipeline import ExtractionPipeline
from embedx.ingest.prefetch import parse_workers
from embedx.processes.cores import count_cores
from embedx.store.store import Store

if TYPE_CHECKING:
    from embedx.embedding.embedder import Embedder

WARM_S = 30.0  # of audio for what happens once: processes, first calls, the page cache
ENOUGH_S, AIM_S = 5.0, 10.0  # a run that takes less is done again with as much as may take this
TRIED_S = 3.0  # what other ways are tried on takes this run so long at most
MOST_S = 3600.0  # of audio that are taken if nobody says how many
UNLIMITED = ("logmel", "mfcc")  # models that are hardly any products of matrices


def measure_speed(
    source: Any = None,
    *,
    model: str = "logmel",
    layers: str | int | Sequence[int] = "last",
    pooling: str | Sequence[str] = "mean",
    window: float | None = None,
    device: str = "auto",
    precision: str = "auto",
    backend: str = "auto",
    batch_seconds: float | None = None,
    workers: int | str = "auto",
    seconds: float | None = None,
    allow_pickle: bool = False,
    on_step: Callable[[str], None] = lambda step: None,
    interrupted: Callable[[], int] = lambda: 0,
) -> Speed:
    """Embed a sample of a source into a collection that is thrown away, and return what it took.

    Args:
        source: as `embedx.extract` takes it; recordings are taken evenly over it. None: noise is made.
        model, layers, pooling, window, device, precision, backend, batch_seconds, workers, allow_pickle: as
            `embedx.extract` takes them.
        seconds: so much audio; None: as much as takes 5 to 10 s, up to an hour.
        on_step: told in words what comes next.
        interrupted: asked now and then; the number of a signal ends the measurement.

    Raises:
        UsageError: an argument cannot be meant.
        NothingToDo: no audio was found, or none that can be used.
        ModelError: the model cannot be loaded.
        Interrupted: a signal came. Nothing is left behind.
    """
    if seconds is not None and not 1 <= seconds <= 1e6:
        raise UsageError(f"seconds of audio that are measured are from 1 to 1000000, not {seconds}.")
    options = EmbeddingOptions(
        model,
        layers,
        pooling,
        window,
        device=device,
        precision=precision,
        backend=backend,
        batch_seconds=batch_seconds,
        allow_pickle=allow_pickle,
    )
    decoders = parse_workers(workers)

    def check() -> None:
        if number := interrupted():
            raise Interrupted("Stopped. Nothing was measured to its end, and nothing is left behind.", number)

    with tempfile.TemporaryDirectory(prefix="embedx-speed-") as folder:
        sample = Sample(source, folder)
        on_step(f"loading {model}")
        begun = time.perf_counter()
        embedder = options.load()
        load_s = time.perf_counter() - begun
        decoders = sample.share if decoders is None else decoders
        run = partial(run_once, embedder, folder=folder, threads=sample.share, decoders=decoders, check=check)
        figures = run_long_enough(sample, run, seconds, on_step)
    operations, peak, trials = None, None, []
    if embedder.recipe.extractor not in UNLIMITED:
        on_step("measuring the limit, and trying what may be faster")
        operations, peak = find_limit(embedder, figures.lengths, sample.share)
        check()
        trials = try_others(embedder, figures.lengths, TRIED_S * figures.times_real_time, sample.share, check)
    return Speed(
        machine=describe_machine(embedder.devices),
        model=model,
        corpus=sample.name,
        backend=embedder.backend,
        device=",".join(embedder.devices),
        precision=embedder.precision,
        batch_seconds=embedder.budget / embedder.extractor.sample_rate,
        sample_rate=embedder.extractor.sample_rate,
        load_s=load_s,
        lanes=len(embedder.make_workers(sample.share)),
        decoders=max(1, decoders),
        figures=figures,
        operations=operations,
        peak=peak,
        trials=trials,
        kernels=getattr(embedder.extractor, "kernels", {}),  # of all that was tried
        replaced=getattr(embedder.extractor, "replaced", {}),
    )


def run_long_enough(
    sample: Sample, run: Callable[[Recordings], Figures], seconds: float | None, on_step: Callable[[str], None]
) -> Figures:
    """Run over a little for what happens once, then over so many seconds of audio, or more until it takes a while."""
    on_step("warming up")
    audio_s = min(WARM_S, seconds or WARM_S)
    taken = sample.take(audio_s)
    figures = run(taken)
    while True:
        audio_s = seconds or min(MOST_S, audio_s * max(2.0, AIM_S / figures.wall_s))
        before, taken = len(taken), sample.take(audio_s)
        on_step(f"measuring on up to {audio_s:.0f} s of audio")
        figures = run(taken)
        if seconds or figures.wall_s >= ENOUGH_S or audio_s >= MOST_S or len(taken) == before:
            return figures


def run_once(
    embedder: "Embedder", recordings: Recordings, *, folder: str, threads: int, decoders: int, check: Callable[[], None]
) -> Figures:
    """Embed recordings into a new collection in a folder, remove it, and return what that took."""

    def stop() -> int:
        check()
        return 0

    embedder.heard = embedder.padded = 0
    with (
        tempfile.TemporaryDirectory(dir=folder) as out,
        Store.create(Path(out) / "c", embedder.recipe, embedder.extractor.dim) as store,
    ):
        with borrow_decoder() as decoder:
            difference = compare(store, recordings, [], decoder.hash_content)
            progress = plan(store, difference, decoder)
        work = ExtractionPipeline(store, embedder, difference.todo, progress, lambda progress: None, stop, {}, decoders)
        work.threads = threads  # what the whole source is worth, not this part of it
        with timing.measure() as seconds:
            begun, processor = time.perf_counter(), time.process_time()
            work.finish()
            wall_s, processor_s = time.perf_counter() - begun, time.process_time() - processor
        lengths = [row.end_s - row.start_s for row in store.rows()]
        if not lengths:
            detail = next(one.detail for one in store.recordings().values() if one.reason)
            raise NothingToDo(f"None of the {len(recordings)} recordings that were tried can be used: {detail}")
    return Figures(
        recordings=len(recordings),
        failures=dict(progress.failures),
        lengths=lengths,
        wall_s=wall_s,
        processor_s=processor_s + seconds.pop("decoder", 0.0),
        padding=embedder.padding,
        seconds=seconds,
    )


def find_limit(embedder: "Embedder", lengths: Sequence[float], threads: int) -> tuple[float | None, float | None]:
    """Return the operations of the model on windows of these lengths, and the peak; None where that is no limit."""
    from embedx.bench.speed.roofline import count_operations, measure_peak
    from embedx.embedding.forward import DTYPES
    from embedx.embedding.workers import make_workers

    operations = count_operations(embedder.extractor, lengths, embedder.device)
    if not operations:
        return None, None
    lanes = make_workers(embedder.extractor, embedder.device, threads)
    return operations, len(embedder.devices) * measure_peak(lanes, DTYPES[embedder.precision])


def describe_machine(devices: Sequence[str]) -> dict[str, Any]:
    """Return what figures depend on besides the model."""
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
