import io
import json
import os
import sys
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest

from embedx.datasets.items import Item
from embedx.datasets.sources import LAYOUTS, read_corpus
from embedx.errors import NothingToDo, UsageError

ROWS = [
    {"path": "a/1.wav", "label": "001", "site": "NA", "depth": "2.50", "n": "1", "code": "1e5"},
    {"path": "a/2.wav", "label": "", "site": "null", "depth": "10", "n": "-20", "code": "07"},
]


def touch(root: Path, *names: str) -> None:
    for name in names:
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"x")


def names(items: list[Item], root: Path) -> list[str]:
    return [os.path.relpath(item.path, root) for item in items]


def test_folder_is_read_recursively_in_order(tmp_path: Path) -> None:
    touch(tmp_path, "b.wav", "a.FLAC", "x/c.mp3", ".hidden.wav", ".git/d.wav", "x/notes.txt", "x/._c.mp3")
    items = read_corpus(tmp_path)
    assert names(items, tmp_path) == ["a.FLAC", "b.wav", "x/c.mp3"]
    assert all(item.label is None for item in items)
    assert all(os.path.isabs(item.path) for item in items)


def test_folder_per_class_is_recognised(tmp_path: Path) -> None:
    touch(tmp_path, "dog/1.wav", "dog/deep/2.wav", "cat/3.wav")
    assert [item.label for item in read_corpus(tmp_path)] == ["cat", "dog", "dog"]
    assert {item.label for item in read_corpus(tmp_path, layout="files")} == {None}
    touch(tmp_path, "4.wav")  # now it is a folder of files
    assert {item.label for item in read_corpus(tmp_path)} == {None}


def esc50(root: Path) -> None:
    touch(root, "audio/1-100-A-0.wav", "audio/2-200-B-7.ogg", "audio/unlisted.wav")
    (root / "meta").mkdir()
    (root / "meta/esc50.csv").write_text(
        "filename,fold,target,category,esc10,src_file,take\n"
        "1-100-A-0.wav,1,0,dog,True,100,A\n2-200-B-7.ogg,2,7,rain,False,200,B\n"
    )


def urbansound8k(root: Path) -> None:
    touch(root, "audio/fold1/7-0-1-2.wav", "audio/fold10/8-3-0-0.wav")
    (root / "metadata").mkdir()
    (root / "metadata/UrbanSound8K.csv").write_text(
        "slice_file_name,fsID,start,end,salience,fold,classID,class\n"
        "7-0-1-2.wav,7,12.5,16.5,1,1,0,air_conditioner\n8-3-0-0.wav,8,0.0,4.0,2,10,3,dog_bark\n"
    )


@pytest.mark.parametrize("layout", ["auto", "esc50"])
def test_esc50_layout_is_read(tmp_path: Path, layout: str) -> None:
    esc50(tmp_path)
    items = read_corpus(tmp_path, layout=layout)
    assert names(items, tmp_path) == ["audio/1-100-A-0.wav", "audio/2-200-B-7.ogg"]
    assert [(item.label, item.group, item.meta["fold"]) for item in items] == [("dog", "100", 1), ("rain", "200", 2)]
    assert items[0].meta["category"] == "dog"
    assert items[0].meta["esc10"] == "True"
    assert [item.label for item in read_corpus(tmp_path, label="target")] == ["0", "7"]


@pytest.mark.parametrize("layout", ["auto", "urbansound8k"])
def test_urbansound8k_start_and_end_columns_are_not_excerpts(tmp_path: Path, layout: str) -> None:
    urbansound8k(tmp_path)
    items = read_corpus(tmp_path, layout=layout)
    assert names(items, tmp_path) == ["audio/fold1/7-0-1-2.wav", "audio/fold10/8-3-0-0.wav"]
    assert [(i.label, i.group, i.meta["fold"], i.meta["start"]) for i in items] == [
        ("air_conditioner", "7", 1, 12.5),
        ("dog_bark", "8", 10, 0.0),
    ]
    assert {(item.start_s, item.end_s) for item in items} == {(0.0, None)}


def write_csv(path: Path) -> None:
    pd.DataFrame(ROWS).to_csv(path, index=False)


def write_tsv(path: Path) -> None:
    pd.DataFrame(ROWS).to_csv(path, index=False, sep="\t")


def write_jsonl(path: Path) -> None:
    path.write_text("\n".join(json.dumps(row) for row in ROWS) + "\n\n")


def write_parquet(path: Path) -> None:
    pd.DataFrame(ROWS).to_parquet(path)


WRITERS: dict[str, Callable[[Path], None]] = {
    "m.csv": write_csv,
    "m.tsv": write_tsv,
    "m.jsonl": write_jsonl,
    "m.parquet": write_parquet,
}


@pytest.mark.parametrize("name", WRITERS)
def test_manifest_text_is_kept_unchanged(tmp_path: Path, name: str) -> None:
    WRITERS[name](tmp_path / name)
    first, second = read_corpus(tmp_path / name)
    assert names([first, second], tmp_path) == ["a/1.wav", "a/2.wav"]
    assert (first.label, second.label) == ("001", None)
    assert (first.meta["site"], second.meta["site"]) == ("NA", "null")
    assert (first.meta["code"], second.meta["code"]) == ("1e5", "07")
    if name in ("m.csv", "m.tsv"):  # text tables say nothing of types, so numbers are recognised
        assert (first.meta["depth"], second.meta["depth"]) == (2.5, 10)
        assert (first.meta["n"], second.meta["n"]) == (1, -20)


@pytest.mark.parametrize("name", WRITERS)
def test_manifest_on_stdin_is_read(tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    WRITERS[name](tmp_path / name)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO((tmp_path / name).read_bytes())))
    assert names(read_corpus("-"), tmp_path) == ["a/1.wav", "a/2.wav"]


def test_path_list_on_stdin_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    touch(tmp_path, "a b.wav", "c,d.wav")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b"a b.wav\nc,d.wav\n")))
    assert names(read_corpus("-"), tmp_path) == ["a b.wav", "c,d.wav"]


def test_source_may_be_frame_list_or_file(tmp_path: Path) -> None:
    touch(tmp_path, "1.wav", "d/2.wav")
    frame = pd.DataFrame(
        {"file": [str(tmp_path / "1.wav")], "n": [3], "when": [pd.Timestamp("2026-01-02")], "gone": [None]}
    )
    (item,) = read_corpus(frame)
    assert item.meta == {"file": str(tmp_path / "1.wav"), "n": 3, "when": "2026-01-02T00:00:00", "gone": None}
    items = read_corpus([tmp_path / "1.wav", str(tmp_path / "d"), tmp_path / "1.wav"])
    assert names(items, tmp_path) == ["1.wav", "d/2.wav"]


def test_excerpts_of_one_file_are_separate_items(tmp_path: Path) -> None:
    (tmp_path / "m.csv").write_text("path,start,end,label\nx.wav,0,1.5,a\nx.wav,1.5,,b\nx.wav,0,1.5,a\n")
    items = read_corpus(tmp_path / "m.csv")
    assert [(i.start_s, i.end_s, i.label) for i in items] == [(0.0, 1.5, "a"), (1.5, None, "b")]


def test_manifest_columns_with_reserved_names_get_underscore(tmp_path: Path) -> None:
    (tmp_path / "m.csv").write_text("path,id,Label,flags,site\nx.wav,7,dog,f,A\n")
    (item,) = read_corpus(tmp_path / "m.csv", label="Label")
    assert item.meta == {"id_": 7, "Label_": "dog", "flags_": "f", "site": "A"}
    assert item.label == "dog"


def test_label_and_group_come_from_column_or_regular_expression(tmp_path: Path) -> None:
    touch(tmp_path, "3_ann_0.wav", "4_bob_1.wav")
    items = read_corpus(tmp_path, label=r"(\d)_", group=r"_([a-z]+)_")
    assert [(item.label, item.group) for item in items] == [("3", "ann"), ("4", "bob")]
    for rule in ("speaker", r"x(\d)", r"(", r"(a)(", "3_"):
        with pytest.raises(UsageError, match=r"column|regular expression"):
            read_corpus(tmp_path, label=rule)


def test_folder_with_any_file_names_is_read(tmp_path: Path) -> None:
    folder = os.path.join(os.fsencode(tmp_path), b"caf\xe9")
    for name in (b"\xff.wav", b"\xc3\xa9.wav", b"e\xcc\x81.wav"):  # no UTF-8; the two Unicode forms of one name
        os.makedirs(folder, exist_ok=True)
        with open(os.path.join(folder, name), "wb"):
            pass
    items = read_corpus(tmp_path, layout="folders")
    assert len(items) == 3
    assert {item.label for item in items} == {"caf\\xe9"}
    assert all(os.path.exists(item.path) for item in items)


@pytest.mark.parametrize(
    "content, message",
    [
        (b"", r"m\.csv is empty"),
        (b"label,n\na,1\n", r"m\.csv has no column with paths.*Its columns: label, n"),
        (b"path,label\n,a\n", r"Line 2 of .*m\.csv, column path: there is no path"),
        (b"path,start\nx.wav,soon\n", "Line 2 .*column start: 'soon' is not a time"),
        (b"path,start\nx.wav,-1\n", "Line 2 .*'-1' is not a time|Line 2 .*-1 is not a time"),
        (b'{"path": "x.wav"\n', "Line 1 .*is not JSON"),
        (b"PAR1 but no parquet", "cannot be read as a table"),
        (b'path\n"unclosed\n', "begins in line 2 has a quote that is not closed"),
    ],
)
def test_invalid_manifest_names_the_line(tmp_path: Path, content: bytes, message: str) -> None:
    (tmp_path / "m.csv").write_bytes(content)
    with pytest.raises(UsageError, match=message):
        read_corpus(tmp_path / "m.csv")


def test_invalid_source_is_refused(tmp_path: Path) -> None:
    touch(tmp_path, "notes.txt")
    with pytest.raises(UsageError, match="no file or folder"):
        read_corpus(tmp_path / "missing")
    with pytest.raises(NothingToDo, match=r"\.wav"):
        read_corpus(tmp_path)
    with pytest.raises(NothingToDo):
        read_corpus([])
    with pytest.raises(UsageError, match=", ".join(LAYOUTS)):
        read_corpus(tmp_path, layout="esc-50")
    with pytest.raises(UsageError, match=r"meta/esc50\.csv"):
        read_corpus(tmp_path, layout="esc50")
    with pytest.raises(UsageError, match="not int"):
        read_corpus(3)


def test_manifest_that_would_block_is_refused(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "list.csv")
    with pytest.raises(UsageError, match="standard input"):
        read_corpus(tmp_path / "list.csv")
