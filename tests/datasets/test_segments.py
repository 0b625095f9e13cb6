"""Annotated stretches become the rows of a collection, and set the windows of one."""

from pathlib import Path

import numpy as np
import pytest
import soundfile

import embedx
from embedx.errors import NothingToDo, UsageError
from embedx.ingest.pipeline import Progress


@pytest.fixture
def field(tmp_path: Path) -> Path:
    """Three recordings of 8 s, and a folder with an Audacity track of b and a Raven table of a and b."""
    random = np.random.default_rng(0)
    for name in ("a", "b", "c"):
        (tmp_path / "field").mkdir(exist_ok=True)
        soundfile.write(tmp_path / "field" / f"{name}.wav", 0.1 * random.standard_normal(64_000), 8000)
    (tmp_path / "calls").mkdir()
    (tmp_path / "calls" / "b.txt").write_text("0.5\t1.5\towl\n\\\t100.0\t900.0\n3\t3\tpoint\n")
    (tmp_path / "calls" / "t.txt").write_text(
        "Selection\tBegin Time (s)\tEnd Time (s)\tBegin File\tFile Offset (s)\tlabel\tsite\n"
        "1\t2.0\t4.0\ta.wav\t2.0\twren\tA\n2\t12.0\t14.0\tb.wav\t4.0\towl\tB\n3\t2.0\t4.0\ta.wav\t2.0\train\tA\n"
    )
    return tmp_path


def test_rows_are_the_annotated_stretches(field: Path) -> None:
    def extract() -> embedx.Collection:
        return embedx.extract(field / "field", out=field / "c", segments=field / "calls")

    with extract() as collection:
        rows = collection.rows().sort_values(["path", "start_s"])
        assert [Path(path).name for path in rows["path"]] == ["a.wav", "b.wav", "b.wav"]
        assert rows[["start_s", "end_s", "label"]].to_numpy().tolist() == [
            [2.0, 4.0, "wren;rain"], [0.5, 1.5, "owl"], [4.0, 6.0, "owl"],
        ]  # fmt: skip
        assert rows["site"].tolist()[0] == "A"
        assert rows["low_hz"].tolist()[1] == 100.0
        before = collection.store.generation
    with extract() as again:
        assert again.store.generation == before
    (field / "calls" / "b.txt").write_text("0.5\t2.5\towl\n")
    with extract() as edited:
        assert sorted(edited.rows()["end_s"]) == [2.5, 4.0, 6.0]


def test_stretch_has_the_vector_of_the_cut_recording(field: Path) -> None:
    sound, rate = soundfile.read(field / "field" / "b.wav")
    (field / "cut").mkdir()
    soundfile.write(field / "cut" / "b.wav", sound[4 * rate : 6 * rate], rate)
    with (
        embedx.extract(field / "field", out=field / "c", segments=field / "calls") as stretches,
        embedx.extract(field / "cut", out=field / "d") as cut,
    ):
        np.testing.assert_allclose(
            stretches.vectors(where="start_s = 4"), cut.vectors(), atol=1e-3
        )  # resampling sees no sound beyond a file


def test_label_column_and_group_can_be_chosen(field: Path) -> None:
    table, group = field / "calls" / "t.txt", r"(\w)\.wav"
    with embedx.extract(field / "field", out=field / "c", segments=table, label="site", group=group) as collection:
        rows = collection.rows()
        assert sorted(zip(rows["label"], rows["group"], strict=True)) == [("A", "a"), ("B", "b")]


def test_annotations_of_nothing_are_refused(field: Path) -> None:
    (field / "points.csv").write_text("file,begin,stop\na.wav,1,1\n")
    (field / "others.csv").write_text("file,begin,stop\nz.wav,1,2\n")
    for name, words in (("points.csv", "have no length"), ("others.csv", "The first is about z.wav")):
        with pytest.raises(NothingToDo, match=words):
            embedx.extract(field / "field", out=field / "c", segments=field / name)
    with pytest.raises(UsageError, match="do not exist"):
        embedx.extract(field / "field", out=field / "c", segments=field / "nosuch")


def test_windows_that_overlap_get_label_and_columns(field: Path) -> None:
    with embedx.extract(field / "field", out=field / "c", window=2.0) as collection:
        (field / "calls" / "z.txt").write_text("0\t1\tnobody\n")
        update = collection.label(field / "calls")
        assert update.unknown == [f"path {field / 'calls' / 'z.txt'}"]
        rows = collection.rows("label IS NOT NULL").sort_values(["path", "start_s"])
        found = zip(rows["path"], rows["start_s"], rows["label"], strict=True)
        assert [(Path(path).stem, start_s, label) for path, start_s, label in found] == [
            ("a", 2.0, "wren;rain"), ("b", 0.0, "owl"), ("b", 2.0, "point"), ("b", 4.0, "owl"),
        ]  # fmt: skip
        assert rows["low_hz"].tolist()[1] == 100.0
        assert collection.undo_label().rows == 4
        (field / "calls" / "b.txt").unlink()
        (field / "calls" / "t.txt").unlink()
        with pytest.raises(NothingToDo, match="No annotation is about a recording"):
            collection.label(field / "calls")


def test_later_run_without_segments_uses_those_of_the_first(field: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(field)
    embedx.extract("field", out="c", segments="calls").close()
    monkeypatch.chdir(field / "field")  # the path of the annotations counts from where they were given
    (field / "calls" / "c.txt").write_text("1\t2\twren\n")
    states: list[Progress] = []
    with embedx.extract(field / "field", out=field / "c", on_progress=states.append) as again:
        assert len(again) == 4
        assert states[-1].segments == str(field / "calls")
    with embedx.extract(field / "field" / "a.wav", out=field / "c") as part:
        assert len(part) == 4  # a.wav is not embedded as a whole
    (field / "calls").rename(field / "away")
    with pytest.raises(UsageError, match=r"calls do not exist.* earlier run"):
        embedx.extract(field / "field", out=field / "c")
