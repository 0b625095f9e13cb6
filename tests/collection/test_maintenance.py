import os
import shutil
import sqlite3
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

import embedx
from embedx.cli import run
from embedx.errors import LockedError, NothingToDo, RecipeMismatch, UsageError
from embedx.store.schema import FILE_NAME
from embedx.store.store import Store

WriteWav = Callable[..., Path]


@pytest.fixture
def copy(made: Path, tmp_path: Path) -> Iterator[embedx.Collection]:
    """A copy of the shared collection that a test may change."""
    shutil.copytree(made, tmp_path / "copy")
    with embedx.open(tmp_path / "copy") as collection:
        yield collection


def test_removed_rows_are_gone_from_rows_search_and_file(copy: embedx.Collection) -> None:
    before = copy.rows()
    vectors = copy.vectors()
    gone = before.index[before["label"] == "bell"]
    copy.search(id=1)
    assert copy.remove("label = 'bell'") == len(gone) == 10
    pd.testing.assert_frame_equal(copy.rows(), before.drop(gone))
    np.testing.assert_array_equal(copy.vectors(), vectors[before["label"] != "bell"])
    hits = copy.search(vector=vectors[0], k=100)
    assert len(hits) == 30
    assert not {hit.id for hit in hits} & set(gone)
    assert not copy.verify().found


def test_removed_ids_are_never_used_again(copy: embedx.Collection, write_wav: WriteWav) -> None:
    copy.remove("id > 20")
    copy.compact()
    embedx.extract(write_wav("new.wav"), out=copy.folder, pooling=("mean", "max")).close()
    assert copy.rows().index.tolist() == [*range(1, 21), 41]


def test_recording_without_rows_is_removed_and_extracted_again(write_wav: WriteWav, tmp_path: Path) -> None:
    write_wav("in/a.wav", seconds=3), write_wav("in/b.wav", seconds=3)

    def extract() -> embedx.Collection:
        return embedx.extract(tmp_path / "in", out=tmp_path / "out", window=1)

    with extract() as collection:
        assert collection.remove("path LIKE '%a.wav' AND start_s = 0") == 1
        assert len(extract()) == 5, "the recording is still known: its deleted row stays deleted"
        assert collection.remove("path LIKE '%a.wav'") == 2
        assert list(collection.store.recordings()) == [str(tmp_path / "in/b.wav")]
        assert len(extract()) == 6


def test_compact_frees_space_and_changes_nothing_else(copy: embedx.Collection) -> None:
    copy.remove("id % 8 <> 0")
    rows, vectors = copy.rows(), copy.vectors()
    before, after = copy.compact()
    assert after < before
    with embedx.open(copy.folder) as again:
        pd.testing.assert_frame_equal(again.rows(), rows)
        np.testing.assert_array_equal(again.vectors(), vectors)
    assert not copy.verify().found


def test_label_by_condition_is_set_and_cleared(copy: embedx.Collection) -> None:
    done = copy.label(set={"label": "gong", "reviewed": 1}, where="label = 'bell'")
    assert (done.rows, done.unknown) == (10, [])
    rows = copy.rows()
    assert (rows["label"] == "gong").sum() == 10
    assert rows["reviewed"].notna().sum() == 10
    assert len(copy.store.filter("reviewed = 1")) == 10
    assert copy.label(set={"label": "gong"}, where="label = 'gong'").rows == 0
    copy.label(set={"reviewed": ""})
    assert copy.rows()["reviewed"].isna().all()
    assert not copy.verify().found


def test_label_table_by_id_path_or_window_is_applied(copy: embedx.Collection, tmp_path: Path) -> None:
    rows = copy.rows()
    table = tmp_path / "labels.csv"
    table.write_text("id,label,site\n3,owl,001\n4,,002\n999,x,y\n")
    done = copy.label(table)
    assert done.rows == 2
    assert done.unknown == ["id 999"]
    after = copy.rows()
    assert after.loc[3, "label"] == "owl"
    assert after["label"].to_dict()[4] == rows["label"].to_dict()[4], "an empty cell leaves what was there"
    assert after.loc[[3, 4], "site"].tolist() == ["001", "002"]
    frame = pd.DataFrame({"path": [rows.loc[7, "path"]], "start_s": [0.0], "label": ["fox"]})
    assert copy.label(frame).rows == 1
    assert copy.rows()["label"].to_dict()[7] == "fox"
    with pytest.raises(NothingToDo, match="id 999"):
        copy.label(pd.DataFrame({"id": [999], "label": ["x"]}))


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({}, "Give either a table"),
        ({"table": "nowhere.csv"}, "no file"),
        ({"table": {1: "owl"}}, "a file or a data frame"),
        ({"set": {"duration_s": 3}}, "cannot be set"),
        ({"set": {}}, "no column to set"),
        ({"table": pd.DataFrame({"name": ["a"], "label": ["b"]})}, "no column id or path"),
        ({"set": {"label": "x"}, "where": "nonsense = 3"}, "is invalid"),
    ],
)
def test_label_table_that_is_invalid_is_refused(copy: embedx.Collection, options: dict[str, Any], said: str) -> None:
    with pytest.raises(UsageError, match=said):
        copy.label(**options)
    assert not copy.verify().found


def test_merge_of_shards_equals_one_run(manifest: Path, tmp_path: Path) -> None:
    corpus = manifest.parent
    for number in range(1, 4):
        embedx.extract(corpus, layout="folders", out=tmp_path / str(number), shard=f"{number}/3").close()
    whole = embedx.extract(corpus, layout="folders", out=tmp_path / "whole")
    assert 0 < len(embedx.open(tmp_path / "1")) < len(whole)
    embedx.merge([tmp_path / "3", tmp_path / "1"], tmp_path / "merged")
    added = embedx.merge([tmp_path / str(number) for number in (1, 2, 3)], tmp_path / "merged")
    with embedx.open(tmp_path / "merged") as merged:
        assert len(merged) == len(whole)
        assert added == len(embedx.open(tmp_path / "2"))
        one, other = (c.rows().sort_values("path").reset_index(drop=True) for c in (merged, whole))
        pd.testing.assert_frame_equal(one, other)
        order = [np.argsort(c.rows()["path"].to_numpy()) for c in (merged, whole)]
        np.testing.assert_array_equal(merged.vectors()[order[0]], whole.vectors()[order[1]])
        assert not merged.verify().found
    embedx.merge([tmp_path / str(number) for number in (2, 3, 1)], tmp_path / "again")
    with embedx.open(tmp_path / "again") as again:
        pd.testing.assert_frame_equal(again.rows(), whole.rows())
        np.testing.assert_array_equal(again.vectors(), whole.vectors())


def test_merge_prefers_success_over_failure(write_wav: WriteWav, tmp_path: Path) -> None:
    path = write_wav("in/a.wav")
    good = path.read_bytes()
    path.write_bytes(b"nothing")
    embedx.extract(tmp_path / "in", out=tmp_path / "bad").close()
    path.write_bytes(good)
    embedx.extract(tmp_path / "in", out=tmp_path / "good").close()
    for sources in (("bad", "good"), ("good", "bad")):
        out = tmp_path / "-".join(sources)
        embedx.merge([tmp_path / one for one in sources], out)
        with embedx.open(out) as merged:
            assert len(merged) == 1
            assert not merged.failures()


def test_merge_of_different_recipes_is_refused(made: Path, write_wav: WriteWav, tmp_path: Path) -> None:
    embedx.extract(write_wav("a.wav"), out=tmp_path / "other", window=1).close()
    with pytest.raises(RecipeMismatch, match="window_s"):
        embedx.merge([made, tmp_path / "other"], tmp_path / "out")
    with pytest.raises(UsageError, match="one of the sources"):
        embedx.merge([made], made)
    with pytest.raises(UsageError, match="no collection"):
        embedx.merge([tmp_path / "nowhere"], tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_change_while_another_process_writes_is_refused(copy: embedx.Collection) -> None:
    with Store(copy.folder, write=True):
        for change in (
            lambda: copy.remove("id = 1"),
            lambda: copy.label(set={"label": "x"}),
            copy.compact,
        ):
            with pytest.raises(LockedError, match=f"process {os.getpid()}"):
                change()
    assert copy.remove("id = 1") == 1


def test_store_of_first_format_opens_and_is_migrated(copy: embedx.Collection) -> None:
    rows, vectors = copy.rows(), copy.vectors()
    copy.close()
    with sqlite3.connect(copy.folder / FILE_NAME) as db:
        db.create_function("crc32", 2, lambda number, blob: zlib.crc32(blob, number))
        for view in ("mean", "max"):
            db.execute(f"UPDATE vectors_L0_{view} SET checksum = crc32(id, vector)")
        db.execute("DELETE FROM collection WHERE key <> 'recipe'")
        db.execute("INSERT INTO collection (key, value) VALUES ('generation', '5')")
        for table in ("collection", "runs", "recordings", "rows", "columns", "views"):
            db.execute(f"ALTER TABLE {table} DROP COLUMN checksum")
        db.execute("ALTER TABLE rows DROP COLUMN source_values")
        db.execute("DROP TABLE history")
        db.execute("DROP TABLE edits")
        db.execute("DROP INDEX recordings_by_content")
        db.execute("PRAGMA user_version = 1")
    db.close()
    (copy.folder / "lock").write_text("process 1 on elsewhere")
    with embedx.open(copy.folder) as opened:
        pd.testing.assert_frame_equal(opened.rows(), rows)
        np.testing.assert_array_equal(opened.vectors(), vectors)
        assert len(opened.search(id=1)) == 10
        assert not opened.verify().found


def test_maintenance_commands_print_their_results(
    copy: embedx.Collection, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = str(copy.folder)
    assert run(["rm", folder, "--where", "label = 'bell'", "--dry-run"]) == 0
    assert "to delete: 10 of 40 rows" in capsys.readouterr().out
    assert run(["rm", folder, "--where", "label = 'bell'"]) == 0
    assert "10 rows deleted, 30 rows left" in capsys.readouterr().out
    assert run(["label", folder, "--set", "site=A", "--where", "id < 20"]) == 0
    (tmp_path / "t.csv").write_text("id,label\n30,owl\n999,owl\n")
    assert run(["label", folder, str(tmp_path / "t.csv")]) == 3
    assert "id 999" in capsys.readouterr().err
    assert run(["compact", folder]) == 0
    assert run(["verify", folder]) == 0
    assert "no damage found" in capsys.readouterr().out
    assert run(["merge", folder, "-o", str(tmp_path / "merged")]) == 0
    assert "30 rows" in capsys.readouterr().out
    assert run(["rm", folder, "--where", "nonsense", "--json"]) == 2
    assert '"exit_code": 2' in capsys.readouterr().out
