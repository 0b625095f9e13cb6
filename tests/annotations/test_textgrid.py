"""TextGrids of Praat in the long and the short form of its manual."""

import pytest

from embedx.annotations.base import Annotation
from embedx.annotations.textgrid import TEXTGRID
from embedx.errors import UsageError

LONG = """File type = "ooTextFile"
Object class = "TextGrid"

xmin = 0
xmax = 2.3
tiers? <exists>
size = 2
item []:
    item [1]:
        class = "IntervalTier"
        name = "call 1"
        xmin = 0
        xmax = 2.3
        intervals: size = 3
        intervals [1]:
            xmin = 0
            xmax = 0.7
            text = ""
        intervals [2]:
            xmin = 0.7
            xmax = 1.6
            text = "says ""hu"" = 3"
        intervals [3]:
            xmin = 1.6
            xmax = 2.3
            text = "two
lines"
    item [2]:
        class = "TextTier"
        name = "beats"
        xmin = 0
        xmax = 2.3
        points: size = 1
        points [1]:
            number = 1.25
            mark = "x"
"""
SHORT = """File type = "ooTextFile"
Object class = "TextGrid"

0
2.3
<exists>
2
"IntervalTier"
"call 1"
0
2.3
3
0
0.7
""
0.7
1.6
"says ""hu"" = 3"
1.6
2.3
"two
lines"
"TextTier"
"beats"
0
2.3
1
1.25
"x"
"""


@pytest.mark.parametrize("text", [LONG, SHORT])
def test_intervals_and_points_are_read_with_their_tiers(text: str) -> None:
    assert TEXTGRID.matches(text)
    found = [(one.start_s, one.end_s, one.label, one.values["tier"]) for one in TEXTGRID.read(text, "a.TextGrid")]
    assert found == [
        (0.7, 1.6, 'says "hu" = 3', "call 1"), (1.6, 2.3, "two\nlines", "call 1"), (1.25, 1.25, "x", "beats"),
    ]  # fmt: skip


@pytest.mark.parametrize("text", [LONG, SHORT])
def test_file_that_ends_anywhere_is_refused(text: str) -> None:
    for length in range(60, len(text) - 4, 7):
        with pytest.raises(UsageError, match="damaged TextGrid"):
            TEXTGRID.read(text[:length], "a.TextGrid")


def test_overlapping_annotations_are_in_tiers_without_gaps() -> None:
    assert TEXTGRID.write is not None
    given = [Annotation("", 0.5, 2.0, 'a "b"'), Annotation("", 1.0, 3.0, "c"), Annotation("", 2.0, 2.5, "d")]
    text = TEXTGRID.write(given)
    back = TEXTGRID.read(text, "x")
    assert {(one.start_s, one.end_s, one.label) for one in back} == {
        (one.start_s, one.end_s, one.label) for one in given
    }
    assert [one.values["tier"] for one in back] == ["labels", "labels", "labels 2"]
    assert text.count("xmax = 3.000000") == 1 + 2 + 2  # the file, the tiers, and their last intervals
