"""VectorIndex: nearest neighbours of one view. The only room that knows faiss.

An index is derived from the store and disposable. `<view>.<metric>.json` in its folder is a note that names its files
and their checksums, the generation of the store that it was built from, and what was measured. The note is written
last, by a rename: an index is there whole or not at all. What does not agree with it is not used.

A structure of an approximate kind (`kinds`), with settings that reach the recall that was asked for (`tuning`), may lie
beside the vectors. It serves searches for up to 100 rows without a filter; every other answer is exact.
"""

import contextlib
import fcntl
import json
import logging
import secrets
import time
import zlib
from collections.abc import Iterable
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np

from embedx.disk import replace_file
from embedx.errors import DiskError
from embedx.index.exact import METRICS, merge, nearest, prepare, score_proposed, scores_of
from embedx.index.kinds import KINDS, Structure, pick_kind, read_size, read_structure, write_structure
from embedx.index.matrix import Damaged, Floats, Ids, Matrix, read_matrix, write_matrix
from embedx.index.tuning import HELD, TUNED, Setting, build_structure, measure

__all__ = [
    "KINDS",
    "METRICS",
    "Damaged",
    "Draft",
    "Floats",
    "Ids",
    "VectorIndex",
    "pick_kind",
    "read_note",
    "read_size",
    "write_index",
]

BEING_WRITTEN_S = 60  # a file that was touched so recently may belong to a build in another process
MOST_LEFT_OUT = 0.1  # of the rows of a structure may have gone; beyond, its recall was never measured: exact
log = logging.getLogger("embedx")


class VectorIndex:
    """The vectors of a view as they are in the store now; a higher score is always nearer.

    A score is the cosine, the inner product ("ip"), or the Euclidean distance with a minus sign ("l2"). `matrix` is
    what was built; since then rows may have `gone`, and others have come (`tail`): those are compared one by one.
    """

    def __init__(
        self, matrix: Matrix, metric: str = "cosine", *, note: dict[str, Any] | None = None, folder: Path | None = None
    ) -> None:
        self.matrix = matrix
        self.metric = metric
        self.note = note or {"kind": "flat"}
        self._folder = folder
        self._structure: Structure | None = None  # read when it is first needed
        self._settings: dict[str, Setting] = self.note.get("settings", {})
        self._keep_up(np.zeros(0, np.int64), Matrix(np.zeros(0, np.int64), np.zeros((0, matrix.dim), np.float32)))

    @classmethod
    def build(cls, ids: Ids, vectors: Floats, metric: str = "cosine") -> "VectorIndex":
        """Index vectors [N, D] under their ascending row ids [N], in memory."""
        return cls(Matrix(np.asarray(ids, np.int64), prepare(vectors, metric)), metric)

    def __len__(self) -> int:
        return len(self.matrix) - len(self.gone) + len(self.tail)

    @property
    def ids(self) -> Ids:
        """The ids [N] of all rows, ascending."""
        there = self.matrix.ids if self._there is None else self.matrix.ids[self._there]
        return np.concatenate([there, self.tail.ids])

    def update(self, gone: Ids, ids: Ids, vectors: Floats) -> None:
        """Leave out rows that are not in the store any more, and take in those [N, D] that came since the build."""
        self._keep_up(gone, Matrix(ids, prepare(vectors, self.metric)))

    def _keep_up(self, gone: Ids, tail: Matrix) -> None:
        self.gone, self.tail = gone, tail
        self._there = np.flatnonzero(~np.isin(self.matrix.ids, gone)) if len(gone) else None

    def search(
        self, queries: Floats, k: int, *, keep: Ids | None = None, drop: Ids | None = None, exact: bool = False
    ) -> tuple[Floats, Ids]:
        """Return scores [Q, K] and ids [Q, K] of the nearest vectors, best first; K is k or all there are, if fewer.

        `keep` restricts the search to some ids and `drop` takes some out, before anything is ranked. An answer within
        `keep` is always exact; `exact` asks for that elsewhere. Scores are exact always.

        Raises:
            Damaged: a vector is not what was written.
        """
        queries = prepare(queries, self.metric)
        if keep is None and not exact:
            approximate = self._search_structure(queries, k, drop)
            if approximate is not None:
                return approximate
        found = [nearest(matrix, queries, k, self.metric, positions) for matrix, positions in self._parts(keep, drop)]
        return merge(found, k) if len(found) > 1 else found[0]

    def _search_structure(self, queries: Floats, k: int, drop: Ids | None) -> tuple[Floats, Ids] | None:
        """Search by what the structure proposes; None if it cannot answer as well as was promised."""
        setting = next((self._settings.get(str(most)) for most in TUNED if k <= most), None)
        without = self.gone
        if drop is not None and len(drop):
            without = np.union1d(without, self.matrix.ids[self.matrix.positions(drop)])
        structure = self._read_structure() if setting else None
        if setting is None or structure is None or k < 1 or len(without) > MOST_LEFT_OUT * len(self.matrix):
            return None
        proposed = structure.propose(queries, setting["breadth"], setting["candidates"], without)
        there = min(k, len(self.matrix) - len(without))
        if not len(queries) or (proposed >= 0).sum(axis=1).min() < there:
            return None
        scores = score_proposed(self.matrix, queries, proposed, self.metric)
        found = [merge([(scores, proposed)], there)]
        if len(self.tail):
            positions = None if drop is None else np.flatnonzero(~np.isin(self.tail.ids, drop))
            found.append(nearest(self.tail, queries, k, self.metric, positions))
        return merge(found, k) if len(found) > 1 else found[0]

    def check(self) -> None:
        """Compare all that was written with its checksums.

        Raises:
            Damaged: something differs.
        """
        self.matrix.all()
        if self._folder is not None and "structure" in self.note:
            read_structure(self._folder, self.note)

    def _read_structure(self) -> Structure | None:
        """Return the structure; one that is damaged is named and left alone, and every answer is exact."""
        if self._structure is None and self._folder is not None and "structure" in self.note:
            try:
                self._structure = read_structure(self._folder, self.note)
            except Damaged as error:
                log.warning(
                    "The index of %s is damaged (%s): every vector is compared instead. `embedx index build` makes it "
                    "anew.",
                    self.note.get("view"),
                    error,
                )
                self._settings = {}
        return self._structure

    def scores(self, queries: Floats, *, keep: Ids | None = None, drop: Ids | None = None) -> tuple[Ids, Floats]:
        """Return ids [N], ascending, and the exact scores [Q, N] of all rows, or of those in `keep` without `drop`.

        Raises:
            Damaged: a vector is not what was written.
        """
        queries = prepare(queries, self.metric)
        ids, scores = [], []
        for matrix, positions in self._parts(keep, drop):
            ids.append(matrix.ids if positions is None else matrix.ids[positions])
            scores.append(scores_of(matrix, queries, self.metric, positions))
        return np.concatenate(ids), np.concatenate(scores, axis=1)

    def vectors(self, ids: Ids) -> Floats:
        """Return the vectors [N, D] of rows in the order given, as the metric compares them (cosine: of length 1)."""
        out = np.empty((len(ids), self.matrix.dim), np.float32)
        for matrix in (self.matrix, self.tail):
            mine = np.isin(ids, matrix.ids)
            out[mine] = matrix.take(matrix.positions(ids[mine]))
        return out

    def _parts(self, keep: Ids | None, drop: Ids | None) -> list[tuple[Matrix, Ids | None]]:
        """Return matrix and tail, each with the positions that may be found, None for all of them."""
        if keep is not None:
            keep = np.unique(keep if drop is None else np.setdiff1d(keep, drop))
        parts: list[tuple[Matrix, Ids | None]] = []
        for matrix, there in ((self.matrix, self._there), (self.tail, None)):
            positions = there
            if keep is not None:
                positions = matrix.positions(keep)
                if there is not None:
                    positions = np.intersect1d(positions, there, assume_unique=True)
            elif drop is not None and len(drop):
                every = np.arange(len(matrix)) if there is None else there
                positions = np.setdiff1d(every, matrix.positions(drop), assume_unique=True)
            parts.append((matrix, positions))
        return parts if len(self.tail) else parts[:1]

    @classmethod
    def load(cls, folder: Path, name: str, metric: str, identity: dict[str, Any]) -> "VectorIndex | None":
        """Open an index whose note says what is expected; None where there is none.

        Raises:
            Damaged: there is one, but it is not what was written, or belongs to something else.
        """
        note = read_note(folder, name)
        if note is None:
            return None
        different = [key for key, value in identity.items() if note.get(key) != value]
        if different or note.get("metric") != metric:
            raise Damaged(f"it was made of something else ({', '.join(different) or 'metric'})")
        return cls(read_matrix(folder, note), metric, note=note, folder=folder)


class Draft:
    """An index while it is made; nobody sees it before `publish`, and the one that was there before serves until then.

    First the vectors, then perhaps a structure over them::

        with Draft(folder, "L0.mean.cosine", "cosine") as draft:
            draft.add_matrix(identity, rows, dim, blocks)
            draft.add_structure("ivf-rabitq", 0.99)
            index = draft.publish()

    Raises:
        DiskError: the disk is full or refuses. The index that was there before stays.
    """

    def __init__(self, folder: Path, name: str, metric: str) -> None:
        self.folder, self.name, self.metric = folder, name, metric
        self.stem = folder / f"{name}-{secrets.token_hex(4)}"  # files of two builds never mix
        self.note: dict[str, Any] = {}
        self.begun = time.perf_counter()

    def __enter__(self) -> "Draft":
        try:
            self.folder.mkdir(exist_ok=True)
            self._replaced = files_of(self.folder, self.name)
            self._hold = open(lock_of(self.stem), "wb")  # held until the draft is left
            fcntl.flock(self._hold, fcntl.LOCK_EX)
        except OSError as error:
            raise DiskError(f"The folder {self.folder} cannot be written: {error.strerror}.") from error
        return self

    def __exit__(self, kind: type | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._hold.close()
        lock_of(self.stem).unlink(missing_ok=True)
        if error is not None:
            published = files_of(self.folder, self.name)  # it may fail after the note has its name
            for file in self.folder.glob(f"{self.stem.name}.*"):
                if file.name not in published:
                    file.unlink(missing_ok=True)

    def add_matrix(self, identity: dict[str, Any], rows: int, dim: int, blocks: Iterable[tuple[Ids, Floats]]) -> None:
        """Write vectors that come in blocks of (ids ascending, vectors [B, D]).

        `identity` goes into the note: what `load` will be asked for.
        """
        prepared = ((ids, prepare(vectors, self.metric)) for ids, vectors in blocks)
        self.note = identity | {"metric": self.metric, "kind": "flat"} | write_matrix(self.stem, rows, dim, prepared)
        self.index = VectorIndex(read_matrix(self.folder, self.note), self.metric, note=self.note, folder=self.folder)

    def add_structure(self, kind: str, recall: float) -> None:
        """Write a structure of a kind, tuned to a recall, and measure the index; of a flat one there is nothing to add.

        Where no setting reaches the recall nothing is written, and the note says why every search is exact.

        Raises:
            Damaged: a vector is not what was written a moment ago.
        """
        matrix = self.index.matrix
        if kind != "flat":
            structure, settings = build_structure(kind, matrix, self.metric, recall)
            if structure is None or not settings:
                why = (
                    f"no setting of {kind} reached a recall of {recall:g}" if structure else "few rows have a direction"
                )
                self.note["remark"] = f"every search is exact: {why}"
            else:
                self.note |= {"kind": kind, "settings": settings, "structure_rows": len(structure)}
                self.note |= write_structure(self.stem, structure)
        self.index = VectorIndex(matrix, self.metric, note=self.note, folder=self.folder)
        self.note["memory_bytes"] = self.note.get("structure_bytes", len(matrix) * matrix.dim * 4)
        self.note["build_s"] = round(time.perf_counter() - self.begun, 2)
        self.note["built"] = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
        some = np.linspace(0, len(matrix) - 1, min(HELD, len(matrix))).astype(np.int64)
        self.note |= measure(lambda queries: self.index.search(queries, TUNED[0]), matrix.take(some))

    def publish(self) -> VectorIndex:
        """Let the index take the place of the one before, and take away the files of old and of killed builds."""
        write_note(self.folder, self.name, self.note)
        kept = files_of(self.folder, self.name)
        for file in self.folder.glob(f"{self.name}-*"):
            old = file.name in self._replaced or time.time() - file.stat().st_mtime > BEING_WRITTEN_S
            stem = self.name + file.name[len(self.name) :].split(".")[0]
            if old and file.name not in kept and not is_held(self.folder / stem):
                file.unlink(missing_ok=True)
        return self.index


def write_index(
    folder: Path,
    name: str,
    metric: str,
    identity: dict[str, Any],
    rows: int,
    dim: int,
    blocks: Iterable[tuple[Ids, Floats]],
) -> VectorIndex:
    """Write a flat index, and open it; see `Draft`.

    Raises:
        DiskError: the disk is full or refuses. The index that was there before stays.
    """
    with Draft(folder, name, metric) as draft:
        draft.add_matrix(identity, rows, dim, blocks)
        return draft.publish()


def lock_of(stem: Path) -> Path:
    """Return the file that a process holds while it makes an index of this name."""
    return stem.with_name(stem.name + ".building")


def is_held(stem: Path) -> bool:
    """Tell whether a process is making an index of this name now."""
    with contextlib.suppress(FileNotFoundError), open(lock_of(stem), "rb") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
    return False


def files_of(folder: Path, name: str) -> set[str]:
    """Return the names of the files that the note of an index mentions."""
    try:
        note = read_note(folder, name) or {}
    except Damaged:
        note = {}
    return {value for value in note.values() if isinstance(value, str)}


def write_note(folder: Path, name: str, note: dict[str, Any]) -> None:
    """Write the note of an index, with a checksum of its own.

    Raises:
        DiskError: the disk is full or refuses.
    """
    text = json.dumps({"note": note, "sum": zlib.crc32(json.dumps(note).encode())})
    try:
        replace_file(folder / f"{name}.json", text.encode())
    except OSError as error:
        raise DiskError(f"The index in {folder} cannot be written: {error.strerror}.") from error


def read_note(folder: Path, name: str) -> dict[str, Any] | None:
    """Read the note of an index; None where there is none.

    Raises:
        Damaged: it is not what was written.
    """
    try:
        written = json.loads((folder / f"{name}.json").read_bytes())
        note: dict[str, Any] = written["note"]
        if zlib.crc32(json.dumps(note).encode()) == written["sum"]:
            return note
    except FileNotFoundError:
        return None
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise Damaged(f"its note cannot be read: {error}") from error
    raise Damaged("its note is not what was written")
