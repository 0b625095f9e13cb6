"""Files of annotations: their content tells the format; others are refused, or in a folder passed over."""

from pathlib import Path

import pytest

from embedx.annotations.base import Annotation
from embedx.annotations.files import WRITTEN, is_annotations, read_annotations, read_file
from embedx.errors import NothingToDo, UsageError

GIVEN = [Annotation("/f/a.wav", 0.5, 2.0, "owl", 100.0, 900.0, 0.5), Annotation("/f/a.wav", 2.5, 3.0, "Grünfink")]


@pytest.mark.parametrize("name", WRITTEN)
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
def test_format_is_recognised_in_every_encoding(name: str, encoding: str, tmp_path: Path) -> None:
    form = WRITTEN[name]
    assert form.write is not None
    file = tmp_path / "any.txt"
    file.write_bytes(form.write(GIVEN).replace("\n", "\r\n").encode(encoding))
    found = read_file(str(file))
    assert [(one.start_s, one.end_s, one.label) for one in found] == [(0.5, 2.0, "owl"), (2.5, 3.0, "Grünfink")]
    if name != "textgrid":
        assert (found[0].low_hz, found[0].high_hz) == (100.0, 900.0)
    assert is_annotations(file)


def test_folder_is_searched_and_other_files_are_passed_over(tmp_path: Path) -> None:
    (tmp_path / "deep").mkdir()
    (tmp_path / "deep" / "a.txt").write_text("0\t1\towl\n")
    (tmp_path / "b.csv").write_text("start,end,label\n0,1,wren\n")
    (tmp_path / "CONFIG.TXT").write_text("Sample rate: 48000\n")
    (tmp_path / "empty.txt").touch()
    assert [(Path(file).name, len(found)) for file, found in read_annotations(tmp_path)] == [("b.csv", 1), ("a.txt", 1)]
    with pytest.raises(UsageError, match=r"CONFIG\.TXT is not a file of annotations"):
        read_annotations(tmp_path / "CONFIG.TXT")
    assert read_annotations(tmp_path / "empty.txt")[0][1] == []
    with pytest.raises(UsageError, match="does not exist"):
        read_annotations(tmp_path / "nosuch")
    (tmp_path / "none").mkdir()
    with pytest.raises(NothingToDo, match="There are no annotations"):
        read_annotations(tmp_path / "none")
    (tmp_path / "latin.txt").write_bytes("0\t1\tGrünfink\n".encode("latin-1"))
    with pytest.raises(UsageError, match="UTF-8"):
        read_annotations(tmp_path / "latin.txt")


def test_tables_of_rows_and_recordings_are_no_annotations(tmp_path: Path) -> None:
    file = tmp_path / "t.csv"
    for header, expected in (
        ("id,start_s,end_s,label", False),
        ("path,start_s,end_s,label", False),
        ("path,label", False),
        ("path,onset,offset,label", True),
        ("start_s,end_s,label", True),
        ("Start (s),End (s),Common name", True),
    ):
        file.write_text(f"{header}\n")
        assert is_annotations(file) == expected, header
