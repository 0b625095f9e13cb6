"""Verify a collection: find what is damaged, and repair it. Only damaged rows are embedded again."""

import contextlib
import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from embedx.audio.decoder_pool import DECODERS
from embedx.embedding.stored_windows import stored_windows
from embedx.errors import AudioError, DiskError, NothingToDo, StoreError, UsageError
from embedx.heads.storage import FOLDER as HEADS
from embedx.heads.storage import find_head_issues
from embedx.heads.storage import find_unused_files as find_unused_head_files
from embedx.index.builder import find_unused_files
from embedx.index.manager import FOLDER, IndexManager
from embedx.index.matrix import CorruptIndex
from embedx.index.vector_index import VectorIndex
from embedx.store.blocks import BLOCKS_NAME
from embedx.store.integrity import inspect, inspect_pages
from embedx.store.lock import LOCK_NAME, Lock, read_lock
from embedx.store.records import Issue, group_by_path
from embedx.store.running import RUN_NAME
from embedx.store.schema import FILE_NAME
from embedx.store.store import Store

if TYPE_CHECKING:
    from embedx.embedding.embedder import Embedder

STORE_FILES = {FILE_NAME, f"{FILE_NAME}-wal", f"{FILE_NAME}-shm", f"{FILE_NAME}.new"}
KNOWN_FILES = {*STORE_FILES, LOCK_NAME, RUN_NAME, BLOCKS_NAME, f"{BLOCKS_NAME}.new", FOLDER, HEADS}


@dataclass
class VerifyReport:
    """The issues that were found, what was repaired, and the issues that are left."""

    found: list[Issue] = field(default_factory=list)
    left: list[Issue] = field(default_factory=list)
    remade: list[int] = field(default_factory=list)  # ids of rows whose vectors were computed again
    removed: list[str] = field(default_factory=list)  # paths of recordings that have to be extracted again
    unused: list[str] = field(default_factory=list)  # files that an interrupted run left; the next one deletes them


def verify_collection(
    folder: str | os.PathLike[str],
    *,
    repair: bool = False,
    model: str | None = None,
    allow_pickle: bool = False,
    wait: bool = False,
) -> VerifyReport:
    """Find damage in a collection, and repair it on request.

    Damaged vectors are computed again from their recordings, if the files have not changed. A recording with a row
    whose metadata is damaged is removed from the collection; `extract` brings it back. Damaged indexes are built again.
    Files that do not belong to a collection are reported, but never deleted.

    Args:
        folder: the folder of the collection.
        repair: repair what can be repaired.
        model: the model, if it is not where the recipe says; see `embedx.open`.
        allow_pickle: read weights from a pickle file.
        wait: wait while another process writes the collection, instead of raising LockedError.

    Returns:
        The issues that were found, what was repaired, and the issues that are left.

    Raises:
        UsageError: there is no collection in the folder.
        ModelError: vectors are damaged, and the model that made them cannot be loaded.
        LockedError: another process writes the collection, and `wait` is not set.
    """
    root = Path(folder)
    report = VerifyReport(found=find_issues(root), unused=find_unused(root))
    report.left = report.found
    if not repair or not report.found or not (root / FILE_NAME).is_file():
        return report
    accept_state(root, report.found, wait)
    try:
        with Store(root, write=True, wait=wait) as store:
            report.removed = store.repair()
            if damaged := damaged_vectors(store, report.found):
                from embedx.embedding.embedder import Embedder

                embedder = Embedder.from_recipe(store.recipe, model=model, allow_pickle=allow_pickle)
                report.remade = embed_again(store, embedder, damaged)
                if report.remade == store.ids().tolist():
                    store.recount_vectors()
            compact(store)
        rebuild_indexes(root)
    except StoreError:  # some of the damage cannot be repaired; `find_issues` names it
        pass
    lost = [issue for issue in report.found if issue.kind == "log"]  # what was committed later is lost
    report.left = lost + find_issues(root)
    return report


def compact(store: Store) -> None:
    """Rewrite every page, including damaged pages that are not in use.

    Raises:
        DiskError: the disk is full. SQLite says so of some damaged pages, too; `find_issues` names these.
    """
    try:
        store.compact()
    except DiskError:
        with store.snapshot():
            if not any(inspect_pages(store)):
                raise


def accept_state(root: Path, issues: Sequence[Issue], wait: bool) -> None:
    """Accept the state of the store, if it is older than the copies of its commit record, or these are damaged."""
    is_lost = any(issue.place == str(root / LOCK_NAME) for issue in issues) and not read_lock(root).copies
    if is_lost or any(issue.kind == "log" for issue in issues):
        lock = Lock(root, wait=wait)
        lock.forget()
        lock.release()


def damaged_vectors(store: Store, issues: Sequence[Issue]) -> set[int]:
    """Return the ids of rows whose vectors are damaged; all rows if a table of vectors holds unknown old ones."""
    if any(issue.kind == "table" and issue.place.startswith("vectors_") for issue in issues):
        return set(store.ids().tolist())
    return {issue.id for issue in issues if issue.kind == "vector"}


def find_issues(folder: str | os.PathLike[str]) -> list[Issue]:
    """Return all damage in the store, its indexes and its heads, and all files that do not belong to a collection.

    Raises:
        UsageError: there is no collection in the folder.
    """
    root = Path(folder)
    if not root.is_dir() or not any((root / name).exists() for name in (FILE_NAME, LOCK_NAME, FOLDER)):
        raise UsageError(f"There is no collection in {root}. `embedx extract` creates one.")
    issues = [*find_foreign(root), *inspect(root)]
    if all(issue.kind == "foreign" for issue in issues):  # an index can only be compared with an undamaged store
        try:
            issues += find_index_issues(root)
        except StoreError as error:  # the files do not belong together
            issues.append(Issue("file", str(root / FILE_NAME), str(error)))
    return issues + [Issue(*issue) for issue in find_head_issues(root)]


def find_foreign(root: Path) -> Iterator[Issue]:
    """Yield the files of a folder that do not belong to a collection or its indexes, hidden ones included."""
    for path in sorted(root.iterdir()):
        is_known = path.name in KNOWN_FILES and path.is_dir() == (path.name in (FOLDER, HEADS))
        if not is_known:
            yield Issue("foreign", str(path), "It does not belong to a collection.")
    for file in find_unused_files(root / FOLDER)[0]:
        yield Issue("foreign", str(file), "It does not belong to an index.")


def find_unused(root: Path) -> list[str]:
    """Return the files that interrupted runs left, and those of an index that is being built."""
    of_indexes = find_unused_files(root / FOLDER)[1]
    unfinished = [root / f"{name}.new" for name in (FILE_NAME, BLOCKS_NAME) if (root / f"{name}.new").exists()]
    return [str(file) for file in (*unfinished, *of_indexes, *find_unused_head_files(root))]


def find_index_issues(root: Path) -> list[Issue]:
    """Compare the indexes of a collection with their checksums and with the store."""
    issues = []
    with Store(root) as store:
        indexes = IndexManager(store.folder, lambda: store)
        foreign, _ = find_unused_files(root / FOLDER)
        for file in sorted((root / FOLDER).glob("*.json")):
            view, _, metric = file.stem.rpartition(".")
            if file not in foreign:
                try:
                    index = VectorIndex.load(root / FOLDER, file.stem, metric, indexes.identity(view))
                    if index is not None:
                        index.verify()
                        if index.manifest["token"] != store.token(index.manifest["generation"]):
                            raise CorruptIndex("it belongs to another store")
                except (CorruptIndex, KeyError) as error:
                    issues.append(Issue("index", str(file), f"It cannot be used: {error}."))
    return issues


def embed_again(store: Store, embedder: "Embedder", ids: Iterable[int]) -> list[int]:
    """Embed the windows of damaged rows again, if their files have not changed; return the ids of these rows."""
    recordings = store.recordings()
    repaired: list[int] = []
    for path, rows in group_by_path(store.rows(sorted(ids))).items():
        try:
            if DECODERS.hash_content(path) == recordings[path].content_hash:
                embedded = list(embedder.embed(stored_windows(embedder.recipe, recordings[path], rows)))
                store.rewrite((row_id, vectors) for row_id, vectors, _ in embedded)
                repaired += [row_id for row_id, _, _ in embedded]
        except (OSError, AudioError):
            continue  # the file is gone or unreadable: the issue is left
    return sorted(repaired)


def rebuild_indexes(root: Path) -> None:
    """Build the damaged indexes again, and those that the repair has made out of date."""
    damaged = [Path(issue.place).stem for issue in find_index_issues(root) if issue.kind == "index"]
    with Store(root) as store, contextlib.suppress(NothingToDo):  # no row is left
        indexes = IndexManager(store.folder, lambda: store)
        for name in damaged:
            indexes.renew(name)
        indexes.get(store.recipe.default_view)
