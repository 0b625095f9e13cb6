"""Hits: the answer to a question, best first; a sequence, a pandas frame, or a folder of clips."""

import os
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, overload

from embedx.audio.excerpts import read_stretch, wav_of
from embedx.errors import AudioError, DiskError
from embedx.filesystem.atomic import replace_file
from embedx.filesystem.paths import display_path
from embedx.store.records import Row

if TYPE_CHECKING:
    import pandas as pd

FIXED = ("id", "score", "path", "start_s", "end_s", "label")  # what every hit has, in the order of tables
LONGEST_STEM = (
    150  # bytes of a recording's name in that of a clip: a name has up to 255, rank, score and times up to 60
)


@dataclass(frozen=True)
class Hit:
    """A row, or a stretch of several, and its score: the cosine to the query, 1 for the same direction.

    By another metric the score is the inner product, or the Euclidean distance with a minus sign.
    """

    id: int
    score: float
    path: str
    start_s: float
    end_s: float
    label: str | None
    meta: Mapping[str, Any]
    query_start_s: float | None = None  # the moment of the query that was laid on start_s, where `align` did so


class Hits(Sequence[Hit]):
    """Hits, best first; a sequence that also turns into a pandas frame."""

    def __init__(self, hits: Sequence[Hit]) -> None:
        self._hits = list(hits)

    def __len__(self) -> int:
        return len(self._hits)

    @overload
    def __getitem__(self, index: int) -> Hit: ...
    @overload
    def __getitem__(self, index: slice) -> "Hits": ...
    def __getitem__(self, index: int | slice) -> "Hit | Hits":
        return Hits(self._hits[index]) if isinstance(index, slice) else self._hits[index]

    def __iter__(self) -> Iterator[Hit]:
        return iter(self._hits)

    def __repr__(self) -> str:
        return "Hits([\n" + "".join(f"  {hit},\n" for hit in self._hits) + "])"

    def columns(self) -> dict[str, list[Any]]:
        """Return name -> values: id, score, path, start_s, end_s, label, then a column for each of the metadata.

        Aligned hits have query_start_s too. Metadata of one of these names gets an underscore behind it.
        """
        fixed = [*FIXED, *(["query_start_s"] if any(hit.query_start_s is not None for hit in self) else [])]
        columns = {name: [getattr(hit, name) for hit in self] for name in fixed}
        for name in dict.fromkeys(name for hit in self for name in hit.meta):
            columns[f"{name}_" if name in fixed else name] = [hit.meta.get(name) for hit in self]
        return columns

    def to_pandas(self) -> "pd.DataFrame":
        """Return `columns` as a frame."""
        import pandas as pd

        columns: dict[str, Any] = dict(self.columns())
        columns["path"] = pd.Series(columns["path"], dtype=object)  # holds names that are no UTF-8
        return pd.DataFrame(columns)

    def save_clips(self, folder: str | os.PathLike[str]) -> list[AudioError]:
        """Cut the hits out of their recordings, each into a WAV of its own, and return what could not be cut, and why.

        A clip has the rate and all channels of its recording as float32, and is named by rank, score, recording and
        seconds: `0001_0.9731_street_12.50-15.00.wav`.

        Raises:
            DiskError: the folder cannot be written.
        """
        failures = []
        try:
            Path(folder).mkdir(parents=True, exist_ok=True)
            for rank, hit in enumerate(self, start=1):
                try:
                    clip = wav_of(*read_stretch(hit.path, hit.start_s, hit.end_s))
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
    """Put a row and its score together."""
    return Hit(row.id, score, row.path, row.start_s, row.end_s, row.label, row.meta)


def clip_name(rank: int, hit: Hit) -> str:
    r"""Return the name of a clip, in which nothing of the recording's name can do harm.

    >>> clip_name(1, Hit(7, 0.5, "/a/caf\udce9\n*.wav", 1.0, 2.5, None, {}))
    '0001_0.5000_caf_xe9_n__1.00-2.50.wav'
    """
    return f"{rank:04d}_{hit.score:.4f}_{safe_stem(hit.path)}_{hit.start_s:.2f}-{hit.end_s:.2f}.wav"


def safe_stem(path: str) -> str:
    """Return the name of a file without its ending, letters, digits and a few signs kept, as part of another name.

    >>> safe_stem("/a/b c: d.wav")
    'b c_ d'
    """
    stem = re.sub(r"[^\w .+-]", "_", display_path(os.path.splitext(os.path.basename(path))[0]))
    return stem.encode()[:LONGEST_STEM].decode("utf-8", "ignore")
