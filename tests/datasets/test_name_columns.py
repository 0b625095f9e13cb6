"""Columns from the names of files and folders, and from what recorders write into files."""

import struct
from pathlib import Path

import numpy as np
import pytest
import soundfile

import embedx
from embedx.audio.recorder_notes import read_comment, read_guano, read_notes
from embedx.datasets.name_columns import NameRules, time_of_name
from embedx.errors import UsageError

COMMENT = (
    "Recorded at 21:00:00 08/08/2019 (UTC) by AudioMoth 24F319055FDF2902 at medium gain setting while battery state "
    "was 4.1V and temperature was -2.5C."
)
GUANO = (
    "GUANO|Version: 1.0\nTimestamp: 2019-05-22T00:30:00-05:00\nLoc Position: 32.1878985 -110.3478245\n"
    "Make: Wildlife Acoustics\nModel: SM4\nTemperature Int: 21.5\nNote: \xfc: by night\n"
)


@pytest.mark.parametrize(
    ("name", "time"),
    [
        ("S4A03895_20190522_003000.wav", "2019-05-22T00:30:00"),
        ("20190522_003000.WAV", "2019-05-22T00:30:00"),
        ("20190522_003000T.WAV", "2019-05-22T00:30:00"),
        ("5CE3A2B0.WAV", "2019-05-21T07:03:12+00:00"),
        ("5ce3a2b0.wav", "2019-05-21T07:03:12+00:00"),
        ("Corvus_corax-85-2022-06-01-birdnet-06:12:11.mp3", "2022-06-01T06:12:11"),
        ("Corvus_corax-85-2022-06-01-birdnet-RTSP_1-06:12:11.mp3", "2022-06-01T06:12:11"),
        ("2022-06-01-birdnet-06:12:11.wav", "2022-06-01T06:12:11"),
        ("2019-05-22T00:30:00Z.wav", "2019-05-22T00:30:00+00:00"),
        ("2019-05-22T00:30:00.250+10:00.wav", "2019-05-22T00:30:00.250000+10:00"),
        ("20190522T003000+1000_site_R001.flac", "2019-05-22T00:30:00+10:00"),
        ("site-a 2019-05-22 00.30.00.wav", "2019-05-22T00:30:00"),
        ("SM2_0+1_20190522$003000.wav", "2019-05-22T00:30:00"),
        ("2019_05_22_00_30_00_cut.wav", "2019-05-22T00:30:00"),
        ("20190522_0030.wav", "2019-05-22T00:30:00"),
        ("20190522003000.wav", "2019-05-22T00:30:00"),
        ("5678.190522003000.wav", "2019-05-22T00:30:00"),
        ("20190522_003000.3gp", "2019-05-22T00:30:00"),
        ("20190522.wav", None),
        ("20191322_003000.wav", None),
        ("20190522_253000.wav", None),
        ("120190522_003000.wav", None),
        ("00000000.wav", None),
        ("birdsong.wav", None),
    ],
)
def test_time_of_name_is_that_of_the_recorder(name: str, time: str | None) -> None:
    assert time_of_name(name) == time


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        (COMMENT, ("2019-08-08T21:00:00+00:00", "AudioMoth 24F319055FDF2902", "medium", 4.1, -2.5)),
        (
            "Recorded at 07:05:09 31/12/2018 by AudioMoth 0123456789ABCDEF at gain setting 2 while battery state was "
            "3.6V",
            ("2018-12-31T07:05:09", "AudioMoth 0123456789ABCDEF", "2", 3.6, None),
        ),
        (
            "Recorded at 21:00:00.250 08/08/2021 (UTC-5:30) by AudioMoth 24F319055FDF2902 at low-medium gain while "
            "battery was greater than 4.9V and temperature was 22.1C. Amplitude threshold was 512.",
            ("2021-08-08T21:00:00.250000-05:30", "AudioMoth 24F319055FDF2902", "low-medium", 4.9, 22.1),
        ),
        (
            "Recorded at 21:00:00 08/08/2021 (UTC+2) during deployment 1234567890ABCDEF at high gain while battery "
            "state was less than 2.5V",
            ("2021-08-08T21:00:00+02:00", None, "high", 2.5, None),
        ),
        ("Recorded at 25:00:00 08/13/2019 (UTC) by AudioMoth 24F319055FDF2902", (None, "AudioMoth 24F319055FDF2902")),
        ("made by hand", ()),
    ],
)
def test_comment_of_each_firmware_is_read(text: str, wanted: tuple[object, ...]) -> None:
    names = ("recorded_at", "device", "gain", "battery_v", "temperature_c")
    expected = {name: value for name, value in zip(names, wanted, strict=False) if value is not None}
    assert read_comment(text) == expected


def test_guano_with_nonsense_gives_what_can_be_read() -> None:
    assert read_guano(GUANO) == {
        "recorded_at": "2019-05-22T00:30:00-05:00", "device": "Wildlife Acoustics SM4", "latitude": 32.1878985,
        "longitude": -110.3478245, "temperature_c": 21.5, "note": "\xfc: by night",
    }  # fmt: skip
    lines = r"Note: by night\nand by day: rain\n" + "\r\nSpecies Manual ID: owl\u2028\r\nMake: Acme"
    assert read_guano(lines) == {"note": "by night\nand by day: rain\n", "species_manual": "owl", "device": "Acme"}
    bad = "Timestamp: yesterday\nLoc Position: 200 nowhere\nTemperature Ext: warm\nTemperature Int: 3 C\nno colon\n:"
    assert read_guano(bad) == {"temperature_c": 3.0}


def chunk(kind: bytes, data: bytes) -> bytes:
    """Return a chunk of a WAV file."""
    return kind + struct.pack("<I", len(data)) + data + b"\0" * (len(data) % 2)


def write_wav(path: Path, before: bytes = b"", after: bytes = b"") -> None:
    """Write a second of noise with chunks before and after the audio."""
    samples = (3000 * np.random.default_rng(0).standard_normal(8000)).astype("<i2").tobytes()
    form = chunk(b"fmt ", struct.pack("<HHIIHH", 1, 1, 8000, 16000, 2, 16))
    body = b"WAVE" + form + before + chunk(b"data", samples) + after
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(b"RIFF" + struct.pack("<I", len(body)) + body)


@pytest.fixture
def field(tmp_path: Path) -> Path:
    """A folder with recordings of two sites: one of an AudioMoth, one with GUANO, and one with neither."""
    info = chunk(b"LIST", b"INFO" + chunk(b"IART", b"AudioMoth") + chunk(b"ICMT", COMMENT.encode() + b"\0" * 9))
    write_wav(tmp_path / "field" / "siteA_20190808_210000.wav", before=info)
    write_wav(tmp_path / "field" / "siteB_20190522_003000.wav", after=chunk(b"guan", GUANO.encode()))
    write_wav(tmp_path / "field" / "siteB_20190523_003000.wav")
    return tmp_path


def test_headers_become_columns_that_filters_know(field: Path) -> None:
    with embedx.extract(field / "field", out=field / "c") as collection:
        rows = collection.rows().sort_values("path")
        assert rows["recorded_at"].fillna("").tolist() == ["2019-08-08T21:00:00+00:00", "2019-05-22T00:30:00-05:00", ""]
        assert len(collection.rows("latitude > 32 AND device LIKE '%SM4'")) == 1
        assert len(collection.rows("recorded_at >= '2019-05-22' AND temperature_c < 0")) == 1


def test_names_become_columns_that_a_second_run_knows(field: Path) -> None:
    rules = [r"site=(site\w)_", r"month=_\d{4}(\d\d)\d\d_"]
    with embedx.extract(field / "field", out=field / "c", meta=rules, time_from="name") as collection:
        rows = collection.rows().sort_values("path")
        assert rows["site"].tolist() == ["siteA", "siteB", "siteB"]
        assert rows["month"].tolist() == ["08", "05", "05"]  # text: no number is written as 08
        times = ["2019-08-08T21:00:00", "2019-05-22T00:30:00", "2019-05-23T00:30:00"]
        assert rows["recorded_at"].tolist() == times  # the name wins over the header
        generation = collection.store.generation
    parts = sorted((field / "field").iterdir())
    with embedx.extract(parts, out=field / "d", meta=r"site=field/(site\w)_2019.8") as full:
        assert full.rows()["site"].fillna("").tolist() == ["siteA", "", ""]  # one match of three sources is enough
    with embedx.extract(field / "field", out=field / "c") as again:
        assert again.store.generation == generation
    write_wav(field / "field" / "siteC_20200101_000000.wav")
    with embedx.extract(field / "field", out=field / "c") as more:
        assert more.rows("site = 'siteC' AND recorded_at >= '2020'")["month"].tolist() == ["01"]


def test_columns_from_names_replace_those_of_a_manifest(field: Path) -> None:
    (field / "m.csv").write_text("path,site,depth\nfield/siteA_20190808_210000.wav,x,3\n")
    with embedx.extract(field / "m.csv", out=field / "c", meta=r"site=site(\w)_", time_from="name") as collection:
        (row,) = collection.rows().to_dict("records")
        assert (row["site"], row["depth"], row["recorded_at"]) == ("A", 3, "2019-08-08T21:00:00")


def test_damaged_headers_stop_nothing(tmp_path: Path) -> None:
    info = chunk(b"LIST", b"INFO" + b"ICMT" + struct.pack("<I", 2**31) + b"Recorded at")
    write_wav(tmp_path / "in" / "1.wav", before=info)
    write_wav(tmp_path / "in" / "2.wav", after=chunk(b"guan", b"\xff\xfe\x00Timestamp: \xff\nLoc Position: nan nan"))
    write_wav(tmp_path / "in" / "3.wav", after=b"guan" + struct.pack("<I", 2**31))
    for count, text in enumerate((b"", b"LIST", b"\0" * 3), start=4):
        write_wav(tmp_path / "in" / f"{count}.wav", before=chunk(b"LIST", text))
    with embedx.extract(tmp_path / "in", out=tmp_path / "c") as collection:
        assert len(collection) == 6
        assert not collection.failures()
    (tmp_path / "x.wav").write_bytes(b"RIFF")
    assert read_notes(str(tmp_path / "x.wav")) == read_notes(str(tmp_path / "missing.wav")) == {}


def test_comment_of_a_converted_file_is_read(tmp_path: Path) -> None:
    with soundfile.SoundFile(tmp_path / "a.flac", "w", 8000, 1) as file:
        file.comment = COMMENT
        file.write(np.zeros(8000))
    assert read_notes(str(tmp_path / "a.flac"))["temperature_c"] == -2.5


def test_rule_that_cannot_be_used_is_refused_with_what_to_do(field: Path) -> None:
    for meta, words in (
        ("site", "NAME=VALUE"),
        (r"label=(\w)", "give --label"),
        (r"start_s=(\d)", "Choose another name"),
        ("site=(x", "not a regular expression"),
        ("site=(nowhere)", "matches no path.*siteA_20190808_210000.wav"),
    ):
        with pytest.raises(UsageError, match=words):
            embedx.extract(field / "field", out=field / "c", meta=meta)
    with pytest.raises(UsageError, match="name or header"):
        NameRules(time_from="names")
    write_wav(field / "other" / "bird.wav")
    with pytest.raises(UsageError, match="No file has a time in its name"):
        embedx.extract(field / "other", out=field / "d", time_from="name")
