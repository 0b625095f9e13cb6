"""JSON of Label Studio: exports, JSON-MIN, and tasks to import."""

import json

import pytest

from embedx.annotations.base import Annotation
from embedx.annotations.label_studio import LABEL_STUDIO
from embedx.errors import UsageError

REGION = {
    "id": "r1", "from_name": "label", "to_name": "audio", "type": "labels", "original_length": 60.0,
    "value": {"start": 1.5, "end": 2.25, "channel": 0, "labels": ["owl", "rain"]},
}  # fmt: skip
TEXT = {**REGION, "from_name": "note", "type": "textarea", "value": {"start": 1.5, "end": 2.25, "text": ["far away"]}}
WHOLE = {"id": "w", "from_name": "quality", "type": "choices", "value": {"choices": ["good"]}}
EXPORT = [
    {
        "id": 1,
        "data": {"audio": "/data/upload/3/0a1b2c3d-night%20one.wav"},
        "annotations": [
            {"id": 8, "was_cancelled": True, "result": [{**REGION, "id": "cancelled"}]},
            {"id": 9, "was_cancelled": False, "result": [REGION, TEXT, WHOLE]},
        ],
        "predictions": [{"result": [{**REGION, "id": "by a model"}]}],
    },
    {
        "id": 2,
        "data": {"audio": "/data/local-files/?d=field/b.wav", "site": "A"},
        "annotations": [],
        "predictions": [{"result": [{**REGION, "score": 0.75}]}],
    },
]


def test_regions_are_read_with_labels_texts_and_scores() -> None:
    first, second = LABEL_STUDIO.read(json.dumps(EXPORT), "p.json")
    assert (first.path, first.start_s, first.end_s) == ("/data/upload/3/0a1b2c3d-night one.wav", 1.5, 2.25)
    assert (first.label, dict(first.values), first.score) == ("owl;rain", {"note": "far away"}, None)
    assert (second.path, second.label, second.score) == ("field/b.wav", "owl;rain", 0.75)


def test_short_export_is_read() -> None:
    task = {"audio": "s3://bucket/a.wav", "id": 5, "label": [{"start": 0, "end": 1, "channel": 0, "labels": ["owl"]}]}
    (one,) = LABEL_STUDIO.read(json.dumps([task]), "p.json")
    assert (one.path, one.start_s, one.end_s, one.label) == ("/a.wav", 0.0, 1.0, "owl")


def test_tasks_keep_everything() -> None:
    assert LABEL_STUDIO.write is not None
    given = [
        Annotation("/field/a.wav", 0.5, 2.0, "owl;rain", 100.0, 900.5, None, {"site": "A", "id": 3}),
        Annotation("/field/b.wav", 0.0, 1.0, "wren", None, None, 0.5),
    ]
    text = LABEL_STUDIO.write(given)
    assert [list(task) for task in json.loads(text)] == [["data", "annotations"], ["data", "predictions"]]
    back = LABEL_STUDIO.read(text, "x")
    assert [(one.path, one.start_s, one.end_s, one.label, one.low_hz, one.high_hz, one.score) for one in back] == [
        (one.path, one.start_s, one.end_s, one.label, one.low_hz, one.high_hz, one.score) for one in given
    ]
    assert back[0].values == {"site": "A", "id": 3}


# Two recordings, whose regions come in turns: one task each, as the guide to importing annotations describes it.
GOLDEN = """[
 {
  "data": {
   "audio": "field/a.wav"
  },
  "annotations": [
   {
    "result": [
     {
      "id": "r1",
      "from_name": "label",
      "to_name": "audio",
      "type": "labels",
      "value": {
       "start": 0.5,
       "end": 2.0,
       "channel": 0,
       "labels": [
        "owl",
        "rain"
       ]
      },
      "meta": {
       "low_hz": 100.0,
       "high_hz": 900.5
      }
     },
     {
      "id": "r3",
      "from_name": "label",
      "to_name": "audio",
      "type": "labels",
      "value": {
       "start": 3.0,
       "end": 4.0,
       "channel": 0,
       "labels": [
        "zaunk\u00f6nig"
       ]
      }
     }
    ]
   }
  ]
 },
 {
  "data": {
   "audio": "field/b.wav"
  },
  "predictions": [
   {
    "result": [
     {
      "id": "r2",
      "from_name": "label",
      "to_name": "audio",
      "type": "labels",
      "value": {
       "start": 0.0,
       "end": 1.0,
       "channel": 0,
       "labels": [
        "wren"
       ]
      },
      "score": 0.25
     }
    ]
   }
  ]
 }
]
"""


def test_export_of_several_recordings_is_one_file_with_a_task_for_each() -> None:
    assert LABEL_STUDIO.write is not None
    given = [
        Annotation("field/a.wav", 0.5, 2.0, "owl;rain", 100.0, 900.5),
        Annotation("field/b.wav", 0.0, 1.0, "wren", score=0.25),
        Annotation("field/a.wav", 3.0, 4.0, "zaunk\xf6nig"),
    ]
    assert LABEL_STUDIO.write(given) == GOLDEN
    back = [(one.path, one.start_s, one.label) for one in LABEL_STUDIO.read(GOLDEN, "golden")]
    assert sorted(back) == sorted((one.path, one.start_s, one.label) for one in given)


@pytest.mark.parametrize(
    "value", ["[", "[1]", '[{"data": {"text": "none"}}]', "[[]]", json.dumps([{**EXPORT[1], "predictions": [{
        "result": [{**REGION, "value": {"start": "x", "end": 1, "labels": []}}]}]}])],
)  # fmt: skip
def test_other_json_is_refused(value: str) -> None:
    with pytest.raises(UsageError, match=r"p\.json"):
        LABEL_STUDIO.read(value, "p.json")
