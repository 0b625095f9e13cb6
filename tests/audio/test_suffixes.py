"""Files of every kind that a folder is searched for are decoded."""

from pathlib import Path

import av
import numpy as np
import pytest

import embedx
from embedx.audio.decode import SUFFIXES

CODECS = {  # suffix -> format and codec of FFmpeg
    ".3gp": ("3gp", "aac"), ".mp2": ("mp2", "mp2"), ".ac3": ("ac3", "ac3"), ".eac3": ("eac3", "eac3"),
    ".wv": ("wv", "wavpack"), ".tta": ("tta", "tta"), ".m4b": ("ipod", "aac"), ".mov": ("mov", "aac"),
    ".mkv": ("matroska", "aac"), ".avi": ("avi", "pcm_s16le"), ".flv": ("flv", "aac"), ".mpg": ("mpeg", "mp2"),
}  # fmt: skip


def test_formats_of_ffmpeg_are_found_and_embedded(tmp_path: Path) -> None:
    written = set()
    for suffix, (form, codec) in CODECS.items():
        path = tmp_path / "in" / f"a{suffix.upper()}"
        path.parent.mkdir(exist_ok=True)
        try:
            container = av.open(str(path), "w", format=form)
            stream = container.add_stream(codec, rate=48_000, layout="mono")
        except (ValueError, av.FFmpegError):  # this FFmpeg cannot write it
            continue
        wave = (np.sin(np.arange(48_000) / 20) * 8000).astype(np.int16)
        frame = av.AudioFrame.from_ndarray(wave[None], format="s16", layout="mono")
        assert isinstance(stream, av.AudioStream)
        frame.sample_rate = 48_000
        for packet in [*stream.encode(frame), *stream.encode(None)]:
            container.mux(packet)
        container.close()
        written.add(suffix)
    if len(written) < 6:
        pytest.skip("this FFmpeg writes few formats")
    assert written <= SUFFIXES
    with embedx.extract(tmp_path / "in", out=tmp_path / "c") as collection:
        assert {one.path: one.detail for one in collection.failures()} == {}
        rows = collection.rows()
    assert {Path(path).suffix.lower() for path in rows["path"]} == written
    assert (rows["end_s"] > 0.9).all()
