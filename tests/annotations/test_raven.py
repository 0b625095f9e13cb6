"""Selection tables of Raven, as its manual describes them."""

import pytest

from embedx.annotations.base import Annotation
from embedx.annotations.raven import RAVEN
from embedx.errors import UsageError

SINGLE = """Selection\tView\tChannel\tBegin Time (s)\tEnd Time (s)\tLow Freq (Hz)\tHigh Freq (Hz)\tAnnotation
1\tWaveform 1\t1\t1.500000000\t2.250000000\t0.0\t24000.0\towl
1\tSpectrogram 1\t1\t1.500000000\t2.250000000\t350.0\t1200.5\towl
2\tSpectrogram 1\t2\t10.0\t11.0\t4000.0\t8000.0\t"loud" song
"""
SEVERAL = """Selection\tView\tChannel\tBegin Time (s)\tEnd Time (s)\tBegin Path\tBegin File\tFile Offset (s)\tSpecies\tN
1\tSpectrogram 1\t1\t5.0\t6.0\tC:\\field\\a.wav\ta.wav\t5.0\twren\t3.5
2\tSpectrogram 1\t1\t605.0\t606.5\tC:\\field\\b.wav\tb.wav\t5.0\trobin\t
"""


def test_selection_of_several_views_is_read_once_with_its_frequencies() -> None:
    first, second = RAVEN.read(SINGLE, "t.txt")
    assert (first.start_s, first.end_s, first.low_hz, first.high_hz, first.label) == (1.5, 2.25, 350.0, 1200.5, "owl")
    assert (second.label, second.values, second.place) == ('"loud" song', {"Channel": 2}, "Line 4 of t.txt")


def test_times_in_a_table_of_several_files_are_those_in_the_file() -> None:
    first, second = RAVEN.read(SEVERAL, "t.txt")
    assert (first.path, first.start_s, first.end_s) == ("C:\\field\\a.wav", 5.0, 6.0)
    assert (second.path, second.start_s, second.end_s) == ("C:\\field\\b.wav", 5.0, 6.5)
    assert (first.label, first.values["Species"], first.values["N"]) == ("wren", "wren", 3.5)
    for broken in (SEVERAL.replace("File Offset (s)", "Offset"), SEVERAL.replace("b.wav\t5.0", "b.wav\t")):
        with pytest.raises(UsageError, match="about 2 files and File Offset"):
            RAVEN.read(broken, "t.txt")


def test_table_has_what_raven_needs_to_open_the_recordings() -> None:
    assert RAVEN.write is not None
    values = {"id": 7, "channel": 1, "site": "A\tB"}
    lines = RAVEN.write([Annotation("/field/a.wav", 5.0, 6.5, "owl", 300.0, 900.0, 0.5, values)]).splitlines()
    cells = dict(zip(lines[0].split("\t"), lines[1].split("\t"), strict=True))
    assert cells == {
        "Selection": "1", "View": "Spectrogram 1", "Channel": "2", "Begin Time (s)": "5.000000",
        "End Time (s)": "6.500000", "Low Freq (Hz)": "300.0", "High Freq (Hz)": "900.0",
        "Begin Path": "/field/a.wav", "File Offset (s)": "5.000000", "Score": "0.500000", "label": "owl", "id": "7",
        "Begin File": "a.wav", "site": "A B",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ("1.500000000", "1,500", "Line 3 of t.txt, start: '1,500' is not a number"),
        ("2.250000000", "1.0", "Line 3 of t.txt ends (1 s) before it begins (1.5 s)"),
        ("1.500000000", "", "Line 3 of t.txt: the start is missing"),
        ("1.500000000", "-3", "Line 3 of t.txt begins before 0 s"),
        ("350.0", "nan", "Low Freq (Hz): 'nan' is not a number"),
        ("\towl", "\towl\textra", "has 9 cells, and the first line 8"),
    ],
)
def test_damaged_line_is_named(old: str, new: str, words: str) -> None:
    text = SINGLE.replace("1\tWaveform 1\t1\t1.500000000\t2.250000000\t0.0\t24000.0\towl\n", "\n")
    with pytest.raises(UsageError) as error:
        RAVEN.read(text.replace(old, new, 1), "t.txt")
    assert words in str(error.value)
