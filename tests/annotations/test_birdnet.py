"""The CSV of BirdNET-Analyzer."""

from dataclasses import replace

from embedx.annotations.base import Annotation
from embedx.annotations.birdnet import BIRDNET

TABLE = """Start (s),End (s),Scientific name,Common name,Confidence,File
0.0,3.0,Strix aluco,Tawny Owl,0.8765,/field/a.wav
0.0,3.0,Turdus merula,"Blackbird, Eurasian",0.5,/field/a.wav
"""


def test_detections_are_read_with_both_names() -> None:
    owl, blackbird = BIRDNET.read(TABLE, "a.BirdNET.results.csv")
    assert (owl.path, owl.start_s, owl.end_s, owl.label, owl.score) == ("/field/a.wav", 0.0, 3.0, "Tawny Owl", 0.8765)
    assert owl.values == {"Scientific name": "Strix aluco", "Common name": "Tawny Owl"}
    assert blackbird.label == "Blackbird, Eurasian"
    assert BIRDNET.read(TABLE.replace(",", ";").replace("Blackbird;", "Blackbird,"), "a.csv") == [
        replace(one, place=one.place.replace("a.BirdNET.results.csv", "a.csv")) for one in (owl, blackbird)
    ]


def test_table_keeps_names_frequencies_and_other_columns() -> None:
    assert BIRDNET.write is not None
    values = {"Scientific name": "Strix aluco", "Common name": "Tawny Owl", "site": "=A1"}
    one = Annotation("/field/a.wav", 0.0, 3.0, "Tawny Owl", 300.0, None, 0.5, values)
    text = BIRDNET.write([one])
    assert text.splitlines() == [
        "Start (s),End (s),Scientific name,Common name,Confidence,File,Low Freq (Hz),High Freq (Hz),site",
        "0.000000,3.000000,Strix aluco,Tawny Owl,0.500000,/field/a.wav,300.000000,,'=A1",
    ]
    (back,) = BIRDNET.read(text, "x")
    assert replace(back, place="") == one
    (changed,) = BIRDNET.read(BIRDNET.write([replace(one, label="Barn Owl")]), "x")
    assert (changed.label, changed.values["Scientific name"]) == ("Barn Owl", "Barn Owl")
