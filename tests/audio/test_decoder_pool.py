"""The decoder pool: no file of a user is decoded in the process of the user, and a decoder that dies is replaced."""

import ast
import contextlib
import os
import shutil
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import soundfile

import embedx
from embedx.audio import decoder_pool, decoder_process
from embedx.audio.decoder_pool import DECODERS, DecoderPool
from embedx.audio.decoder_process import Decoder
from embedx.audio.excerpts import wav_bytes
from embedx.errors import AudioError, DecoderDied, EmbedxError
from tests.helpers.paths import ROOT
from tests.helpers.processes import children, has_open, is_alive, linux, wait_until
from tests.helpers.window_reading import RECIPE, read

WriteWav = Callable[..., Path]
DECODING = tuple(f"embedx.audio.{name}" for name in ("decode", "excerpts", "ffmpeg", "inspection", "parts", "windows"))


@pytest.fixture
def pool() -> Iterator[DecoderPool]:
    pool = DecoderPool()
    yield pool
    pool.close()


@pytest.fixture
def own(made: Path, tmp_path: Path) -> Path:
    """A copy of the generated collection with a head and a damaged vector."""
    folder = tmp_path / "own"
    shutil.copytree(made, folder)
    with embedx.open(folder) as collection:
        collection.fit_head(C=1.0, name="class")
    with contextlib.closing(sqlite3.connect(folder / "store.db")) as db, db:
        ((table,),) = db.execute("SELECT vectors FROM views WHERE name = 'L0.mean'")
        db.execute(f"UPDATE {table} SET vector = zeroblob(length(vector)) WHERE id = 3")
    return folder


WITHOUT_DECODERS = """
import sys
sys.modules["soundfile"] = sys.modules["av"] = None  # importing either raises ImportError
import embedx
from embedx.collection.verify import verify_collection
folder, wav, out = sys.argv[1:]
assert verify_collection(folder, repair=True).remade == [3]
with embedx.open(folder) as collection:
    assert len(collection.search(wav, k=3)) == 3
    assert len(collection.search(wav, k=3, exclude_self=True)) == 3
    assert len(collection.search(like=[wav], k=3)) == 3
    assert [len(hits) for hits in collection.search_many([wav], k=2).values()] == [2]
    assert len(collection.predict(wav, head="class")) == 1
    assert collection.search(wav, k=2).save_clips(out) == []
embedx.extract(wav, out=out + "/extracted").close()
"""


def test_user_process_never_decodes_a_file(own: Path, tmp_path: Path) -> None:
    with embedx.open(own) as collection:
        wav = collection.store.rows([1])[0].path
    out = tmp_path / "clips"
    command = [sys.executable, "-c", WITHOUT_DECODERS, str(own), wav, str(out)]
    run = subprocess.run(command, capture_output=True, text=True, env=os.environ | {"PYTHONPATH": str(ROOT)})
    assert run.returncode == 0, run.stderr
    for clip in out.glob("*.wav"):
        samples, rate = soundfile.read(clip)
        assert rate > 0 and len(samples)


def test_only_audio_imports_functions_that_decode() -> None:
    values = {"SUFFIXES", "require_regular", "Window", "count_windows", "CHANNELS", "TAILS"}
    values |= {"wav_bytes", "flac_bytes", "MAX_FLAC"}  # they encode
    values |= {"is_clipped", "SILENT_THRESHOLD", "read_wav", "read_wave"}  # of samples that were decoded
    for path in (ROOT / "embedx").rglob("*.py"):
        if path.parent.name == "audio":
            continue
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.ImportFrom) and node.module in ("embedx.audio", *DECODING):
                assert {alias.name for alias in node.names} <= values, path


@pytest.mark.long
@linux
def test_query_that_crashes_every_decoder_is_an_error_and_next_query_works(
    collection: embedx.Collection, write_wav: WriteWav
) -> None:
    """Kill every child that has bad.wav open."""
    good, bad = write_wav("good.wav"), write_wav("bad.wav", seconds=300.0, rate=48_000)
    over = threading.Event()

    def kill_readers() -> None:
        while not over.wait(0.001):
            for child in children(os.getpid()):
                if has_open(child, "/bad.wav"):
                    os.kill(child, 9)

    killer = threading.Thread(target=kill_readers)
    killer.start()
    try:
        for question in (lambda: collection.search(bad), lambda: DECODERS.read_excerpt(str(bad), 0.0, 250.0)):
            with pytest.raises(DecoderDied, match=r"bad.wav: the decoder crashed \(killed by SIGKILL\), in 2 attempts"):
                question()
    finally:
        over.set()
        killer.join()
    assert len(collection.search(good, k=1)) == 1


def test_decoder_that_dies_once_is_replaced_and_no_window_repeats(pool: DecoderPool, write_wav: WriteWav) -> None:
    path = str(write_wav(seconds=120.0))
    decoder = Decoder()
    pool.idle.append(decoder)
    windows = pool.read(path, RECIPE)
    starts = [next(windows)[2].start_s for _ in range(3)]
    assert decoder.child is not None
    decoder.child.process.kill()
    starts += [window.start_s for *_, window in windows]
    assert starts == [float(start) for start in range(0, 120, 10)]


def test_relative_path_is_read_after_change_of_folder(
    pool: DecoderPool, write_wav: WriteWav, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("one/a.wav", "other/a.wav"):
        path = write_wav(name)
        monkeypatch.chdir(path.parent)
        assert pool.hash_content("a.wav") == pool.hash_content(str(path))


def test_closed_pool_ends_its_idle_decoders(write_wav: WriteWav) -> None:
    path = str(write_wav())
    pool = DecoderPool(max_idle=1)
    with pool.borrow() as first, pool.borrow() as second:
        decoders = (first, second)
        assert [decoder.length_of(path) for decoder in decoders] == [1.0, 1.0]
        pids = [decoder.child.process.pid for decoder in decoders if decoder.child]
    assert len(pool.idle) == 1
    assert sum(map(is_alive, pids)) == 1
    pool.close()
    wait_until(lambda: not any(map(is_alive, pids)))
    with pytest.raises(EmbedxError, match="closed"), pool.borrow():
        pass


def test_decoders_that_nobody_needs_are_not_kept_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    pool = DecoderPool(max_idle=10)
    with contextlib.ExitStack() as stack:
        decoders = [stack.enter_context(pool.borrow()) for _ in range(12)]
    assert pool.idle == decoders[9::-1]
    monkeypatch.setattr(decoder_pool, "UNUSED_S", 0.0)
    with pool.borrow() as last:
        assert last is decoders[0]
    assert len(pool.idle) == decoder_pool.MIN_IDLE
    assert pool.idle[-1] is last


def test_pool_shared_by_threads_gives_each_its_windows(pool: DecoderPool, write_wav: WriteWav) -> None:
    paths = [str(write_wav(f"{'x' * n}.wav", seconds=12.0)) for n in range(1, 4)]
    expected = [read(Path(path), window_s=1.0) for path in paths]
    recipe = embedx.Recipe(**(vars(RECIPE) | {"window_s": 1.0}))
    with ThreadPoolExecutor(3) as threads:
        results = list(threads.map(lambda path: [window for *_, window in pool.read(path, recipe)], paths * 4))
    for windows, same in zip(results, expected * 4, strict=True):
        np.testing.assert_array_equal([one.samples for one in windows], [one.samples for one in same])
    assert len(pool.idle) <= 3


def test_excerpt_has_all_channels_and_rate_of_recording(pool: DecoderPool, write_wav: WriteWav) -> None:
    samples = np.random.default_rng(0).uniform(-1, 1, (88_200, 3)).astype(np.float32)
    path = write_wav(samples=samples, rate=44_100)
    frames, rate = pool.read_excerpt(str(path), 0.5, 1.25)
    assert rate == 44_100
    np.testing.assert_array_equal(frames, samples[22_050:55_125])
    copy = path.with_name("copy.wav")
    copy.write_bytes(wav_bytes(frames, rate))
    info = soundfile.info(copy)
    assert (info.samplerate, info.channels, info.subtype) == (44_100, 3, "FLOAT")
    np.testing.assert_array_equal(soundfile.read(copy, dtype="float32")[0], frames)
    with pytest.raises(AudioError, match="is 2 s long; there is no audio at 5 s"):
        pool.read_excerpt(str(path), 5.0, 6.0)


def test_large_excerpt_is_sent_in_blocks(
    pool: DecoderPool, write_wav: WriteWav, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(decoder_process, "MAX_BLOCK_VALUES", 1 << 19)
    path = str(write_wav(seconds=100.0))
    frames, _ = pool.read_excerpt(path, 0.0, 100.0)
    assert frames.shape == (1_600_000, 1)
