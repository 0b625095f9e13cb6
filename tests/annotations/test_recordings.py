"""Which recording an annotation is about."""

import pytest

from embedx.annotations.base import Annotation
from embedx.annotations.recordings import Recordings
from embedx.errors import UsageError

PATHS = ["/d/x/a.wav", "/d/y/a.wav", "/d/y/b.flac", "/d/night.one.wav", "/d/2.wav"]


@pytest.mark.parametrize(
    ("name", "file", "path"),
    [
        ("x/a.wav", "/d/labels.csv", "/d/x/a.wav"),  # counts from the folder of the file
        ("a.wav", "/d/y/labels.csv", "/d/y/a.wav"),
        ("C:\\cards\\y\\a.wav", "/other/t.txt", "/d/y/a.wav"),  # a path of another machine
        ("/data/upload/1/0a1b2c3d-b.flac", "/other/t.json", "/d/y/b.flac"),
        ("c.wav", "/d/t.txt", None),
        ("", "/d/y/b.txt", "/d/y/b.flac"),
        ("", "/other/b.flac.TextGrid", "/d/y/b.flac"),
        ("", "/other/b.Table.1.selections.txt", "/d/y/b.flac"),
        ("", "/other/night.one.BirdNET.results.csv", "/d/night.one.wav"),
        ("", "/other/y/a.txt", "/d/y/a.wav"),
        ("", "/other/0002_2.txt", "/d/2.wav"),  # as embedx writes it
        ("", "/other/c.txt", None),
    ],
)
def test_annotation_is_about_the_recording_that_it_names(name: str, file: str, path: str | None) -> None:
    found, unknown = Recordings(PATHS).resolve([(file, [Annotation(name, 0.0, 1.0)])])
    assert ([one.path for one in found], unknown) == (([path], []) if path else ([], [name or file]))


@pytest.mark.parametrize(("name", "file"), [("a.wav", "/other/t.txt"), ("", "/other/a.txt")])
def test_name_of_several_recordings_is_refused(name: str, file: str) -> None:
    with pytest.raises(UsageError, match="one of 2 recordings"):
        Recordings(PATHS).resolve([(file, [Annotation(name, 0.0, 1.0)])])
