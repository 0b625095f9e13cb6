"""Hits as other programs read them: a table, JSON, CSV, Parquet, labels of Audacity, a selection table of Raven."""

import json
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import click

from embedx.cli.output import as_csv, as_json, as_table, short
from embedx.filesystem.paths import display_path

if TYPE_CHECKING:
    from embedx.search.hits import Hits

FORMATS = click.Choice(["table", "json", "jsonl", "csv", "parquet", "audacity", "raven"])
RAVEN = (  # Begin Path and File Offset let Raven find and open the recordings of a table by itself
    "Selection,View,Channel,Begin Time (s),End Time (s),Low Freq (Hz),High Freq (Hz),Begin Path,File Offset (s),Score,"
    "label,id"
).split(",")


class Lines:
    """The hits of one query (named None) or of several, line by line: a dict of id, score, path, ..., and metadata."""

    def __init__(self, answers: "Mapping[str | None, Hits]", chosen: Sequence[str], band_hz: float) -> None:
        self.answers = answers
        self.chosen = chosen  # columns of metadata beside each hit
        self.band_hz = band_hz  # up to which the model hears
        several = ["query"] if None not in answers else []
        hits = [hit for hits in answers.values() for hit in hits]
        aligned = ["query_start_s"] if any(hit.query_start_s is not None for hit in hits) else []
        self.fixed = [*several, "id", "score", "path", "start_s", "end_s", *aligned, "label"]

    def __iter__(self) -> Iterator[dict[str, Any]]:
        for query, hits in self.answers.items():
            for hit in hits:
                fixed = {"query": query} | {name: getattr(hit, name) for name in self.fixed if name != "query"}
                yield {name: fixed[name] for name in self.fixed} | {"meta": dict(hit.meta)}

    def write(self, form: str) -> str | bytes:
        """Return the hits in a format."""
        writers: dict[str, Callable[[], str | bytes]] = {
            "json": lambda: as_json(list(self)) + "\n",
            "jsonl": lambda: "".join(json.dumps(line) + "\n" for line in self),
            "csv": lambda: as_csv(self._with_chosen(), [*self.fixed, *self.chosen]),
            "parquet": self._parquet,
            "audacity": self._audacity,
            "raven": self._raven,
        }
        return writers.get(form, self._table)()

    def _with_chosen(self) -> list[dict[str, Any]]:
        return [{name: line["meta"].get(name) for name in self.chosen} | line for line in self]

    def _table(self) -> str:
        lines = self._with_chosen()
        for line in lines:
            line |= {name: short(line[name]) for name in ("query", "path") if name in line}
            line |= {name: f"{line[name]:.2f}" for name in self.fixed if name.endswith("_s")}
        headings = ["file" if name == "path" else name.removesuffix("_s") for name in self.fixed]
        shown = [
            dict(zip(headings, (line[name] for name in self.fixed), strict=True))
            | {name: line[name] for name in self.chosen}
            for line in lines
        ]
        return as_table(shown, [*headings, *self.chosen])

    def _parquet(self) -> bytes:
        from embedx.formats.arrow import parquet_bytes

        lines = list(self)
        columns = {name: [as_text(line[name]) for line in lines] for name in self.fixed}
        for name in dict.fromkeys(name for line in lines for name in line["meta"]):
            columns[f"{name}_" if name in columns else name] = [as_text(line["meta"].get(name)) for line in lines]
        kinds = {name: "string" if name in ("query", "path", "label") else "double" for name in self.fixed}
        return parquet_bytes(columns, kinds | {"id": "int64"})

    def _audacity(self) -> str:
        return "".join(f"{line['start_s']:.6f}\t{line['end_s']:.6f}\t{label_of(line)}\n" for line in self)

    def _raven(self) -> str:
        several = [name for name in ("query",) if name in self.fixed]
        text = ["\t".join([*RAVEN, *several])]
        for number, line in enumerate(self, start=1):
            channel = line["meta"].get("channel")
            cells = (number, "Spectrogram 1", channel + 1 if isinstance(channel, int) else 1,
                     f"{line['start_s']:.6f}", f"{line['end_s']:.6f}", "0.0", f"{self.band_hz:.1f}",
                     display_path(line["path"]),
                     f"{line['start_s']:.6f}", f"{line['score']:.6f}", display_path(line["label"] or ""), line["id"],
                     *(display_path(line[name]) for name in several))  # fmt: skip
            text.append("\t".join(map(str, cells)))
        return "\n".join(text) + "\n"


def label_of(line: Mapping[str, Any]) -> str:
    """Return what a label of Audacity says of a hit.

    >>> label_of({"score": 0.98765, "label": "dog", "path": "/a/b.wav"})
    '0.9877 dog b.wav'
    """
    words = [f"{line['score']:.4f}", line["label"] or "", os.path.basename(line["path"])]
    return display_path(" ".join(filter(None, words)))


def as_text(value: Any) -> Any:
    """Return a value, text as UTF-8 can hold it: names of files may be any bytes."""
    return os.fsencode(value).decode("utf-8", "backslashreplace") if isinstance(value, str) else value
