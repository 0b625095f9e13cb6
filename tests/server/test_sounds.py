"""Sounds of rows, clips and recordings over HTTP: audio, spectrograms, waveforms, and how long they are kept."""

import io
import itertools
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
from numpy.typing import NDArray

import embedx
from embedx.audio.excerpts import wav_bytes
from embedx.server import clips as clips_module
from embedx.server.clips import Clips
from embedx.server.settings import Limits
from tests.helpers.pictures import plain_levels, read_png
from tests.helpers.service import Client, Reply, serving

Samples = NDArray[np.float32]
ROWS, CLIPS = "/v1/collections/field/rows", "/v1/clips"
RATE = 16_000


@pytest.fixture(scope="module")
def field(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A collection of windows of 1 s of a stereo recording of 4 s."""
    folder = tmp_path_factory.mktemp("sounds")
    (folder / "corpus").mkdir()
    rng, time = np.random.default_rng(0), np.arange(4 * RATE) / RATE
    left = 0.4 * np.sin(2 * math.pi * (200 + 500 * time) * time)
    soundfile.write(folder / "corpus/a.wav", np.stack([left, rng.normal(0, 0.1, len(time))], axis=1), RATE)
    embedx.extract(folder / "corpus", out=folder / "field", window=1.0).close()
    return folder / "field"


@pytest.fixture(scope="module")
def client(field: Path) -> Iterator[Client]:
    with serving(field) as running:
        yield running


@pytest.fixture(scope="module")
def frames(field: Path) -> Samples:
    frames: Samples = soundfile.read(field.parent / "corpus/a.wav", dtype="float32")[0]
    return frames


def row(client: Client, number: int = 2) -> dict[str, Any]:
    found: dict[str, Any] = client.get(f"{ROWS}/{number}").json["row"]
    return found


def recording(client: Client) -> str:
    return f"/v1/collections/field/recordings/{row(client)['recording']}"


def audio_of(reply: Reply) -> Samples:
    assert reply.status == 200, reply.body
    samples: Samples = soundfile.read(io.BytesIO(reply.body), dtype="float32", always_2d=True)[0]
    return samples


def upload(client: Client, data: bytes) -> Reply:
    return client.form(CLIPS, {}, {"file": data})


def test_spectrogram_of_a_row_equals_its_definition(client: Client, frames: Samples) -> None:
    reply = client.get(f"{ROWS}/2/spectrogram.png?width=40&height=32&fmin=100&fmax=4000")
    assert (reply.headers["content-type"], reply.headers["x-rate"]) == ("image/png", "16000")
    assert (reply.headers["x-fmin"], reply.headers["x-fmax"]) == ("100", "4000")
    samples = frames[RATE : 2 * RATE].mean(axis=1, dtype=np.float64)
    expected = plain_levels(samples, RATE, 40, 32, 46.0, 100.0, 4000.0, "mel")
    np.testing.assert_array_equal(read_png(reply.body), expected)
    left = client.get(f"{ROWS}/2/spectrogram.png?width=40&height=32&scale=linear&channel=0&window_ms=23")
    samples = frames[RATE : 2 * RATE, 0].astype(np.float64)
    expected = plain_levels(samples, RATE, 40, 32, 23.0, 0.0, 8000.0, "linear")
    np.testing.assert_array_equal(read_png(left.body), expected)
    assert client.get(f"{ROWS}/2/spectrogram.png?channel=2").status == 400


def test_audio_of_a_row_with_context_says_where_it_begins(client: Client, frames: Samples) -> None:
    reply = client.get(f"{ROWS}/2/audio?context=0.5&format=flac")
    assert (reply.headers["content-type"], reply.headers["x-start-s"]) == ("audio/flac", "0.5")
    np.testing.assert_array_equal(audio_of(reply), frames[RATE // 2 : RATE * 5 // 2])
    assert len(reply.body) < len(client.get(f"{ROWS}/2/audio?context=0.5").body)
    first = client.get(f"{ROWS}/1/audio?context=0.5")
    assert first.headers["x-start-s"] == "0"
    np.testing.assert_array_equal(audio_of(first), frames[: RATE * 3 // 2])
    for number, start_s, end_s in ((1, "0", "1.5"), (4, "2.5", "4")):  # the recording ends at 4 s
        headers = client.get(f"{ROWS}/{number}/spectrogram.png?context=0.5").headers
        assert (headers["x-start-s"], headers["x-end-s"]) == (start_s, end_s)


def test_answers_are_kept_under_their_version_and_not_sent_twice(client: Client) -> None:
    version = row(client)["v"]
    for path in (f"{ROWS}/2/audio", f"{ROWS}/2/spectrogram.png"):
        fixed = client.get(f"{path}?v={version}")
        assert fixed.headers["cache-control"] == "private, max-age=31536000, immutable"
        for query in ("", "?v=other"):
            assert client.get(path + query).headers["cache-control"] == "private, no-cache"
        again = client.get(path, **{"If-None-Match": fixed.headers["etag"]})
        assert (again.status, again.body) == (304, b"")
    other = client.get(f"{ROWS}/2/spectrogram.png?width=100")
    assert other.headers["etag"] != fixed.headers["etag"]


def test_recording_lists_its_rows_and_its_parts_join(client: Client, frames: Samples) -> None:
    path = recording(client)
    facts = client.get(path).json
    assert (facts["path"], facts["duration_s"], facts["sample_rate"], facts["channels"]) == ("a.wav", 4.0, RATE, 2)
    assert [(one["id"], one["start_s"], one["end_s"]) for one in facts["rows"]] == [
        (number, number - 1.0, float(number)) for number in (1, 2, 3, 4)
    ]
    whole = client.get(f"{path}/spectrogram.png?width=80&height=16&v={facts['v']}")
    assert "immutable" in whole.headers["cache-control"]
    tiles = [
        read_png(client.get(f"{path}/spectrogram.png?width=20&height=16&start_s={second}&end_s={second + 1}").body)
        for second in range(4)
    ]
    np.testing.assert_array_equal(np.hstack(tiles), read_png(whole.body))
    part = client.get(f"{path}/audio?start_s=0.5&end_s=1.5&format=wav")
    assert part.headers["x-start-s"] == "0.5"
    np.testing.assert_array_equal(audio_of(part), frames[RATE // 2 : RATE * 3 // 2])


def test_peaks_hold_the_extremes_of_every_bin(client: Client, frames: Samples) -> None:
    mean = frames.mean(axis=1, dtype=np.float64)
    for start, end, bins in ((0, 4, 37), (1, 3, 1600), (0, 4, 1)):
        reply = client.get(f"{recording(client)}/peaks?start_s={start}&end_s={end}&bins={bins}")
        pairs = np.frombuffer(reply.body, np.int8).reshape(-1, 2)
        samples = mean[start * RATE : end * RATE]
        edges = [len(samples) * number // bins for number in range(bins + 1)]
        expected = [
            (round(127 * samples[a:b].min()), round(127 * samples[a:b].max())) for a, b in itertools.pairwise(edges)
        ]
        np.testing.assert_array_equal(pairs, expected)
    behind = np.frombuffer(client.get(f"{recording(client)}/peaks?start_s=3&end_s=5&bins=10").body, np.int8)
    assert not behind[10:].any()
    assert behind[:10].all()


@pytest.mark.parametrize(
    ("query", "status"),
    [
        ("/audio?start_s=5", 400), ("/audio?start_s=2&end_s=2", 400), ("/audio?start_s=0&end_s=1000", 413),
        ("/spectrogram.png?start_s=0&end_s=601", 413),
        ("/peaks?bins=0", 400), ("/spectrogram.png?width=100000", 400), ("/spectrogram.png?fmin=nan", 400),
        ("/audio?format=mp3", 400),
    ],
)  # fmt: skip
def test_parts_that_cannot_be_are_refused(client: Client, query: str, status: int) -> None:
    assert client.get(recording(client) + query).status == status
    assert client.get("/v1/collections/field/recordings/nosuch" + query.partition("?")[0]).status == 404


def test_the_longest_part_is_drawn_also_behind_the_end(client: Client) -> None:
    reply = client.get(f"{recording(client)}/spectrogram.png?start_s=1&end_s=601&width=600&height=8")
    assert reply.status == 200
    assert np.flatnonzero(read_png(reply.body).any(axis=0)).max() == 2  # 3 s of sound, a second in each column


def test_odd_ranges_of_frequency_give_a_picture(client: Client) -> None:
    for query in ("fmin=1e6", "fmin=5000&fmax=10", "fmax=0", "window_ms=200", "window_ms=1&height=512", "fmin=7999"):
        reply = client.get(f"{ROWS}/2/spectrogram.png?{query}")
        assert reply.status == 200, query
        assert float(reply.headers["x-fmin"]) < float(reply.headers["x-fmax"]) <= RATE / 2


def test_clip_is_usable_wherever_audio_is(client: Client, frames: Samples) -> None:
    data = wav_bytes(frames[RATE : 2 * RATE], RATE)
    facts = upload(client, data).json
    assert facts | {"clip": ""} == {
        "clip": "", "sample_rate": RATE, "channels": 2, "duration_s": 1.0, "flags": [], "expires_s": 900.0
    }  # fmt: skip
    name = facts["clip"]
    hits = client.post("/v1/collections/field/search", {"audio": f"clip:{name}", "limit": 3}).json["hits"]
    assert (hits[0]["id"], hits[0]["recording"]) == (2, row(client)["recording"])
    liked = client.post("/v1/collections/field/search", {"like": [f"clip:{name}", 1], "limit": 3})
    assert liked.status == 200
    embedded = client.post("/v1/embeddings", {"model": "field", "input": f"clip:{name}"}).json["data"]
    assert len(embedded) == 1
    np.testing.assert_array_equal(audio_of(client.get(f"{CLIPS}/{name}/audio")), frames[RATE : 2 * RATE])
    own = client.get(f"{CLIPS}/{name}/spectrogram.png?width=40&height=32")
    assert own.body == client.get(f"{ROWS}/2/spectrogram.png?width=40&height=32").body
    assert len(client.get(f"{CLIPS}/{name}/peaks?bins=100").body) == 200
    assert len(audio_of(client.get(f"{CLIPS}/{name}/audio?start_s=0.25&end_s=0.5"))) == RATE // 4
    assert client.get(f"{CLIPS}/{name}").json["duration_s"] == 1.0


def test_clips_that_are_not_there_or_not_audio_are_refused(client: Client) -> None:
    for path in ("c_0", "c_0/audio", "c_0/peaks", "c_0/spectrogram.png", "..%2f..%2fetc%2fpasswd"):
        reply = client.get(f"{CLIPS}/{path}")
        assert (reply.status, reply.code) in {(410, "clip_gone"), (404, "not_found")}, path
    assert client.post("/v1/collections/field/search", {"audio": "clip:c_0"}).code == "clip_gone"
    assert upload(client, b"root:x:0:0").code == "bad_audio"
    assert upload(client, b"").code == "bad_audio"
    assert client.form(CLIPS, {"file": "text"}, {}).status == 400
    assert client.post(CLIPS, {"file": ""}).status == 415
    silent = upload(client, wav_bytes(np.zeros((RATE, 1), np.float32), RATE)).json
    assert silent["flags"] == ["silent"]


def test_clips_are_forgotten_by_time_and_by_size(monkeypatch: pytest.MonkeyPatch) -> None:
    data = wav_bytes(np.ones((100, 1), np.float32), RATE)
    clips, now = Clips(), [0.0]
    monkeypatch.setattr("time.monotonic", lambda: now[0])
    monkeypatch.setattr(clips_module, "MAX_BYTES", 3 * len(data))
    names = [clips.add(data, Limits())["clip"] for _ in range(3)]
    clips.get(names[0])  # used last
    newer = clips.add(data, Limits())["clip"]
    clips.get(names[0])
    with pytest.raises(Exception, match="not kept"):
        clips.get(names[1])
    now[0] = 800.0
    clips.get(newer)
    now[0] = 1000.0
    clips.get(newer)
    with pytest.raises(Exception, match="not kept"):
        clips.get(names[0])


def test_recording_that_is_gone_is_told_from_one_that_is_damaged(field: Path, tmp_path: Path) -> None:
    (tmp_path / "corpus").mkdir()
    file = tmp_path / "corpus/b.wav"
    soundfile.write(file, np.random.default_rng(1).normal(0, 0.1, RATE), RATE)
    embedx.extract(tmp_path / "corpus", out=tmp_path / "field").close()
    with serving(tmp_path / "field") as client:
        paths = [f"{ROWS}/1/audio", f"{ROWS}/1/spectrogram.png"]
        base = f"/v1/collections/field/recordings/{row(client, 1)['recording']}"
        paths += [f"{base}/audio", f"{base}/peaks", f"{base}/spectrogram.png"]
        file.write_bytes(b"root:x:0:0")
        for path in paths:
            assert client.get(path).status == 422
            assert str(tmp_path) not in client.get(path).body.decode()
        file.unlink()
        for path in paths:
            assert (client.get(path).status, client.get(path).code) == (410, "audio_gone")
        assert len(client.get(base).json["rows"]) == 1
