"""Hits in the formats of other programs: table, JSON, CSV, Parquet, and annotations."""

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from embedx.cli.options import ANNOTATIONS
from embedx.cli.output import as_csv, as_table, format_rows, short, with_relative_paths
from embedx.filesystem.paths import valid_text

if TYPE_CHECKING:
    from embedx.annotations.base import Annotation
    from embedx.search.hits import Hits

FORMATS = ("table", "json", "jsonl", "csv", "parquet", *ANNOTATIONS)


class HitTable:
    """The hits of one query (named None) or of several, as rows of a table: id, score, path, ..., and metadata.

    Args:
        answers: query -> its hits.
        columns: metadata columns to show in tables and CSV.
        root: the folder to which paths are relative in tables and CSV; None for full paths.
        max_hz: the highest frequency that the model receives, for Raven.
    """

    def __init__(
        self, answers: "Mapping[str | None, Hits]", columns: Sequence[str], root: str | None, max_hz: float
    ) -> None:
        self.answers = answers
        self.columns = columns
        self.root = root
        self.max_hz = max_hz
        query = ["query"] if None not in answers else []
        aligned = any(hit.query_start_s is not None for hits in answers.values() for hit in hits)
        position = ["query_start_s"] if aligned else []
        several = any(hit.collection is not None for hits in answers.values() for hit in hits)
        collection = ["collection"] if several else []
        self.fixed = [*query, *collection, "id", "score", "path", "start_s", "end_s", *position, "label"]

    def __iter__(self) -> Iterator[dict[str, Any]]:
        for query, hits in self.answers.items():
            for hit in hits:
                values = {name: query if name == "query" else getattr(hit, name) for name in self.fixed}
                yield values | {"meta": dict(hit.meta)}

    def write(self, form: str) -> str | bytes:
        """Return the hits in one of `FORMATS` that is not for annotations."""
        writers: dict[str, Callable[[], str | bytes]] = {
            "table": self._table,
            "csv": lambda: as_csv(self._with_columns(), [*self.fixed, *self.columns]),
            "parquet": self._parquet,
        }
        return writers[form]() if form in writers else format_rows(list(self), [], form)

    def _with_columns(self) -> list[dict[str, Any]]:
        rows = with_relative_paths(list(self), self.root, "table")
        return [{**{name: row["meta"].get(name) for name in self.columns}, **row} for row in rows]

    def _table(self) -> str:
        rows = self._with_columns()
        for row in rows:
            row |= {"query": short(row["query"])} if "query" in row else {}
            row |= {name: f"{row[name]:.2f}" for name in self.fixed if name.endswith("_s")}
        titles = {name: "file" if name == "path" else name.removesuffix("_s") for name in self.fixed}
        shown = [
            {title: row[name] for name, title in titles.items()} | {name: row[name] for name in self.columns}
            for row in rows
        ]
        return as_table(shown, [*titles.values(), *self.columns])

    def _parquet(self) -> bytes:
        from embedx.formats.arrow import parquet_bytes

        rows = list(self)
        columns = {name: [to_utf8(row[name]) for row in rows] for name in self.fixed}
        for name in dict.fromkeys(name for row in rows for name in row["meta"]):
            columns[f"{name}_" if name in columns else name] = [to_utf8(row["meta"].get(name)) for row in rows]
        texts = ("query", "collection", "path", "label")
        kinds = {name: "string" if name in texts else "double" for name in self.fixed}
        return parquet_bytes(columns, kinds | {"id": "int64"})

    def annotations(self, form: str) -> "list[Annotation]":
        """Return the hits as annotations; in a label track the score and the file are a part of the label."""
        from embedx.formats.annotations import annotation

        made = []
        for query, hits in self.answers.items():
            for hit in hits:
                own = {"id": hit.id} | ({} if query is None else {"query": query})
                own |= {} if hit.collection is None else {"collection": hit.collection}
                is_track = form == "audacity"
                label = (
                    audacity_label({"score": hit.score, "label": hit.label, "path": hit.path})
                    if is_track
                    else hit.label
                )
                made.append(annotation(hit, label, None if is_track else hit.score, {**hit.meta, **own}))
        return made


def audacity_label(row: Mapping[str, Any]) -> str:
    """Return the text of a hit in an Audacity label track.

    >>> audacity_label({"score": 0.98765, "label": "dog", "path": "/a/b.wav"})
    '0.9877 dog b.wav'
    """
    words = [f"{row['score']:.4f}", row["label"] or "", os.path.basename(row["path"])]
    return " ".join(filter(None, words))


def to_utf8(value: Any) -> Any:
    """Return a value; in text, bytes that are not UTF-8 are escaped."""
    return valid_text(value) if isinstance(value, str) else value
