"""Hits: the result of a search, best first, as a sequence, a pandas data frame, or a folder of clips."""

import os
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, overload

from embedx.arguments.keywords import KnownKeywords
from embedx.audio.decoder_pool import DECODERS
from embedx.audio.excerpts import wav_bytes
from embedx.errors import AudioError, DiskError
from embedx.filesystem.atomic import replace_file
from embedx.filesystem.paths import display_path, safe_stem
from embedx.search.hit import Hit
from embedx.search.html import hits_html
from embedx.store.records import Row

if TYPE_CHECKING:
    import pandas as pd

FIXED = ("id", "score", "path", "start_s", "end_s", "label")  # columns of every hit, in the order of tables
OPTIONAL = ("query_start_s", "collection")  # columns of the hits of some searches


class Hits(KnownKeywords, Sequence[Hit]):
    """Hits, best first: a sequence, with methods for a data frame and for clips.

    `generation` is the state of the collection that was searched: it grows with every change of rows or vectors.
    """

    generation: int | None = None

    def __init__(self, hits: Sequence[Hit], read_clip: Callable[[Hit], bytes] | None = None) -> None:
        self._hits = list(hits)
        self._read_clip = read_clip or read_clip_here

    def __len__(self) -> int:
        return len(self._hits)

    @overload
    def __getitem__(self, index: int) -> Hit: ...
    @overload
    def __getitem__(self, index: slice) -> "Hits": ...
    def __getitem__(self, index: int | slice) -> "Hit | Hits":
        if not isinstance(index, slice):
            return self._hits[index]
        part = Hits(self._hits[index], self._read_clip)
        part.generation = self.generation
        return part

    def __iter__(self) -> Iterator[Hit]:
        return iter(self._hits)

    def __repr__(self) -> str:
        return "Hits([\n" + "".join(f"  {hit},\n" for hit in self._hits) + "])"

    def _repr_html_(self) -> str:
        """Return the hits as a notebook shows them: with players and spectrograms."""
        return hits_html(self._hits, self._read_clip)

    def columns(self) -> dict[str, list[Any]]:
        """Return column -> values: id, score, path, start_s, end_s, label, then the metadata.

        Hits of `align` also have query_start_s, and those of a search in several collections have collection. A
        metadata column with one of these names gets a trailing underscore.
        """
        optional = [name for name in OPTIONAL if any(getattr(hit, name) is not None for hit in self)]
        fixed = [*FIXED, *optional]
        columns = {name: [getattr(hit, name) for hit in self] for name in fixed}
        for name in dict.fromkeys(name for hit in self for name in hit.meta):
            columns[f"{name}_" if name in fixed else name] = [hit.meta.get(name) for hit in self]
        return columns

    def to_pandas(self) -> "pd.DataFrame":
        """Return `columns` as a pandas data frame."""
        import pandas as pd

        columns: dict[str, Any] = dict(self.columns())
        columns["path"] = pd.Series(columns["path"], dtype=object)  # a path may be invalid UTF-8
        return pd.DataFrame(columns)

    def save_clips(self, folder: str | os.PathLike[str]) -> list[AudioError]:
        """Write the audio of every hit to a WAV file of its own.

        A clip has the sample rate and all channels of its recording, as float32. Its name holds rank, score, recording
        and seconds: `0001_0.9731_street_12.50-15.00.wav`.

        Args:
            folder: where the clips go; it is made if it does not exist.

        Returns:
            An error for every hit whose audio cannot be read.

        Raises:
            DiskError: the folder cannot be written.
        """
        failures = []
        try:
            Path(folder).mkdir(parents=True, exist_ok=True)
            for rank, hit in enumerate(self, start=1):
                try:
                    clip = self._read_clip(hit)
                except AudioError as error:
                    failures.append(error)
                else:
                    replace_file(Path(folder, clip_name(rank, hit)), clip)
        except OSError as error:
            if isinstance(error, DiskError):
                raise
            raise DiskError(
                f"Clips cannot be written to {display_path(os.fspath(folder))}: {error.strerror}."
            ) from error
        return failures


def hit_of(row: Row, score: float) -> Hit:
    """Return a row with its score as a hit."""
    return Hit(row.id, score, row.path, row.start_s, row.end_s, row.label, row.meta)


def read_clip_here(hit: Hit) -> bytes:
    """Return the audio of a hit as a WAV file; its recording is on this machine."""
    return wav_bytes(*DECODERS.read_excerpt(hit.path, hit.start_s, hit.end_s))


def clip_name(rank: int, hit: Hit) -> str:
    r"""Return the file name of a clip, without control characters or separators from the recording's name.

    >>> clip_name(1, Hit(7, 0.5, "/a/caf\udce9\n*.wav", 1.0, 2.5, None, {}))
    '0001_0.5000_caf_xe9_n__1.00-2.50.wav'
    """
    return f"{rank:04d}_{hit.score:.4f}_{safe_stem(hit.path)}_{hit.start_s:.2f}-{hit.end_s:.2f}.wav"
