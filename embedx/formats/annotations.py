"""Annotations of rows, hits and predictions, and their export to the files of other tools."""

import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from embedx.annotations.base import Annotation, AnnotationFormat
from embedx.annotations.files import as_text, needs_folder, write_folder
from embedx.annotations.joining import merge_touching
from embedx.annotations.raven import RAVEN
from embedx.errors import NothingToDo, UsageError
from embedx.filesystem.atomic import replace_file
from embedx.filesystem.paths import display_path
from embedx.store.records import Row
from embedx.store.store import Store

BOUNDS = ("low_hz", "high_hz")


def annotation(
    place: Any, label: str | None, score: float | None = None, values: Mapping[str, Any] | None = None
) -> Annotation:
    """Return a stretch as an annotation.

    Args:
        place: a row, hit, prediction or suggestion: it has path, start_s and end_s.
        label: the label.
        score: the score; by default the column `confidence`.
        values: other columns; low_hz, high_hz and confidence are the frequencies and the score.
    """
    others = dict(values or {})
    low_hz, high_hz, confidence = (as_number(others.pop(name, None)) for name in (*BOUNDS, "confidence"))
    score = confidence if score is None else score
    return Annotation(place.path, place.start_s, place.end_s, label, low_hz, high_hz, score, others)


def as_number(value: Any) -> float | None:
    """Return a number; None for anything else."""
    return float(value) if isinstance(value, (int, float)) and not isinstance(value, bool) else None


def annotation_of_row(row: Row) -> Annotation:
    """Return a stored row as an annotation with all its columns."""
    own = {"group": row.group, "split": row.split}
    return annotation(row, row.label, values={**own, **row.meta, "id": row.id})


def prepare(form: AnnotationFormat, annotations: Sequence[Annotation], max_hz: float) -> list[Annotation]:
    """Return annotations with what a format needs: in Raven frequencies, by default all up to a limit."""
    if form is not RAVEN:
        return list(annotations)
    return [
        replace(one, low_hz=one.low_hz or 0.0, high_hz=max_hz if one.high_hz is None else one.high_hz)
        for one in annotations
    ]


def export_annotations(
    store: Store,
    out: str | os.PathLike[str],
    form: AnnotationFormat,
    ids: Iterable[int] | None,
    *,
    merge: bool,
    overwrite: bool,
) -> int:
    """Write the rows of a store as annotations, completely or not at all; see `embedx.Collection.export`.

    Args:
        store: the store.
        out: the file, or for a format of one recording also a folder.
        form: the format.
        ids: the rows; all if None.
        merge: write touching and overlapping rows of one label as one.
        overwrite: replace a file that exists.

    Returns:
        The number of annotations.

    Raises:
        UsageError: there are several recordings and `out` is a file that holds one; or `out` exists.
        NothingToDo: there are no rows.
    """
    name = os.fspath(out)
    store.require_rows()
    annotations = [annotation_of_row(row) for row in store.rows(None if ids is None else list(ids))]
    if not annotations:
        raise NothingToDo(f"{store.folder} has no rows that match to export.")
    annotations = prepare(form, merge_touching(annotations) if merge else annotations, store.recipe.sample_rate / 2)
    if form.is_single and needs_folder(name):
        write_folder(form, annotations, name)
    elif os.path.isdir(name):
        raise UsageError(f"{display_path(name)} is a folder. The format {form.name} is a file.")
    elif os.path.lexists(name) and not overwrite:
        raise UsageError(f"{display_path(name)} exists. Choose another name, or use --overwrite (overwrite=True).")
    else:
        replace_file(Path(name), as_text(form, annotations).encode("utf-8", "backslashreplace"))
    return len(annotations)
