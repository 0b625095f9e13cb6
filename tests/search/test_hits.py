"""Hits are saved as clips, and shown in notebooks."""

import base64
import io
import os
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
import soundfile

import embedx


def test_saved_clips_keep_channels_and_rate(tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    (tmp_path / "in").mkdir()
    name = os.fsdecode(
        b"=a/b\n\xe9"
    )  # a folder of one letter, and a name with a line break and a byte that is no UTF-8
    (tmp_path / "in" / os.path.dirname(name)).mkdir()
    sound = random.uniform(-0.9, 0.9, (44_100 * 3, 2)).astype(np.float32)
    for ending, options in ((".wav", {"subtype": "FLOAT", "format": "WAV"}), (".ogg", {"format": "OGG"})):
        soundfile.write(os.fsencode(tmp_path / "in" / (name + ending)), sound, 44_100, **options)
    with embedx.extract(tmp_path / "in", window=1.5, out=tmp_path / "c") as collection:
        hits = collection.search(id=2, exclude_self=False)
        assert hits.save_clips(tmp_path / "clips") == []
        files = sorted(os.listdir(tmp_path / "clips"))
        assert len(files) == len(hits) == 4
        assert all(file.isprintable() and "/" not in file for file in files)
        for rank, (file, hit) in enumerate(zip(files, hits, strict=True), start=1):
            assert file == f"{rank:04d}_{hit.score:.4f}_b_n_xe9_{hit.start_s:.2f}-{hit.end_s:.2f}.wav"
            clip, rate = soundfile.read(tmp_path / "clips" / file, dtype="float32")
            decoded, _ = soundfile.read(os.fsencode(hit.path), dtype="float32")
            assert rate == 44_100
            np.testing.assert_array_equal(clip, decoded[round(hit.start_s * rate) : round(hit.end_s * rate)])
        os.remove(os.fsencode(tmp_path / "in" / (name + ".ogg")))
        (tmp_path / "in").joinpath(name + ".wav").write_bytes(b"RIFF")
        shutil.rmtree(tmp_path / "clips")
        assert {error.reason for error in hits.save_clips(tmp_path / "clips")} == {"missing", "not-audio"}
        assert os.listdir(tmp_path / "clips") == []


def test_saved_clips_come_from_formats_of_ffmpeg(tmp_path: Path) -> None:
    import av

    tone = np.sin(2 * np.pi * 440 * np.arange(48_000) / 16_000).astype(np.float32)
    path = tmp_path / "a.m4a"
    with av.open(str(path), "w", format="mp4") as container:
        stream = container.add_stream("aac", rate=16_000, layout="mono")
        frame = av.AudioFrame.from_ndarray(tone[None], format="fltp", layout="mono")
        frame.sample_rate = 16_000
        for packet in [*stream.encode(frame), *stream.encode(None)]:
            container.mux(packet)
    with embedx.extract(path, window=1, out=tmp_path / "c") as collection:
        hits = collection.search(id=2, k=1, exclude_self=False)
        assert hits.save_clips(tmp_path / "clips") == []
        (file,) = os.listdir(tmp_path / "clips")
        clip, rate = soundfile.read(tmp_path / "clips" / file)
        assert (rate, len(clip)) == (16_000, 16_000)
        assert np.sqrt(np.mean(clip**2)) == pytest.approx(np.sqrt(0.5), rel=0.1)


def test_notebook_shows_players_and_spectrograms(tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    sounds = {"<b>&.wav": random.uniform(-1, 1, (1_600, 2)), "long.wav": random.uniform(-0.5, 0.5, 8_000 * 12)}
    for name, sound in sounds.items():
        soundfile.write(tmp_path / name, sound, 8_000, subtype="FLOAT")
    with embedx.extract([tmp_path / name for name in sounds], out=tmp_path / "c") as collection:
        collection.label(set={"label": "<script>alert(1)</script>"})
        hits = collection.search(id=1, exclude_self=False)
        text = hits._repr_html_()
        assert text.count("<audio") == text.count("<img") == 2
        assert "<script" not in text and "&lt;script&gt;" in text and "<b>" not in text and "&lt;b&gt;&amp;.wav" in text
        players = [base64.b64decode(data) for data in re.findall(r"data:audio/flac;base64,([^\"]+)", text)]
        shapes = {soundfile.read(io.BytesIO(player))[0].shape for player in players}
        assert shapes == {(1_600,), (80_000,)}  # one channel, and 10 s of the long one
        pictures = [base64.b64decode(data) for data in re.findall(r"data:image/png;base64,([^\"]+)", text)]
        assert all(picture.startswith(b"\x89PNG") for picture in pictures)
        os.remove(tmp_path / "long.wav")
        assert collection.search(id=1, exclude_self=False)._repr_html_().count("There is no file") == 1
        assert collection.search(id=1, where="id > 99")._repr_html_().count("<td>") == 0


def test_only_the_first_hits_have_players(collection: embedx.Collection) -> None:
    text = collection.search(id=1, k=12)._repr_html_()
    assert (text.count("<audio"), text.count("<tr>")) == (10, 13)
    assert "The first 10 of 12 hits have players." in text
