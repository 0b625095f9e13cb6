"""Recordings in a Parquet table are embedded as the same recordings in files are."""

import io
import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import soundfile

import embedx
from embedx.audio import embedded, places
from embedx.errors import AudioError, UsageError

STRUCT = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
Write = Callable[..., Path]


def wav_bytes(seed: int, seconds: float = 1.0) -> bytes:
    file = io.BytesIO()
    samples = np.random.default_rng(seed).uniform(-0.5, 0.5, round(seconds * 16_000))
    soundfile.write(file, samples, 16_000, format="WAV")
    return file.getvalue()


def write_table(file: Path, names: list[str | None], seed: int = 0, group: int = 3, **columns: list[object]) -> Path:
    """Write a table as `datasets` does; a name that begins with "/" has no bytes."""
    cells = [
        {"bytes": None if name and name.startswith("/") else wav_bytes(seed + i), "path": name}
        for i, name in enumerate(names)
    ]
    audio = pa.array(cells, STRUCT)
    pq.write_table(pa.table({"audio": audio, **columns}), file, row_group_size=group)
    return file


def leftovers(folder: Path) -> list[str]:
    return [name for _, _, names in os.walk(folder) for name in names]


def test_recordings_in_a_table_are_embedded_as_in_files(tmp_path: Path) -> None:
    names: list[str | None] = [f"{i}.wav" for i in range(10)]
    labels: list[object] = [f"class {i % 2}" for i in range(10)]
    table = write_table(tmp_path / "train.parquet", names, label=labels, path=labels)
    for i, name in enumerate(names):
        (tmp_path / str(name)).write_bytes(wav_bytes(i))
    files = embedx.extract([tmp_path / str(name) for name in names], out=tmp_path / "files")
    with embedx.extract(table, out=tmp_path / "c") as collection, files:
        rows = collection.rows()
        assert rows["path"].tolist() == [f"{table}/{name}" for name in names]
        assert rows["label"].tolist() == labels
        assert rows["path_"].tolist() == labels
        np.testing.assert_array_equal(collection.vectors(), files.vectors())
        assert collection.search(f"{table}/4.wav", k=1, exclude_self=False)[0].id == 5
    states: list[embedx.Progress] = []
    embedx.extract(table, out=tmp_path / "c", on_progress=states.append).close()
    assert (states[-1].embedded, states[-1].present) == (0, 10)


def test_changed_recording_in_a_table_is_embedded_again(tmp_path: Path) -> None:
    table = write_table(tmp_path / "t.parquet", ["a.wav", "b.wav"])
    embedx.extract(table, out=tmp_path / "c").close()
    cells = [{"bytes": wav_bytes(9), "path": "new.wav"}, {"bytes": wav_bytes(0), "path": "a.wav"},
             {"bytes": wav_bytes(7), "path": "b.wav"}]  # fmt: skip
    pq.write_table(pa.table({"audio": pa.array(cells, STRUCT)}), table)
    os.utime(table, ns=(1, 1))
    states: list[embedx.Progress] = []
    embedx.extract(table, out=tmp_path / "c", on_progress=states.append).close()
    assert (states[-1].new, states[-1].edited, states[-1].present) == (1, 1, 1)


def test_rows_without_bytes_are_files_and_names_are_stable(tmp_path: Path, write_wav: Write) -> None:
    outside = str(write_wav("x.wav"))
    table = write_table(tmp_path / "t.parquet", ["a.wav", "a.wav", None, outside, "../../b.wav"])
    with embedx.extract(table, out=tmp_path / "c") as collection:
        inner = ["a.wav", "a.wav#2", "row3", "b.wav"]
        assert sorted(collection.rows()["path"]) == sorted([outside, *(f"{table}/{name}" for name in inner)])


def test_recording_that_is_not_audio_is_one_failure(tmp_path: Path) -> None:
    cells = [{"bytes": b"no audio", "path": "x.wav"}, {"bytes": wav_bytes(1), "path": "y.wav"}]
    pq.write_table(pa.table({"audio": pa.array(cells, STRUCT)}), tmp_path / "t.parquet")
    with embedx.extract(tmp_path / "t.parquet", out=tmp_path / "c") as collection:
        (failure,) = collection.failures()
        assert failure.path == f"{tmp_path}/t.parquet/x.wav"
        assert f"{tmp_path}/t.parquet/x.wav cannot be read as audio" in failure.detail
        assert len(collection) == 1


@pytest.mark.parametrize("group", [1, 3, 100])
def test_any_order_reads_the_right_bytes_with_few_files(
    group: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    size = len(wav_bytes(0))
    monkeypatch.setattr(embedded, "MAX_SPOOL_BYTES", 3 * size)
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "spool"))
    (tmp_path / "spool").mkdir()
    table = write_table(tmp_path / "t.parquet", [f"{i}.wav" for i in range(20)], group=group)
    for i in [*range(20), *np.random.default_rng(0).integers(0, 20, 30)]:
        with places.as_file(f"{table}/{i}.wav") as file:
            assert Path(file).read_bytes() == wav_bytes(int(i))
            assert file.endswith(".wav")
            assert len(leftovers(tmp_path / "spool")) <= 5
    embedded.open_audio_table.cache_clear()
    assert not leftovers(tmp_path / "spool")


def test_missing_and_damaged_recordings_are_named(tmp_path: Path) -> None:
    table = write_table(tmp_path / "t.parquet", ["a.wav", "b.wav"], group=1)
    with pytest.raises(AudioError, match=r"t\.parquet has no recording c\.wav"), places.as_file(f"{table}/c.wav"):
        pass
    (tmp_path / "x.parquet").write_bytes(b"PAR1 damaged PAR1")
    with pytest.raises(AudioError, match=r"x\.parquet cannot be read"), places.as_file(f"{tmp_path}/x.parquet/c.wav"):
        pass
    with places.as_file(str(tmp_path / "nothing.wav")) as file:
        assert file == str(tmp_path / "nothing.wav")


def test_several_columns_with_files_are_refused_unless_one_is_called_audio(tmp_path: Path) -> None:
    cells = pa.array([{"bytes": wav_bytes(0), "path": "a.wav"}], STRUCT)
    pq.write_table(pa.table({"left": cells, "right": cells}), tmp_path / "t.parquet")
    with pytest.raises(UsageError, match=r"t\.parquet hold files: left, right.*Rename"):
        embedx.extract(tmp_path / "t.parquet", out=tmp_path / "c")
    pq.write_table(pa.table({"image": cells, "audio": cells}), tmp_path / "t.parquet")
    with embedx.extract(tmp_path / "t.parquet", out=tmp_path / "c") as collection:
        assert collection.rows()["image"].tolist() == [{"path": "a.wav"}]
