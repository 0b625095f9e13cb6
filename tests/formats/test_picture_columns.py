"""Exports for tools that show rows as a picture with sound."""

import io
import json
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest
import soundfile

import embedx
from embedx.errors import UsageError
from embedx.formats.coordinates import make_map
from tests.helpers.commands import Capture, outcome
from tests.helpers.exports import METAS, facts, fill


@pytest.fixture
def field(tmp_path: Path) -> Path:
    """A collection of two recordings of 3 s, in windows of 1 s, with metadata columns named audio and x."""
    random = np.random.default_rng(0)
    for name in ("a", "b"):
        samples = (8000 * random.standard_normal((24_000, 2))).astype(np.int16)
        soundfile.write(tmp_path / f"{name}.wav", samples, 8000)
    (tmp_path / "m.csv").write_text("path,label,audio,x\na.wav,owl,by hand,7\nb.wav,wren,by night,8\n")
    embedx.extract(tmp_path / "m.csv", out=tmp_path / "c", window=1.0).close()
    return tmp_path


def test_clips_and_coordinates_stand_next_to_vectors(field: Path) -> None:
    datasets = pytest.importorskip("datasets")
    with embedx.open(field / "c") as collection:
        collection.export(field / "x.parquet", with_audio="clip", xy="pca", where="start_s > 0")
        frame = pd.read_parquet(field / "x.parquet")
        rows = collection.rows("start_s > 0")
        assert frame["audio"].tolist() == rows["audio"].tolist()  # the columns of the source keep their names
        for (_, row), sound in zip(rows.iterrows(), frame["audio_"], strict=True):
            samples, rate = soundfile.read(io.BytesIO(sound["bytes"]), dtype="int16")
            expected, _ = soundfile.read(row["path"], dtype="int16")
            first, last = (round(row[name] * rate) for name in ("start_s", "end_s"))
            np.testing.assert_array_equal(samples, expected[first:last])
        every = make_map(collection.store, collection.recipe.default_view)
        chosen = np.searchsorted(every.ids, frame["id"])
        np.testing.assert_array_equal(frame[["x_", "y"]].to_numpy(), every.places[chosen])
    schema = pq.read_schema(field / "x.parquet")
    features = datasets.Features.from_arrow_schema(schema)
    assert isinstance(features["audio_"], datasets.Audio)
    assert features[embedx.open(field / "c").recipe.default_view].length == schema.field(9 + 2).type.list_size


def test_import_leaves_out_what_was_added(field: Path) -> None:
    with embedx.open(field / "c") as collection:
        collection.export(field / "x.parquet", with_audio="clip", xy="pca", view="all")
        with embedx.import_vectors(field / "x.parquet", out=field / "again") as again:
            assert facts(again) == facts(collection)
            assert again.recipe == collection.recipe


def test_audio_of_one_row_group_is_limited(field: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("embedx.formats.picture_columns.MAX_AUDIO_BYTES", 40_000)  # a clip has some 32 000
    with embedx.open(field / "c") as collection:
        collection.export(field / "x.parquet", with_audio="clip")
    table = pq.ParquetFile(field / "x.parquet")
    assert [table.metadata.row_group(i).num_rows for i in range(table.num_row_groups)] == [2, 2, 2]
    assert table.read(["id"]).column("id").to_pylist() == [1, 2, 3, 4, 5, 6]


def test_path_and_url_name_the_sound_without_reading_it(field: Path) -> None:
    with embedx.open(field / "c") as collection:
        collection.export(field / "p.parquet", with_audio="path")
        for url in ("http://host:8000/field", "http://host:8000/v1/collections/field/"):
            collection.export(field / "u.parquet", with_audio="url", url=url, overwrite=True)
            first = pd.read_parquet(field / "u.parquet")["audio_"][0]
            assert first == {"bytes": None, "path": "http://host:8000/v1/collections/field/rows/1/audio"}
        assert pd.read_parquet(field / "p.parquet")["audio_"][5]["path"] == str(field / "b.wav")


def test_missing_recording_costs_its_audio_only(field: Path, capsys: Capture) -> None:
    (field / "b.wav").unlink()
    code, text, log = outcome(capsys, "export", field / "c", "-o", field / "x.parquet", "--with-audio", "clip")
    assert code == 3
    assert "6 rows" in text
    assert "3 rows without audio; the first: There is no file" in log
    assert pd.read_parquet(field / "x.parquet")["audio_"].isna().tolist() == [False] * 3 + [True] * 3


def test_what_cannot_be_written_is_refused(field: Path) -> None:
    with embedx.open(field / "c") as collection:
        for options, words in (
            ({"format": "csv", "with_audio": "clip"}, "Use --format parquet"),
            ({"format": "raven", "xy": "pca"}, "Use --format parquet"),
            ({"format": "parquet", "with_audio": "sound"}, "clip, path, url"),
            ({"format": "parquet", "with_audio": "url"}, "needs --url"),
            ({"format": "parquet", "url": "http://host/x"}, "only that"),
            ({"format": "parquet", "xy": "tsne"}, "pca or umap"),
        ):
            with pytest.raises(UsageError, match=words):
                collection.export(field / "out", **options)  # type: ignore[arg-type]
        assert not (field / "out").exists()


def test_projector_folder_has_a_line_for_each_row(tmp_path: Path) -> None:
    folder = fill(tmp_path / "c", [f"/{i}\t.wav" for i in range(5)], METAS, labels=None)
    with embedx.open(folder) as collection:
        assert collection.export(tmp_path / "p", format="tensorboard") == 5
        vectors = np.loadtxt(tmp_path / "p" / "vectors.tsv", delimiter="\t", dtype=np.float32)
        np.testing.assert_array_equal(vectors, collection.vectors())
        lines = (tmp_path / "p" / "metadata.tsv").read_text("utf-8").splitlines()
        assert len({line.count("\t") for line in lines}) == 1
        assert len(lines) == 6
        with pytest.raises(UsageError, match="--overwrite"):
            collection.export(tmp_path / "p", format="tensorboard")
    config = (tmp_path / "p" / "projector_config.pbtxt").read_text()
    text_format = pytest.importorskip("google.protobuf.text_format", reason="comes with tensorboard")
    projector = pytest.importorskip("tensorboard.plugins.projector", reason="tensorboard is not installed")
    parsed = text_format.Parse(config, projector.ProjectorConfig())
    assert json.dumps(parsed.embeddings[0].tensor_path) == '"vectors.tsv"'
