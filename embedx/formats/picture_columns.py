"""Columns for tools that show rows as a picture with sound: audio {bytes, path}, and coordinates x and y.

They say in the way of Hugging Face `datasets` what they are, so that its viewer plays the audio. An import of embedx
leaves them out: they can be made again.
"""

import json
import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from embedx.audio.decoder_pool import DECODERS
from embedx.audio.excerpts import MAX_FLAC, flac_bytes, wav_bytes
from embedx.errors import AudioError, UsageError
from embedx.filesystem.paths import valid_text
from embedx.formats.coordinates import METHODS, Map, project
from embedx.store.records import Row
from embedx.store.store import Store

if TYPE_CHECKING:
    import pyarrow as pa

AUDIO, X, Y = "audio", "x", "y"
KINDS = ("clip", "path", "url")
ROUTE = "/v1/collections"  # of the service, before the name of a collection
FEATURES_KEY = "huggingface"  # schema key in which `datasets` keeps the kinds of columns
MAX_AUDIO_BYTES = 64 << 20  # of the audio in memory: then a row group is written


@dataclass(frozen=True)
class Pictures:
    """What is written for tools that show rows.

    Attributes:
        audio: "clip" (the sound of each row as FLAC), "path" (the file of its recording), "url" (the address of its
            sound in a service), or None.
        url: the address of the collection in a service, for "url".
        xy: the method of the coordinates of all rows, "pca" or "umap", or None.
        failures: receives what is wrong with the clips that cannot be read; they stay empty.
        map: these coordinates, once they are made.

    Raises:
        UsageError: the kind of audio is unknown, or the address is missing.
    """

    audio: str | None = None
    url: str | None = None
    xy: str | None = None
    failures: list[str] = field(default_factory=list)
    map: Map | None = None

    def __post_init__(self) -> None:
        if self.audio not in (None, *KINDS):
            raise UsageError(f"with_audio must be {', '.join(KINDS)}, not {self.audio!r}.")
        if (self.audio == "url") != (self.url is not None):
            raise UsageError(
                "--with-audio url needs --url, and only that: the address of the collection in `embedx serve`, such as "
                "http://localhost:8000/field."
            )

        if self.xy not in (None, *METHODS):
            raise UsageError(f"xy must be {' or '.join(METHODS)}, not {self.xy!r}.")

    def require_parquet(self, name: str) -> None:
        """Refuse audio and coordinates in another format."""
        if self.audio is not None or self.xy is not None:
            raise UsageError(
                f"Audio and coordinates are columns of a parquet file, not of {name}. Use --format parquet."
            )

    def with_map(self, store: Store, view: str) -> "Pictures":
        """Return this with the coordinates, if any are wanted; see `project`."""
        return self if self.xy is None else replace(self, map=project(store, view, self.xy))


class PictureColumns:
    """The columns of a table for `Pictures`.

    Args:
        pictures: what is written.
        used: names of other columns; a name among them gets an underscore.
    """

    def __init__(self, pictures: Pictures, used: Sequence[str]) -> None:
        self.pictures = pictures
        wanted = [AUDIO] * (pictures.audio is not None) + [X, Y] * (pictures.map is not None)
        self.names = {name: free_name(name, used) for name in wanted}

    def fields(self) -> list[tuple[str, "pa.DataType"]]:
        """Return the names and types of the columns."""
        import pyarrow as pa

        sound = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
        return [(column, sound if name == AUDIO else pa.float32()) for name, column in self.names.items()]

    def parts(self, rows: Sequence[Row]) -> Iterator[tuple[slice, dict[str, "pa.Array"]]]:
        """Yield the columns of rows, for as many rows at a time as memory is meant to hold the audio of."""
        import pyarrow as pa

        types = dict(self.fields())
        start = 0
        while start < len(rows):
            columns: dict[str, Any] = {}
            end = len(rows)
            if AUDIO in self.names:
                sounds = self.read_sounds(rows[start:])
                end = start + len(sounds)
                columns[self.names[AUDIO]] = pa.array(sounds, types[self.names[AUDIO]])
            if self.pictures.map is not None:
                ids = np.array([row.id for row in rows[start:end]])
                places = self.pictures.map.places[np.searchsorted(self.pictures.map.ids, ids)]
                columns |= {self.names[name]: pa.array(places[:, i]) for i, name in enumerate((X, Y))}
            yield slice(start, end), columns
            start = end

    def read_sounds(self, rows: Sequence[Row]) -> list[dict[str, Any] | None]:
        """Return the audio of the first rows, at least one, up to a size."""
        read = READERS[str(self.pictures.audio)]
        sounds: list[dict[str, Any] | None] = []
        size = 0
        for row in rows:
            try:
                sounds.append(read(row, self.pictures.url or ""))
            except AudioError as error:
                self.pictures.failures.append(error.detail)
                sounds.append(None)
            size += len((sounds[-1] or {}).get("bytes") or b"")
            if size >= MAX_AUDIO_BYTES:
                break
        return sounds


def read_clip(row: Row, url: str) -> dict[str, Any]:
    """Return the sound of a row as FLAC, or as WAV where FLAC does not hold its rate or channels."""
    frames, rate = DECODERS.read_excerpt(row.path, row.start_s, row.end_s)
    is_flac = frames.shape[1] <= MAX_FLAC[0] and rate <= MAX_FLAC[1]
    data = (flac_bytes if is_flac else wav_bytes)(frames, rate)
    stem = os.path.splitext(os.path.basename(row.path))[0]
    return {"bytes": data, "path": valid_text(f"{row.id}_{stem}.{'flac' if is_flac else 'wav'}")}


def name_path(row: Row, url: str) -> dict[str, Any]:
    """Return the file of a row's recording, which is not read."""
    return {"bytes": None, "path": valid_text(row.path)}


def name_url(row: Row, url: str) -> dict[str, Any]:
    """Return the address of a row's sound in a service."""
    host, _, name = url.rstrip("/").rpartition("/")
    host = host if host.endswith(ROUTE) else host + ROUTE
    return {"bytes": None, "path": f"{host}/{name}/rows/{row.id}/audio"}


READERS: dict[str, Callable[[Row, str], dict[str, Any]]] = dict(
    zip(KINDS, (read_clip, name_path, name_url), strict=True)
)


def free_name(name: str, used: Sequence[str]) -> str:
    """Return a name with as many underscores as it needs to be free.

    >>> free_name("x", ["x", "x_"])
    'x__'
    """
    while name in used:
        name += "_"
    return name


def features_of(schema: "pa.Schema", audio: str | None) -> str:
    """Return the kinds of columns as `datasets` reads them from a Parquet file.

    Args:
        schema: the columns.
        audio: the column with audio, if there is one.
    """
    import pyarrow as pa

    def feature(kind: "pa.DataType") -> dict[str, Any]:
        if pa.types.is_fixed_size_list(kind):
            return {"feature": feature(kind.value_type), "length": kind.list_size, "_type": "List"}
        return {"dtype": {"double": "float64", "float": "float32"}.get(str(kind), str(kind)), "_type": "Value"}

    kinds = {one.name: {"_type": "Audio"} if one.name == audio else feature(one.type) for one in schema}
    return json.dumps({"info": {"features": kinds}})
