"""Label tracks of Audacity, in the standard and the extended format of its manual."""

import pytest

from embedx.annotations.audacity import AUDACITY
from embedx.annotations.base import Annotation
from embedx.errors import UsageError

TRACK = (
    "2.150000\t2.150000\tpoint\n3.400000\t6.100000\tregion\n7.000000\t8.000000\n"
    "9.000000\t9.500000\thigh only\n\\\t-1.000000\t6334.588867\n"
    "10.000000\t11.000000\tboth\n\\\t1484.669312\t2969.338523\n"
)


def test_labels_are_read_with_their_frequencies() -> None:
    assert AUDACITY.matches(TRACK)
    labels = AUDACITY.read(TRACK, "a.txt")
    assert [(one.start_s, one.end_s, one.label) for one in labels[:3]] == [
        (2.15, 2.15, "point"), (3.4, 6.1, "region"), (7.0, 8.0, None),
    ]  # fmt: skip
    assert (labels[3].low_hz, labels[3].high_hz) == (None, 6334.588867)
    assert (labels[4].low_hz, labels[4].high_hz) == (1484.669312, 2969.338523)


def test_probabilities_of_predictions_are_no_part_of_the_label() -> None:
    mine, birdnet = AUDACITY.read("0\t3\towl 0.913; rain 0.500\n3\t6\tStrix aluco, owl\t0.75\n", "a.txt")
    assert (mine.label, mine.score) == ("owl;rain", 0.913)
    assert (birdnet.label, birdnet.score) == ("Strix aluco, owl", 0.75)


def test_labels_are_written_as_they_were_read() -> None:
    assert AUDACITY.write is not None
    assert AUDACITY.write(AUDACITY.read(TRACK, "a.txt")) == TRACK.replace("8.000000\n", "8.000000\t\n")
    assert AUDACITY.write([Annotation("", 0.0, 1.0, "two\nlines\t")]) == "0.000000\t1.000000\ttwo lines \n"


@pytest.mark.parametrize("text", ["1,500\t2,500\towl\n", "0.5\t1.5\towl\nno label\n", "2\t1\towl\n", "\\\t1\t2\n"])
def test_damaged_track_is_refused_by_line(text: str) -> None:
    with pytest.raises(UsageError, match=r"Line [12] of a\.txt"):
        AUDACITY.read(text, "a.txt")
