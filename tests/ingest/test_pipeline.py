"""Readers and workers run concurrently; results do not depend on their number, and no process is left over."""

import copy
import os
import random
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch

import embedx
from embedx import embedding, extractors
from embedx.audio.decoder_pool import DECODERS
from embedx.audio.windows import Window
from embedx.embedding.embedder import Embedder
from embedx.embedding.workers import Room, Worker, run_in_order
from embedx.extractors import logmel
from embedx.extractors.logmel import LogMelStatistics
from embedx.ingest import prefetch
from embedx.ingest.prefetch import PrefetchBuffer, RecordingDone, RecordingFacts, Stopped, WindowRead, share_work
from tests.helpers.collections import assert_same, embedded
from tests.helpers.embedding import recipe_of
from tests.helpers.paths import ROOT
from tests.helpers.processes import children, is_alive, linux, wait_until

WriteWav = Callable[..., Path]


@pytest.fixture
def four_cores(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Let "auto" find four cores, and use all of them for a few recordings."""
    monkeypatch.setattr(prefetch, "count_cores", lambda: 4)
    monkeypatch.setattr(prefetch, "RECORDINGS_PER_PROCESS", 1)
    threads = torch.get_num_threads()
    torch.set_num_threads(4)
    yield
    torch.set_num_threads(threads)


@pytest.fixture
def sounds(write_wav: WriteWav, tmp_path: Path) -> Path:
    """Twenty recordings of different lengths, and four unusable ones."""
    for i in range(20):
        write_wav(f"in/{i:02}.wav", seconds=(0.3, 4.0, 1.1, 9.0, 2.5)[i % 5], rate=(16_000, 44_100)[i % 2])
    (tmp_path / "in/03a.wav").write_text("this is text")
    (tmp_path / "in/07a.wav").touch()
    write_wav("in/11a.wav", samples=np.full(1000, np.nan, np.float32))
    os.mkfifo(tmp_path / "in/12a.wav")
    return tmp_path / "in"


@pytest.mark.usefixtures("four_cores")
@pytest.mark.parametrize("model", ["logmel", "hubert"])
def test_stored_rows_do_not_depend_on_workers(
    model: str, sounds: Path, tmp_path: Path, checkpoint: Callable[[str], Path]
) -> None:
    options: dict[str, Any] = {"model": model if model == "logmel" else str(checkpoint(model)), "batch_seconds": 4.0}
    options |= {"window": 2.0, "hop": 1.0}
    found = []
    for workers in (0, 1, 3, "auto"):
        with embedx.extract(sounds, workers=workers, out=tmp_path / str(workers), **options) as collection:
            reasons = [(one.path, one.reason, one.detail) for one in collection.failures()]
            recordings = {
                path: (one.content_hash, one.duration_s, one.rate, one.channels, one.flags)
                for path, one in collection.store.recordings().items()
            }
            found.append((collection.rows(), collection.vectors(), reasons, recordings))
    rows, vectors, reasons, recordings = found[0]
    assert len(reasons) == 4
    assert rows.index.tolist() == list(range(1, len(rows) + 1))
    for other_rows, other_vectors, other_reasons, other_recordings in found[1:]:
        pd.testing.assert_frame_equal(other_rows, rows)
        np.testing.assert_allclose(other_vectors, vectors, atol=1e-6 * np.abs(vectors).max())
        assert other_reasons == reasons
        assert other_recordings == recordings


@pytest.mark.usefixtures("four_cores")
@pytest.mark.parametrize(
    "name",
    [
        *("hubert", "logmel"),
        *(pytest.param(name, marks=pytest.mark.long) for name in ("wavlm", "data2vec", "conformer-rotary", "whisper")),
    ],
)
def test_threads_do_not_share_batches(name: str, checkpoint: Callable[[str], Path]) -> None:
    model = name if name == "logmel" else str(checkpoint(name))
    extractor = extractors.load(model)
    embedder = Embedder(extractor, recipe_of(extractor, model, ("mean",)), batch_seconds=3.0)
    dice = np.random.default_rng(0)
    clips = [dice.uniform(-0.5, 0.5, dice.integers(2_000, 40_000)).astype(np.float32) for _ in range(30)]
    windows = [(i, Window(0.0, len(clip) / 16_000, clip)) for i, clip in enumerate(clips)]
    alone = {key: vectors for key, vectors, _ in embedder.embed(windows, threads=1)}
    together = {key: vectors for key, vectors, _ in embedder.embed(windows, threads=4)}
    assert list(together) == list(alone)  # in the same order too
    for key, vectors in alone.items():
        for view, vector in vectors.items():
            np.testing.assert_allclose(together[key][view], vector, atol=1e-5 * max(1.0, np.abs(vector).max()))


@pytest.mark.parametrize("name", ["hubert", "data2vec", "conformer-rotary"])
def test_concurrent_passes_keep_their_own_lengths(name: str, checkpoint: Callable[[str], Path]) -> None:
    """Neither pass starts its convolutions before the other has announced the lengths of its clips."""
    extractor: Any = extractors.load(str(checkpoint(name)), backend="reference")
    waves = torch.rand(2, 2, 16_000, generator=torch.Generator().manual_seed(0)) - 0.5
    lengths = torch.tensor([[16_000, 9_000], [16_000, 3_000]])
    meet = threading.Barrier(2, timeout=60)

    @torch.inference_mode()
    def last(number: int) -> torch.Tensor:
        ((_, frames, _),) = extractor.frames(waves[number], lengths[number], extractor.layers[-1:])
        return torch.cat([frames[0], frames[1, : lengths[number, 1] // 320 - 1]])

    alone = [last(0), last(1)]
    hook = extractor.model.feature_extractor.register_forward_pre_hook(lambda *_: [meet.wait(), None][1])
    with ThreadPoolExecutor(2) as pool:
        together = list(pool.map(last, range(2)))
    hook.remove()
    for ours, expected in zip(together, alone, strict=True):
        torch.testing.assert_close(ours, expected, atol=1e-5, rtol=0)


def piece(samples: int) -> WindowRead:
    return WindowRead(0, None, Window(0.0, samples / 16_000, np.zeros(samples, np.float32)))


def give_up_after_a_minute() -> Callable[[], None]:
    """Return a function to call while a consumer waits."""
    deadline = time.monotonic() + 60

    def give_up() -> None:
        if time.monotonic() > deadline:
            raise TimeoutError("No event came within a minute.")

    return give_up


def test_prefetch_buffer_is_bounded_and_keeps_order() -> None:
    """Eight readers are much faster than the consumer; some windows are longer than the budget."""
    budget, dice = 40_000, random.Random(0)
    lengths = [[dice.choice((10, 3_000, 30_000, 60_000)) for _ in range(dice.randint(0, 6))] for _ in range(80)]
    buffer, jobs = PrefetchBuffer(budget), iter(enumerate(lengths))

    def read() -> None:
        while (job := buffer.next_job(jobs)) is not None:
            for length in job[1]:
                buffer.put(job[0], piece(length))
            buffer.put(job[0], RecordingDone(RecordingFacts(flags=(str(job[0]),))))

    threads = [threading.Thread(target=read, daemon=True) for _ in range(8)]
    for thread in threads:
        thread.start()
    for number, expected in enumerate(lengths):
        events = list(buffer.take(number, give_up_after_a_minute()))
        assert [len(event.window.samples) for event in events if isinstance(event, WindowRead)] == expected
        assert events[-1] == RecordingDone(RecordingFacts(flags=(str(number),)))
        time.sleep(0.001)
    for thread in threads:
        thread.join(10)
        assert not thread.is_alive()
    assert buffer.held == 0
    assert 0.5 * budget < buffer.peak <= budget + 60_000 + prefetch.EVENT_SAMPLES


def test_prefetch_buffer_is_bounded_for_failures_too() -> None:
    buffer = PrefetchBuffer(10 * prefetch.EVENT_SAMPLES)

    def read() -> None:
        for number in range(1000):
            buffer.put(number, RecordingDone(RecordingFacts()))

    reader = threading.Thread(target=read, daemon=True)
    reader.start()
    for number in range(1000):
        assert list(buffer.take(number, give_up_after_a_minute())) == [RecordingDone(RecordingFacts())]
    reader.join(10)
    assert buffer.peak <= 10 * prefetch.EVENT_SAMPLES


def test_prefetch_buffer_reports_waiting_and_stops_readers(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(prefetch, "TICK_S", 0.01)
    buffer, waited = PrefetchBuffer(1000), list[int]()

    def lose_patience() -> None:
        waited.append(1)
        if len(waited) == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        next(buffer.take(0, lose_patience))
    ended = threading.Event()

    def read() -> None:
        with pytest.raises(Stopped):
            for _ in range(3):
                buffer.put(1, piece(500))
        ended.set()

    threading.Thread(target=read, daemon=True).start()
    time.sleep(0.05)
    assert not ended.is_set()
    buffer.stop()
    assert ended.wait(60)


class Breaking(LogMelStatistics):
    """A model that fails at its fifth batch."""

    def __init__(self) -> None:
        super().__init__()
        self.batches = iter(range(1000))

    def frames(self, *arguments: Any) -> Iterator[tuple[int, torch.Tensor, torch.Tensor]]:
        if next(self.batches) == 4:
            raise RuntimeError("the model broke")
        return super().frames(*arguments)


@pytest.mark.long
@pytest.mark.usefixtures("four_cores")
def test_failing_model_stops_readers_and_workers(sounds: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    options: dict[str, Any] = {"workers": 3, "batch_seconds": 0.5, "window": 1.0, "out": tmp_path / "c"}
    before = threading.active_count()
    with monkeypatch.context() as patch:
        patch.setattr(logmel, "load", lambda *_, **__: Breaking())
        with pytest.raises(RuntimeError, match="the model broke"):
            embedx.extract(sounds, **options)
    assert threading.active_count() == before
    assert torch.get_num_threads() == 4
    for decoder in DECODERS.idle:  # each waits for its next recording, or was ended
        assert decoder.length_of(str(sounds / "01.wav")) == 4.0
    embedx.extract(sounds, **options).close()
    embedx.extract(sounds, workers=0, window=1.0, out=tmp_path / "whole").close()
    assert_same(tmp_path / "c", tmp_path / "whole")


@linux
@pytest.mark.parametrize("number", [pytest.param(signal.SIGINT, marks=pytest.mark.long), signal.SIGTERM])
def test_signal_commits_finished_work_and_leaves_no_process(
    number: signal.Signals, write_wav: WriteWav, tmp_path: Path
) -> None:
    for i in range(40):
        write_wav(f"in/{i:02}.wav", seconds=20.0, rate=44_100)
    command = [sys.executable, "-m", "embedx", "extract", str(tmp_path / "in"), "-o", str(tmp_path / "c")]
    command += ["--workers", "3", "--window", "1", "--hop", "0.1", "--batch-seconds", "2"]
    process = subprocess.Popen(command, env=os.environ | {"PYTHONPATH": str(ROOT)}, stderr=subprocess.PIPE, text=True)
    assert process.stderr is not None
    process.stderr.readline()  # the plan
    wait_until(lambda: len(children(process.pid)) == 3)
    found = children(process.pid)
    wait_until(lambda: (tmp_path / "c/store.db-wal").exists() and embedded(tmp_path / "c"))
    process.send_signal(number)
    process.communicate(timeout=60)
    assert process.returncode == 128 + number
    wait_until(lambda: not any(map(is_alive, found)))
    assert 1 <= embedded(tmp_path / "c") < 40


ORDERS: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "any": lambda lengths: lengths,
    "ascending": np.sort,
    "descending": lambda lengths: -np.sort(-lengths),
    "short and long in turn": lambda lengths: np.stack([np.sort(lengths), -np.sort(-lengths)], axis=1).ravel(),
    "like in runs of a hundred": lambda lengths: np.random.default_rng(1).permutation(
        np.sort(lengths).reshape(-1, 100)
    ).ravel(),
}  # fmt: skip


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("least, most", [(0.3, 30.0), (0.98, 2.3)])
@pytest.mark.parametrize("batch_seconds", [None, pytest.param(600.0, marks=pytest.mark.long)])
def test_batches_pad_at_most_a_tenth_in_any_order(
    order: str, least: float, most: float, batch_seconds: float | None
) -> None:
    extractor = extractors.load("logmel")
    embedder = Embedder(extractor, recipe_of(extractor, "logmel"), batch_seconds=batch_seconds)
    seconds = np.exp(np.random.default_rng(0).uniform(np.log(least), np.log(most), 2_000))
    windows = [
        (i, Window(0.0, 0.0, np.broadcast_to(np.float32(0), round(length * 16_000))))
        for i, length in enumerate(ORDERS[order](seconds))
    ]
    batches = list(embedder._batches(iter(windows)))
    assert sorted(key for batch in batches for key, _ in batch) == list(range(len(windows)))
    computed = heard = 0
    for batch in batches:
        lengths = [max(extractor.min_samples, len(window.samples)) for _, window in batch]
        assert len(batch) == 1 or len(batch) * max(lengths) <= embedder.budget
        assert len(batch) * max(lengths) <= 1.10 * sum(lengths)
        computed, heard = computed + len(lengths) * max(lengths), heard + sum(lengths)
    assert embedder.padding == pytest.approx(computed / heard)


@pytest.mark.parametrize("seconds", [pytest.param(0.05, marks=pytest.mark.long), 0.3, 7.0])
def test_sorted_buffer_stays_within_its_bounds(seconds: float) -> None:
    """For any corpus length, and for clips shorter than the minimum input of the model."""
    extractor = extractors.load("logmel")
    extractor.min_samples = 16_000
    embedder = Embedder(extractor, recipe_of(extractor, "logmel"), batch_seconds=2.0)
    clip = Window(0.0, seconds, np.zeros(round(seconds * 16_000), np.float32))
    held = most = 0

    def stream() -> Iterator[tuple[int, Window]]:
        nonlocal held, most
        for key in range(int(2_000 / seconds)):
            held += len(clip.samples)
            most = max(most, held)
            yield key, clip

    for batch in embedder._batches(stream()):
        held -= len(batch) * len(clip.samples)
    assert held == 0
    assert most <= embedder.pool + embedder.budget + len(clip.samples)


def test_run_reports_its_padding(write_wav: WriteWav, tmp_path: Path) -> None:
    for i, seconds in enumerate((10.0, 4.0, 3.7, 2.0)):  # 10 alone, 4 + 3.7 as 2 x 4, 2 alone
        write_wav(f"in/{i}.wav", seconds=seconds)
    seen: list[embedx.Progress] = []
    embedx.extract(tmp_path / "in", out=tmp_path / "c", on_progress=seen.append).close()
    assert seen[-1].padding == pytest.approx((10 + 2 * 4 + 2) / 19.7)


def workers_of(count: int) -> list[Worker]:
    return [Worker(extractors.load("logmel"), "cpu", Room())] * count


@pytest.mark.parametrize("count", [1, 2, 5])
def test_workers_keep_order_and_take_few_jobs_ahead(count: int) -> None:
    dice, taken, threads = random.Random(0), list[int](), torch.get_num_threads()

    def jobs() -> Iterator[int]:
        for job in range(50):
            taken.append(job)
            yield job

    def work(worker: Worker, job: int) -> int:
        time.sleep(dice.uniform(0, 0.002))
        return job * job

    for done, (job, result) in enumerate(run_in_order(workers_of(count), work, jobs())):
        assert (job, result) == (done, done * done)
        assert len(taken) - done <= (1 if count == 1 else embedding.workers.JOBS_PER_WORKER * count)
    assert len(taken) == 50
    assert torch.get_num_threads() == threads
    with ThreadPoolExecutor() as later:
        assert later.submit(torch.get_num_threads).result() == threads


def test_workers_run_concurrently_with_one_job_each() -> None:
    meet = threading.Barrier(3, timeout=60)
    for _ in run_in_order(workers_of(3), lambda worker, job: meet.wait(), range(9)):  # or else BrokenBarrierError
        pass


def test_error_of_worker_is_raised_in_order_and_rest_dropped() -> None:
    started: list[int] = []

    def work(worker: Worker, job: int) -> int:
        started.append(job)
        return 1 // (job - 7)

    results = run_in_order(workers_of(2), work, range(1000))
    assert [job for job, _ in islice(results, 7)] == list(range(7))
    with pytest.raises(ZeroDivisionError):
        next(results)
    assert len(started) <= 8 + embedding.workers.JOBS_PER_WORKER * 2


@pytest.mark.parametrize("name", ["hubert", "wavlm", "hubert-batch-norm", "whisper"])
def test_model_copy_for_another_device_gives_equal_vectors(name: str, checkpoint: Callable[[str], Path]) -> None:
    extractor = extractors.load(str(checkpoint(name)))
    other = copy.deepcopy(extractor)
    waves, lengths = torch.rand(2, 16_000) - 0.5, torch.tensor([16_000, 9_000])
    with torch.inference_mode():
        for (_, ours, _), (_, its, _) in zip(
            extractor.frames(waves, lengths, extractor.layers), other.frames(waves, lengths, extractor.layers),
            strict=True,
        ):  # fmt: skip
            assert torch.equal(ours, its)


def test_work_is_shared_only_if_there_is_enough(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(prefetch, "count_cores", lambda: 16)
    assert [share_work(recordings, 0) for recordings in (0, 1, 31, 32, 100, 10_000)] == [1, 1, 1, 2, 4, 16]
    assert [share_work(1, octets) for octets in (10**6, 10**8, 10**12)] == [1, 2, 16]
