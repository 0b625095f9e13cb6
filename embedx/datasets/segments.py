"""Segments: recordings and the files of their annotations -> one item for each annotated stretch."""

import os
from collections.abc import Sequence
from dataclasses import replace

from embedx.annotations.base import Annotation
from embedx.annotations.files import read_annotations
from embedx.annotations.joining import join_same_times
from embedx.annotations.recordings import Recordings
from embedx.datasets.items import Item, text
from embedx.datasets.manifests import metadata
from embedx.datasets.walk import Survey
from embedx.errors import NothingToDo
from embedx.filesystem.paths import display_path

ORIGIN = "annotations"
FIELDS = ("label", "group", "split")


def cut_items(items: Sequence[Item], segments: str | os.PathLike[str], survey: Survey) -> list[Item]:
    """Return an item for each annotated stretch of the recordings, with the columns of its annotation.

    Annotations of one stretch are one item, whose labels are joined by ";". What is left out is counted in the survey.

    Args:
        items: the recordings; those that cannot be looked at stay as they are.
        segments: a file of annotations, or a folder of them.
        survey: receives what is left out: recordings without annotations, and annotations without a recording or
            without length.

    Raises:
        UsageError: a file cannot be read, or a name in it belongs to several recordings.
        NothingToDo: no annotation is about one of the recordings.
    """
    recordings = {item.path: item for item in reversed(items) if not item.problem}
    annotations, unknown = Recordings(recordings).resolve(read_annotations(segments))
    if not annotations:
        first = f" The first is about {display_path(unknown[0])}." if unknown else " There are none."
        raise NothingToDo(f"No annotation of {display_path(os.fspath(segments))} is about a recording.{first}")
    stretches = [one for one in join_same_times(annotations) if one.end_s > one.start_s]
    if not stretches:
        raise NothingToDo(f"The annotations of {display_path(os.fspath(segments))} are points: they have no length.")
    used = {one.path for one in stretches}
    left_out = {
        "recordings without annotations": len(recordings.keys() - used),
        "recordings of annotations that are not in the source": len(unknown),
        "annotations without length": sum(one.end_s <= one.start_s for one in annotations),
    }
    survey.passed_over.update({what: count for what, count in left_out.items() if count})
    return [*(item for item in items if item.problem), *(item_of(recordings[one.path], one) for one in stretches)]


def item_of(recording: Item, one: Annotation) -> Item:
    """Return a stretch of a recording as an item; what the annotation does not say is that of the recording."""
    columns = one.columns()
    label, group, split = (text(columns.pop(name, None)) or getattr(recording, name) for name in FIELDS)
    return replace(
        recording,
        start_s=one.start_s,
        end_s=one.end_s,
        label=label,
        group=group,
        split=split,
        meta={**recording.meta, **metadata(columns)},
        label_origin=ORIGIN if one.label else recording.label_origin,
        place=one.place,
    )
