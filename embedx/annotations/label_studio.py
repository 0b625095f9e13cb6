"""Label Studio: the JSON of its exports (JSON and JSON-MIN), and tasks to import."""

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

from embedx.annotations.base import Annotation, AnnotationFormat, number, times
from embedx.errors import UsageError

FROM_NAME, TO_NAME = "label", "audio"  # of the template for audio: <Labels name="label" toName="audio">
FILE_NAME = re.compile(r"\?d=|[^/]\.(?:3g[p2]|[A-Za-z]\w{1,4})(?:$|\?)")  # and not the time of a change, 10:00:00.123Z
BOUNDS = ("low_hz", "high_hz")
Region = Mapping[str, Any]


def matches(text: str) -> bool:
    """Tell whether a text is JSON with tasks."""
    return text.lstrip()[:1] == "[" or (text.lstrip()[:1] == "{" and '"annotations"' in text)


def read(text: str, name: str) -> list[Annotation]:
    """Return the regions of all tasks: those that people have drawn, or, in a task without any, those of a model.

    Raises:
        UsageError: the JSON is damaged, or has no tasks.
    """
    try:
        tasks = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise UsageError(f"{name} is not valid JSON: {error}.") from error
    tasks = [tasks] if isinstance(tasks, dict) else tasks
    if not all(isinstance(task, dict) for task in tasks):
        raise UsageError(f"{name} has no tasks of Label Studio: each is an object with data and annotations.")
    return [one for count, task in enumerate(tasks, 1) for one in read_task(task, f"task {count} of {name}")]


def read_task(task: Region, where: str) -> Iterator[Annotation]:
    """Yield the regions of a task."""
    data = task.get("data")
    path = path_of(data if isinstance(data, Mapping) else task, where)
    drawn = [one for one in listed(task.get("annotations")) if not one.get("was_cancelled")]
    if not any(one.get("result") for one in drawn):
        drawn = listed(task.get("predictions"))
    for one in drawn:
        parts: dict[str, list[Region]] = {}
        for count, region in enumerate(listed(one.get("result"))):
            parts.setdefault(str(region.get("id", count)), []).append(region)
        for members in parts.values():
            yield from region_of(path, members, where)
    if "annotations" not in task and "predictions" not in task:  # JSON-MIN: the labels of a column are regions
        for column, value in task.items():
            for region in listed(value):
                labels = region.get("labels")
                if "start" in region and isinstance(labels, list):
                    yield from region_of(path, [{"value": region, "from_name": column, "type": "labels"}], where)


def listed(value: Any) -> list[Region]:
    """Return the objects of a list; none if it is no list."""
    return [one for one in value if isinstance(one, Mapping)] if isinstance(value, list) else []


def path_of(data: Region, where: str) -> str:
    """Return the recording of a task: the value of `audio`, or the first text that names a file.

    Raises:
        UsageError: there is none.
    """
    texts = [data[TO_NAME]] if isinstance(data.get(TO_NAME), str) else [v for v in data.values() if isinstance(v, str)]
    found = next((text for text in texts if FILE_NAME.search(text)), None)
    if found is None:
        raise UsageError(f"The {where} names no recording.")
    address = urlsplit(found)
    local = parse_qs(address.query).get("d")  # /data/local-files/?d=folder/name.wav
    return local[0] if local else unquote(address.path) if address.scheme or found.startswith("/data/") else found


def region_of(path: str, members: Sequence[Region], where: str) -> Iterator[Annotation]:
    """Yield a region as an annotation. Its parts, with one id, are its labels, its text and its choices."""
    values: dict[str, Any] = {}
    meta: dict[str, Any] = {}
    labels: list[str] = []
    start = end = score = None
    for part in members:
        value = part.get("value")
        if not isinstance(value, Mapping) or "start" not in value or "end" not in value:
            continue  # about the whole recording
        start, end = value["start"], value["end"]
        given = next((value[name] for name in (str(part.get("type")), "labels", "text") if name in value), None)
        texts = [str(text) for text in given] if isinstance(given, list) else [] if given is None else [str(given)]
        if str(part.get("type")).endswith("labels"):
            labels += texts
        elif texts:
            values[str(part.get("from_name") or part.get("type"))] = "; ".join(texts)
        if isinstance(part.get("meta"), Mapping):
            meta |= part["meta"]
        score = part.get("score", score)
    if start is None:
        return
    start_s, end_s = times(start, end, f"A region of {where}")
    low_hz, high_hz = (number(meta.pop(name, None), where, name) for name in BOUNDS)
    kept = {name: "; ".join(map(str, one)) if isinstance(one, list) else one for name, one in meta.items()}
    label = ";".join(dict.fromkeys(labels)) or None
    yield Annotation(path, start_s, end_s, label, low_hz, high_hz, number(score, where, "score"), kept | values, where)


def write(annotations: Sequence[Annotation]) -> str:
    """Return tasks to import: annotations, or predictions if all of a recording have scores. The audio is the path."""
    tasks: dict[str, list[dict[str, Any]]] = {}
    for count, one in enumerate(annotations, start=1):
        labels = one.label.split(";") if one.label else []
        value = {"start": one.start_s, "end": one.end_s, "channel": 0, "labels": labels}
        region: dict[str, Any] = {"id": f"r{count}", "from_name": FROM_NAME, "to_name": TO_NAME, "type": "labels"}
        region["value"] = value
        bounds = {name: getattr(one, name) for name in BOUNDS if getattr(one, name) is not None}
        if meta := bounds | {name: value for name, value in one.values.items() if value is not None}:
            region["meta"] = meta
        if one.score is not None:
            region["score"] = one.score
        tasks.setdefault(one.path, []).append(region)
    written = [
        {
            "data": {"audio": path},
            "predictions" if all("score" in region for region in regions) else "annotations": [{"result": regions}],
        }
        for path, regions in tasks.items()
    ]
    return json.dumps(written, ensure_ascii=False, indent=1, default=str) + "\n"


LABEL_STUDIO = AnnotationFormat("labelstudio", ".json", matches, read, write)
