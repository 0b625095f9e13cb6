"""Odd manifests are read right, or refused with the file, the line and the column."""

import csv
import io
import os
import re
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from embedx.datasets.sources import read_corpus
from embedx.datasets.tables import parse
from embedx.errors import EmbedxError, UsageError
from tests.helpers.odd_tables import FILES, ODD_TABLES, OddTable


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name in FILES:
        (tmp_path / name).touch()
    return tmp_path


@pytest.mark.parametrize("table", ODD_TABLES, ids=lambda table: table.name)
def test_odd_manifest_is_read_right_or_refused_by_name(table: OddTable, folder: Path) -> None:
    (folder / table.name).write_bytes(table.data)
    if table.rows is None:
        with pytest.raises(EmbedxError) as caught:
            read_corpus(folder / table.name)
        assert re.search(table.message, str(caught.value), re.DOTALL), caught.value
        assert table.name in str(caught.value)
        assert caught.value.exit_code == table.code
        assert len(str(caught.value)) < 2000
        return
    items = read_corpus(folder / table.name)
    assert [(os.path.relpath(item.path, folder), item.label) for item in items] == table.rows
    assert dict(items[0].meta) | table.meta == items[0].meta


def test_table_with_too_many_rows_is_refused_by_its_footer(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pd.DataFrame({"path": ["a.wav"] * 11}).to_parquet(folder / "m.parquet")
    monkeypatch.setattr("embedx.datasets.parquet.MAX_ROWS", 10)
    with pytest.raises(UsageError, match=r"m\.parquet has 11 rows; allowed are 10"):
        read_corpus(folder / "m.parquet")


def test_long_text_that_a_dictionary_gives_to_many_rows_is_refused(folder: Path) -> None:
    rows = 100_000  # as text they need 20 GB
    texts = pa.DictionaryArray.from_arrays(pa.array([0] * rows, pa.int32()), ["y" * 200_000])
    pq.write_table(pa.table({"path": ["a.wav"] * rows, "x": texts}), folder / "m.parquet", store_schema=False)
    assert (folder / "m.parquet").stat().st_size < 1_000_000
    with pytest.raises(UsageError, match=r"m\.parquet, column x: a text has 200000 characters"):
        read_corpus(folder / "m.parquet")


def test_table_that_needs_much_memory_is_refused_by_its_footer(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pd.DataFrame({"path": ["a.wav"], "x": [list(range(1000))]}).to_parquet(folder / "m.parquet")
    monkeypatch.setattr("embedx.datasets.parquet.MAX_BYTES", 1000)
    with pytest.raises(UsageError, match=r"m\.parquet holds \d+ bytes of text and numbers; allowed are 1000"):
        read_corpus(folder / "m.parquet")


def test_column_of_the_label_stays_text(folder: Path) -> None:
    (folder / "m.csv").write_text("path,id,code,code_\na.wav,1.50,007,x\nb.wav,2.50,1e5,y\n")
    assert [item.label for item in read_corpus(folder / "m.csv", label="id")] == ["1.50", "2.50"]
    assert [item.group for item in read_corpus(folder / "m.csv", group="code")] == ["007", "1e5"]


def test_label_column_with_a_reserved_name_is_not_confused_with_its_stored_name(folder: Path) -> None:
    (folder / "m.csv").write_text("path,id,id_\na.wav,7,70\nb.wav,8,80\n")
    assert [item.label for item in read_corpus(folder / "m.csv", label="id")] == ["7", "8"]
    assert [item.label for item in read_corpus(folder / "m.csv", label="id_")] == ["70", "80"]


def test_every_conflict_is_counted(folder: Path) -> None:
    lines = [f"{i}.wav,{label}\n" for label in ("dog", "cat") for i in range(30)]
    (folder / "m.csv").write_text("path,label\n" + "".join(lines))
    with pytest.raises(UsageError, match=r"30 conflicts.*0\.wav: label is 'dog' \(Line 2 .*'cat' \(Line 32.*10 more"):
        read_corpus(folder / "m.csv")


def test_sources_that_differ_about_a_recording_are_refused(folder: Path) -> None:
    (folder / "one.csv").write_text("path,label\na.wav,dog\n")
    (folder / "two.csv").write_text("path,label\na.wav,cat\n")
    with pytest.raises(UsageError, match=r"'dog' \(Line 2 of .*one\.csv\) and 'cat' \(Line 2 of .*two\.csv\)"):
        read_corpus([folder / "one.csv", folder / "two.csv"])
    items = read_corpus([folder, folder / "one.csv"])
    assert {os.path.basename(item.path): item.label for item in items}["a.wav"] == "dog"


def test_file_name_that_is_not_utf8_is_taken_from_a_table_if_the_file_exists(folder: Path) -> None:
    name = os.fsdecode(b"caf\xe9.wav")
    (folder / "m.csv").write_bytes(b"path,label\ncaf\xe9.wav,dog\n")
    with pytest.raises(UsageError, match="not UTF-8"):
        read_corpus(folder / "m.csv")
    (folder / name).touch()
    (item,) = read_corpus(folder / "m.csv")
    assert item.path == str(folder / name)


def test_frame_with_two_columns_of_one_name_is_refused(folder: Path) -> None:
    frame = pd.DataFrame([[str(folder / "a.wav"), 1, 2]], columns=["path", "x", "x"])
    with pytest.raises(UsageError, match="several columns with the name 'x'"):
        read_corpus(frame)


CELLS = st.text(st.characters(codec="utf-8", exclude_characters="\0\r"), max_size=6)
NAMES = st.lists(
    st.text("abcXYZ_ é", min_size=1, max_size=6).map(str.strip).filter(bool), min_size=1, max_size=4, unique=True
)


@settings(max_examples=100, deadline=None)
@given(data=st.data(), separator=st.sampled_from("\t,;|"), quoting=st.sampled_from([csv.QUOTE_MINIMAL, csv.QUOTE_ALL]))
def test_ordinary_table_is_read_as_pandas_reads_it(data: st.DataObject, separator: str, quoting: int) -> None:
    columns = ["path", *data.draw(NAMES)]
    rows = data.draw(st.lists(st.tuples(*[CELLS.filter(str.strip) for _ in columns]), min_size=1, max_size=4))
    file = io.StringIO(newline="")
    writer = csv.writer(file, delimiter=separator, quoting=quoting, lineterminator="\n")  # type: ignore[arg-type]
    writer.writerows([columns, *rows])
    table = parse(file.getvalue().encode(), "m.csv", texts=columns)
    frame = pd.read_csv(io.StringIO(file.getvalue()), sep=separator, dtype=object, keep_default_na=False)
    assert list(table.columns) == [str(name) for name in frame]
    assert [list(row.values()) for row in table.rows] == frame.to_numpy().tolist()


def test_a_cell_that_is_too_long_is_named_as_such() -> None:
    """The error speaks of the length of the cell, too, and not only of a quote."""
    with pytest.raises(UsageError, match=r"line 2 .* a cell of more than 131072 characters"):
        parse(b"path,label\na.wav," + b"x" * 200_000 + b"\n", "long.csv")
