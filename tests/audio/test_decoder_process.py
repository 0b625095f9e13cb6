import errno
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import embedx
from embedx.audio import decoder_process
from embedx.audio.decoder_pool import DECODERS
from embedx.audio.decoder_process import Decoder
from embedx.audio.windows import read_channels
from embedx.errors import AudioError, DecoderDied, EmbedxError
from embedx.processes import channels
from embedx.processes.channels import Channel
from tests.helpers.collections import assert_same
from tests.helpers.paths import ROOT
from tests.helpers.processes import children, has_open, is_alive, linux, open_files, wait_until
from tests.helpers.window_reading import RECIPE

WriteWav = Callable[..., Path]


@pytest.fixture
def decoder() -> Iterator[Decoder]:
    decoder = Decoder()
    yield decoder
    decoder.stop()


def test_decoder_process_windows_equal_in_process_windows(write_wav: WriteWav, decoder: Decoder) -> None:
    path = str(write_wav(os.fsdecode(b"caf\xe9.wav"), samples=np.random.default_rng(0).uniform(-1, 1, (300_000, 2))))
    cases: tuple[dict[str, Any], ...] = (
        {},
        {"window_s": 1.0},
        {"channels": "each"},
        {"trim_silence": True},
        {"tail": "pad"},
    )
    for changes in cases:
        recipe = embedx.Recipe(**(vars(RECIPE) | {"window_s": 2.0} | changes))
        ours, theirs = (list(read(path, recipe, 0.5, 9.0)) for read in (decoder.read, read_channels))
        assert len(ours) == len(theirs) > 1
        for (clip, channel, window), (expected, its_channel, its) in zip(ours, theirs, strict=True):
            assert clip == expected
            assert (channel, window.start_s, window.end_s, window.flags) == (
                its_channel, its.start_s, its.end_s, its.flags,
            )  # fmt: skip
            np.testing.assert_array_equal(window.samples, its.samples)


def test_audio_error_in_decoder_arrives_unchanged(tmp_path: Path, decoder: Decoder) -> None:
    (tmp_path / "a\n\udce9.wav").write_text("this is text")
    os.mkfifo(tmp_path / "pipe.wav")
    for name in ("a\n\udce9.wav", "pipe.wav", "missing.wav", "x" * 3_000_000, "nul\0.wav"):
        with pytest.raises(AudioError) as expected:
            list(read_channels(str(tmp_path / name), RECIPE))
        with pytest.raises(AudioError) as found:
            list(decoder.read(str(tmp_path / name), RECIPE))
        assert (found.value.reason, found.value.detail) == (expected.value.reason, expected.value.detail)
    with pytest.raises(AudioError):
        decoder.hash_content(str(tmp_path / "missing.wav"))
    assert decoder.length_of(str(tmp_path / "missing.wav")) is None


def test_decoder_process_is_reused_and_loads_no_torch(write_wav: WriteWav, tmp_path: Path) -> None:
    wav = write_wav()
    embedx.extract(wav, out=tmp_path / "a").close()
    found = [one.child and one.child.process.pid for one in DECODERS.idle]
    embedx.extract(wav, out=tmp_path / "b").close()
    assert [one.child and one.child.process.pid for one in DECODERS.idle] == found
    with DECODERS.borrow() as one, DECODERS.borrow() as other:
        assert list(one.read(str(wav), RECIPE)) and list(other.read(str(wav), RECIPE))
        assert one.child is not None and other.child is not None
        assert one.child.process.pid != other.child.process.pid
        if sys.platform == "linux":
            mapped = Path(f"/proc/{one.child.process.pid}/maps").read_text()
            assert not any(name in mapped for name in ("torch", "pandas", "sklearn", "faiss"))


@linux
def test_decoder_process_has_no_store_file_open(write_wav: WriteWav, tmp_path: Path) -> None:
    wav = write_wav(seconds=5.0)
    seen: list[str] = []

    def look(progress: embedx.Progress) -> None:
        for child in children(os.getpid()):
            seen.extend(open_files(child))

    DECODERS.stop_idle()
    embedx.extract(wav, window=1.0, batch_seconds=0.1, out=tmp_path / "c", on_progress=look).close()
    assert any("socket" in one for one in seen)
    assert not any(str(tmp_path / "c") in one for one in seen)


def test_decoder_killed_once_restarts_without_lost_or_double_rows(write_wav: WriteWav, tmp_path: Path) -> None:
    for name in ("a", "b", "c"):
        write_wav(f"in/{name}.wav", seconds=20.0)
    windows = iter(range(10_000))

    def kill(*_: object) -> int:  # asked after every window
        if next(windows) == 25:
            for one in busy:
                assert one.child is not None
                one.child.process.kill()
        return 0

    busy: list[Decoder] = []
    with DECODERS.borrow() as decoder:
        busy.append(decoder)
    assert DECODERS.idle[-1] is decoder  # the run takes this one
    options: dict[str, Any] = {"window": 1.0, "batch_seconds": 0.1}
    with embedx.extract(tmp_path / "in", out=tmp_path / "killed", interrupted=kill, **options) as collection:
        assert collection.failures() == []
        assert collection.rows().index.tolist() == list(range(1, 61))
        assert collection.rows()["start_s"].tolist() == [*range(20)] * 3
    embedx.extract(tmp_path / "in", out=tmp_path / "whole", **options).close()
    assert next(windows) > 60  # the killed recording was read from its start again
    assert_same(tmp_path / "killed", tmp_path / "whole")


@linux
@pytest.mark.parametrize(
    "number, reason, workers", [(signal.SIGKILL, "decoder-crash", 3), (signal.SIGSTOP, "decoder-hang", 1)]
)
def test_file_that_crashes_or_hangs_decoder_fails_alone(
    write_wav: WriteWav, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int, reason: str, workers: int
) -> None:
    """Send the signal to a real child whenever it has bad.wav open, as if the file caused it."""
    for name in ("a", "bad", "c"):
        write_wav(f"in/{name}.wav", seconds=300.0 if name == "bad" else 2.0, rate=48_000)
    timeouts = {"bad.wav": 1.0}  # the others may take their time on a machine with other work
    monkeypatch.setattr(decoder_process, "timeout_for", lambda path: timeouts.get(os.path.basename(path), 60.0))
    over, struck = threading.Event(), set[int]()

    def strike() -> None:
        while not over.is_set():
            for child in set(children(os.getpid())) - struck:
                if has_open(child, "/bad.wav"):
                    os.kill(child, number)
                    struck.add(child)
            time.sleep(0.001)

    striker = threading.Thread(target=strike)
    striker.start()
    try:
        with embedx.extract(tmp_path / "in", window=1.0, workers=workers, out=tmp_path / "c") as collection:
            (failure,) = collection.failures()
            assert (os.path.basename(failure.path), failure.reason) == ("bad.wav", reason)
            assert "bad.wav" in failure.detail
            assert "2 attempts" in failure.detail
            names = [os.path.basename(path) for path in collection.rows()["path"]]
            assert names == ["a.wav"] * 2 + ["c.wav"] * 2
    finally:
        over.set()
        striker.join()
    assert len(struck) in (2, 3)  # each of two tries at reading it, and where the look at its header was met, that
    wait_until(lambda: not any(map(is_alive, struck)))


def test_signal_while_decoder_hangs_stops_the_run(
    write_wav: WriteWav, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The second recording hangs the decoder; the first is committed, and the run stops without waiting."""
    good, bad = write_wav("a.wav", seconds=2.0), write_wav("b.wav", seconds=300.0)
    monkeypatch.setattr(decoder_process, "timeout_for", lambda path: 600.0)
    begun = time.monotonic()
    with DECODERS.borrow() as decoder:
        list(decoder.read(str(good), RECIPE))

    def on_progress(progress: embedx.Progress) -> None:
        assert decoder.child is not None
        os.kill(decoder.child.process.pid, signal.SIGSTOP)

    asked = iter(range(99))
    with pytest.raises(embedx.EmbedxError) as caught:
        embedx.extract([good, bad], out=tmp_path / "c", on_progress=on_progress,
                       interrupted=lambda: signal.SIGTERM if next(asked) > 0 else 0)  # fmt: skip
    assert getattr(caught.value, "exit_code", 0) == 143
    assert time.monotonic() - begun < 60  # seconds, not the timeout of ten minutes
    assert decoder.child is None


SCRIPT = """
import sys, embedx
print("run as", __name__, flush=True)
with embedx.extract(sys.argv[1], window=1.0, batch_seconds=0.1, out=sys.argv[2]) as collection:
    print(len(collection), "rows")
"""


def run_script(tmp_path: Path, wav: Path) -> "subprocess.Popen[str]":
    (tmp_path / "script.py").write_text(SCRIPT)
    (tmp_path / "json.py").write_text("raise SystemExit('a module of the current folder was imported')")
    return subprocess.Popen(
        [sys.executable, "-P", str(tmp_path / "script.py"), str(wav), str(tmp_path / "c")],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
    )  # fmt: skip


@pytest.mark.long
def test_script_without_main_guard_runs_once(write_wav: WriteWav, tmp_path: Path) -> None:
    out, err = run_script(tmp_path, write_wav(seconds=3.0)).communicate(timeout=60)
    assert (out.splitlines(), err) == (["run as __main__", "3 rows"], "")


@linux
@pytest.mark.long
def test_killed_parent_leaves_no_decoder(write_wav: WriteWav, tmp_path: Path) -> None:
    process = run_script(tmp_path, write_wav(seconds=600.0, rate=48_000))
    wait_until(lambda: any(has_open(child, "/a.wav") for child in children(process.pid)))
    found = children(process.pid)
    process.kill()
    process.communicate()
    assert found
    wait_until(lambda: not any(map(is_alive, found)))


FORK = """
import os, sys
sys.path[:0] = [sys.argv[1]]
from embedx.audio.decoder_process import Decoder
from tests.helpers.window_reading import RECIPE
decoder = Decoder()
list(decoder.read(sys.argv[2], RECIPE))
before = decoder.child.process.pid
pid = os.fork()
assert len(list(decoder.read(sys.argv[2], RECIPE))) == 1
assert (decoder.child.process.pid == before) == bool(pid)
if not pid:
    decoder.stop()
    os._exit(0)
assert os.waitpid(pid, 0)[1] == 0
assert decoder.child.process.poll() is None
decoder.stop()
print("both")
"""


@linux
def test_forked_process_starts_its_own_decoder(write_wav: WriteWav) -> None:
    wav = str(write_wav(seconds=3.0))
    run = subprocess.run([sys.executable, "-c", FORK, str(ROOT), wav], capture_output=True, text=True, cwd=ROOT)
    assert (run.stdout, run.stderr) == ("both\n", "")


def test_window_beyond_memory_limit_is_a_failure(
    write_wav: WriteWav, decoder: Decoder, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A window of an hour at 768 kHz is 11 GB; silence of that length is a small FLAC."""
    import soundfile

    path = str(write_wav()) + ".flac"
    with soundfile.SoundFile(path, "w", 100, 1, format="FLAC") as file:
        file.write(np.zeros(360_000, np.float32))
    recipe = embedx.Recipe(**(vars(RECIPE) | {"sample_rate": 768_000, "window_s": 3600.0}))
    with pytest.raises(AudioError, match="4 GB") as caught:
        list(decoder.read(path, recipe))
    assert caught.value.reason == "too-large"
    assert decoder.child is not None  # and it goes on
    assert len(list(decoder.read(path, RECIPE))) == 360


def test_reader_that_stops_early_ends_decoder(write_wav: WriteWav, decoder: Decoder) -> None:
    path = str(write_wav(seconds=600.0))
    windows = decoder.read(path, RECIPE)
    next(windows)
    windows.close()
    assert decoder.child is None
    assert len(list(decoder.read(path, RECIPE))) == 60


def test_decoder_that_cannot_start_blames_no_recording(
    write_wav: WriteWav, decoder: Decoder, monkeypatch: pytest.MonkeyPatch
) -> None:
    wav = str(write_wav())
    for executable in ("/bin/false", "/nowhere/python"):
        monkeypatch.setattr(sys, "executable", executable)
        with pytest.raises(EmbedxError, match="decodes audio") as caught:
            list(decoder.read(wav, RECIPE))
        assert not isinstance(caught.value, AudioError)


def killed_at_start(starts: int, monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Let the next decoders be killed before they are ready; return the list of all that are started."""
    started: list[int] = []

    class Killed(subprocess.Popen[bytes]):
        def __init__(self, *arguments: Any, **options: Any) -> None:
            super().__init__(*arguments, **options)
            started.append(self.pid)
            if len(started) <= starts:
                self.kill()

    monkeypatch.setattr(subprocess, "Popen", Killed)
    return started


def test_decoder_killed_while_it_starts_is_started_again(
    write_wav: WriteWav, decoder: Decoder, monkeypatch: pytest.MonkeyPatch
) -> None:
    started = killed_at_start(2, monkeypatch)
    assert list(decoder.read(str(write_wav()), RECIPE))
    assert len(started) == 3


def test_decoders_killed_at_every_start_cost_one_file_each(
    write_wav: WriteWav, decoder: Decoder, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(decoder_process, "START_WAITS_S", (0.0, 0.0, 0.0))
    started = killed_at_start(3, monkeypatch)
    with pytest.raises(DecoderDied, match=r"did not start.*SIGKILL.*3 attempts") as caught:
        list(decoder.read(str(write_wav()), RECIPE))
    assert (caught.value.reason, len(started)) == ("decoder-crash", 3)
    assert list(decoder.read(str(write_wav()), RECIPE)), "the next file finds a decoder"


def test_run_goes_on_when_decoders_are_killed_at_their_start(
    write_wav: WriteWav, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in "abc":
        write_wav(f"in/{name}.wav")
    DECODERS.stop_idle()
    monkeypatch.setattr(decoder_process, "START_WAITS_S", (0.0, 0.0))
    killed_at_start(2 * (3 + 2), monkeypatch)  # three reads of headers, and both attempts at the first file
    with embedx.extract(tmp_path / "in", out=tmp_path / "c", workers=1) as collection:
        assert len(collection) == 2
        assert [failure.reason for failure in collection.failures()] == ["decoder-crash"]


def test_system_without_room_for_a_process_costs_a_file(
    write_wav: WriteWav, decoder: Decoder, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*arguments: Any, **options: Any) -> None:
        raise BlockingIOError(errno.EAGAIN, "Resource temporarily unavailable")

    with monkeypatch.context() as patched:
        patched.setattr(decoder_process, "START_WAITS_S", (0.0, 0.0))
        patched.setattr(subprocess, "Popen", refuse)
        with pytest.raises(DecoderDied, match="temporarily unavailable"):
            list(decoder.read(str(write_wav()), RECIPE))
    assert list(decoder.read(str(write_wav()), RECIPE))


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\1",
        channels.HEADER.pack(2**32 - 1, 0),
        channels.HEADER.pack(2, 2**31) + b"{}",
        channels.HEADER.pack(2, 0) + b"{]",
    ],
)
def test_invalid_message_ends_the_channel(data: bytes) -> None:
    mine, its = socket.socketpair()
    with mine, its:
        its.sendall(data)
        its.shutdown(socket.SHUT_WR)
        with pytest.raises(EOFError):
            Channel(mine).receive(1000)


def test_channel_round_trip_keeps_messages(write_wav: WriteWav) -> None:
    mine, its = socket.socketpair()
    with mine, its:
        samples = np.arange(10_000, dtype=np.float32)
        message = {"path": "\udce9\n", "window": [1.5, None]}
        Channel(its).send(message, [samples[::-1]])
        found, (received,) = Channel(mine).receive(10_000)
        assert found == json.loads(json.dumps(message))
        np.testing.assert_array_equal(received, samples[::-1])
        assert received.flags.writeable


def test_decoder_death_is_an_audio_error() -> None:
    assert issubclass(DecoderDied, AudioError)  # so that a caller who knows of no child names the file all the same


def test_decoder_ignores_termination_signals(write_wav: WriteWav, decoder: Decoder) -> None:
    windows = decoder.read(str(write_wav(seconds=600.0)), RECIPE)
    next(windows)
    assert decoder.child is not None
    for number in (signal.SIGINT, signal.SIGTERM):
        os.kill(decoder.child.process.pid, number)
    assert len(list(windows)) == 59
