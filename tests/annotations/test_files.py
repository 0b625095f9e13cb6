"""Files of annotations: their content tells the format; others are refused, or in a folder passed over."""

import json
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


@pytest.mark.parametrize("column", ["event_label", "class_name", "Species"])
def test_usual_name_of_the_column_with_labels_is_known(column: str, tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text(f"filename,onset,offset,{column}\na.wav,1,2,owl\n")
    ((_, (annotation,)),) = read_annotations(tmp_path / "t.csv")
    assert annotation.label == "owl"


RAVEN_HEADER = "Selection\tView\tChannel\tBegin Time (s)\tEnd Time (s)\tLow Freq (Hz)\tHigh Freq (Hz)"
TOOLS = {  # what a tool writes -> (path, start, end, label, low, high, score) of each annotation
    "raven.txt": (
        f"{RAVEN_HEADER}\tSpecies\r\n1\tWaveform 1\t1\t1,5\t2,25\t\t\tå\r\n"
        "1\tSpectrogram 1\t1\t1,5\t2,25\t350,0\t1484,669\tå\r\n",
        [("", 1.5, 2.25, "å", 350.0, 1484.669, None)],
    ),
    "raven-empty.txt": (f"{RAVEN_HEADER}\n", []),
    "birdnet-raven.txt": (
        f"{RAVEN_HEADER}\tCommon Name\tSpecies Code\tConfidence\tBegin Path\tFile Offset (s)\n"
        "1\tSpectrogram 1\t1\t0\t3.0\t0\t15000\tBlackbird\teurbla\t0.8141\t/x/a.wav\t0\n"
        "2\tSpectrogram 1\t1\t63.0\t66.0\t0\t15000\tRobin\teurrob1\t0.5\t/x/b.wav\t3.0\n",
        [("/x/a.wav", 0.0, 3.0, "Blackbird", 0.0, 15000.0, 0.8141), ("/x/b.wav", 3.0, 6.0, "Robin", 0.0, 15000.0, 0.5)],
    ),
    "birdnet-audacity.txt": (
        "0.0\t3.0\tTurdus merula, Blackbird\t0.8141\n",
        [("", 0.0, 3.0, "Turdus merula, Blackbird", None, None, 0.8141)],
    ),
    "birdnet.csv": (
        "Start (s),End (s),Scientific name,Common name,Confidence,File\n"
        '0.0,3.0,Turdus merula,"Bird, black",0.8,a.wav\n',
        [("a.wav", 0.0, 3.0, "Bird, black", None, None, 0.8)],
    ),
    "birdnet-r.csv": (
        "filepath,start,end,scientific_name,common_name,confidence,lat\n"
        "/x/a.wav,0.0,3.0,Turdus merula,Blackbird,0.8,-1\n",
        [("/x/a.wav", 0.0, 3.0, "Blackbird", None, None, 0.8)],
    ),
    "audacity.txt": (
        "0,500000\t1,500000\towl\u2028x\r\n\\\t100,000000\t-1,000000\r\n3,000000\t3,000000\tpoint\r\n",
        [("", 0.5, 1.5, "owl\u2028x", 100.0, None, None), ("", 3.0, 3.0, "point", None, None, None)],
    ),
    "excel.csv": ("file;begin;end;label\r\na.wav;1,5;2,75;owl\r\n", [("a.wav", 1.5, 2.75, "owl", None, None, None)]),
    "label-studio-min.json": (
        json.dumps(
            [
                {
                    "created_at": "2021-03-04T10:00:00.123Z",
                    "sound": "s3://bucket/c%20d.wav",
                    "label": [
                        {"start": 0.5, "end": 1.5, "channel": 0, "labels": ["A"], "original_length": 10.0},
                        {"start": 2, "end": 3, "channel": 0, "labels": ["A", "B"], "type": "Labels"},
                    ],
                    "lead_time": 3.2,
                }
            ]
        ),
        [("/c d.wav", 0.5, 1.5, "A", None, None, None), ("/c d.wav", 2.0, 3.0, "A;B", None, None, None)],
    ),
    "label-studio-video.json": (
        json.dumps(
            [
                {
                    "data": {"video": "/data/upload/1/aaaaaaaa-v.mp4"},
                    "annotations": [
                        {
                            "result": [
                                {
                                    "original_length": 5.0,
                                    "value": {"start": 1, "end": 2, "channel": 0, "labels": ["V"]},
                                    "type": "labels",
                                },
                                {"value": {"choices": ["good"]}, "type": "choices"},
                            ]
                        }
                    ],
                }
            ]
        ),
        [("/data/upload/1/aaaaaaaa-v.mp4", 1.0, 2.0, "V", None, None, None)],
    ),
}


@pytest.mark.parametrize("name", TOOLS)
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
def test_file_is_read_as_its_tool_writes_it(name: str, encoding: str, tmp_path: Path) -> None:
    text, expected = TOOLS[name]
    (tmp_path / name).write_bytes(text.encode(encoding))
    found = read_file(str(tmp_path / name))
    fields = [(one.path, one.start_s, one.end_s, one.label, one.low_hz, one.high_hz, one.score) for one in found]
    assert fields == expected
