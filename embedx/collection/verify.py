"""VerifyReport: what is damaged in a collection, and its repair: just the damaged rows are made anew."""

import contextlib
import json
import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from embedx.audio.decoder_pool import DECODERS
from embedx.audio.windows import Window
from embedx.errors import AudioError, NothingToDo, StoreError, UsageError
from embedx.index.manager import FOLDER, IndexManager
from embedx.index.matrix import CorruptIndex
from embedx.index.vector_index import VectorIndex
from embedx.recipe import Recipe
from embedx.store.integrity import Issue, inspect
from embedx.store.lock import LOCK_NAME
from embedx.store.records import Recording, Row
from embedx.store.schema import FILE_NAME
from embedx.store.store import Store

if TYPE_CHECKING:
    from embedx.embedding.embedder import Embedder

OWN = {FILE_NAME, f"{FILE_NAME}-wal", f"{FILE_NAME}-shm", f"{FILE_NAME}.new", LOCK_NAME, FOLDER, "heads"}


@dataclass
class VerifyReport:
    """What was found, what of it was repaired, and what is left."""

    found: list[Issue] = field(default_factory=list)
    left: list[Issue] = field(default_factory=list)
    remade: list[int] = field(default_factory=list)  # rows whose vectors were made anew
    removed: list[str] = field(default_factory=list)  # recordings that have to be extracted again


def examine(folder: str | os.PathLike[str]) -> list[Issue]:
    """Find every bit that is not as it was written in the store and its indexes, and files that do not belong there.

    Raises:
        UsageError: there is no collection in the folder.
    """
    root = Path(folder)
    if not root.is_dir() or not any((root / name).exists() for name in (FILE_NAME, LOCK_NAME, FOLDER)):
        raise UsageError(f"There is no collection in {root}. `embedx extract` makes one.")
    strangers = [one for one in sorted(root.iterdir()) if one.name not in OWN and not one.name.startswith(".")]
    found = [Issue("foreign", str(one), "It does not belong to a collection.") for one in strangers]
    found += inspect(root)
    if not found:  # an index is compared with its store
        try:
            found += examine_indexes(root)
        except StoreError as error:  # its parts do not belong together
            found.append(Issue("file", str(root / FILE_NAME), str(error)))
    return found


def examine_indexes(root: Path) -> list[Issue]:
    """Compare the indexes of a collection with what was written, and with the store."""
    found = []
    with Store(root) as store:
        indexes = IndexManager(store)
        for file in sorted((root / FOLDER).glob("*")):
            view, _, metric = file.stem.rpartition(".")
            if file.suffix != ".json" and not any(file.name.startswith(f"{one}.") for one in store.views):
                found.append(Issue("foreign", str(file), "It does not belong to an index."))
            elif file.suffix == ".json":
                try:
                    index = VectorIndex.load(root / FOLDER, file.stem, metric, indexes.identity(view))
                    if index is not None:
                        index.verify()
                        if index.manifest["token"] != store.token(index.manifest["generation"]):
                            raise CorruptIndex("it was made of another store")
                except (CorruptIndex, KeyError) as error:
                    found.append(Issue("index", str(file), f"It cannot be used: {error}."))
    return found


def check(
    folder: str | os.PathLike[str],
    *,
    repair: bool = False,
    model: str | None = None,
    allow_pickle: bool = False,
    wait: bool = False,
) -> VerifyReport:
    """Examine a collection and, if `repair` is set, mend what can be mended.

    Damaged vectors are made anew from their recordings, if these are still what they were. Of a row whose metadata is
    damaged the recording is taken out: `extract` brings it back with its labels. IndexManager are built anew. What is
    foreign is named, never deleted.

    Raises:
        UsageError: there is no collection in the folder.
        ModelError: vectors are damaged, and the model that made them is not there.
    """
    result = VerifyReport(found=examine(folder))
    result.left = result.found
    if not repair or not result.found:
        return result
    root = Path(folder)
    if not (root / FILE_NAME).is_file():
        return result
    try:
        with Store(root, write=True, wait=wait) as store:
            result.removed = store.mend(result.found)
            vectors = {one.id for one in result.found if one.kind == "vector"}
            if vectors:
                from embedx.embedding.embedder import Embedder

                embedder = Embedder.from_recipe(store.recipe, model=model, allow_pickle=allow_pickle)
                result.remade = remake(store, embedder, vectors)
            store.compact()  # writes every page anew, also those that nothing uses
        rebuild_indexes(root)
    except StoreError:  # there is more to it than can be mended
        pass
    lost = [one for one in result.found if one.kind == "log"]  # what was in it is gone for good
    result.left = lost + examine(root)
    return result


def remake(store: Store, embedder: "Embedder", ids: Iterable[int]) -> list[int]:
    """Embed the windows of damaged rows once more; return those that could be."""
    recordings = store.recordings()
    remade: list[int] = []
    for path, rows in by_recording(store.rows(sorted(ids))).items():
        try:
            if DECODERS.hash_content(path) == recordings[path].content_hash:
                made = list(embedder.embed(windows_of(store, embedder.recipe, recordings[path], rows)))
                store.rewrite((number, vectors) for number, vectors, _ in made)
                remade += [number for number, _, _ in made]
        except (OSError, AudioError):
            continue  # it is not what it was: the finding stays
    return sorted(remade)


def by_recording(rows: Iterable[Row]) -> dict[str, list[Row]]:
    """Return path -> rows."""
    found: dict[str, list[Row]] = {}
    for row in rows:
        found.setdefault(row.path, []).append(row)
    return found


def windows_of(store: Store, recipe: Recipe, recording: Recording, rows: Sequence[Row]) -> Iterator[tuple[int, Window]]:
    """Yield (row id, window) of some rows of a recording."""
    wanted = {(row.stretch, row.start_s, row.end_s, row.meta.get("channel")): row.id for row in rows}
    for stretch, (start_s, end_s) in enumerate(json.loads(recording.stretches)):
        for _, channel, window in DECODERS.read(recording.path, recipe, start_s, end_s):
            place = (stretch, window.start_s, window.end_s, channel)
            if place in wanted:
                yield wanted[place], window


def rebuild_indexes(root: Path) -> None:
    """Build anew what is damaged of the indexes, and those that the repair made stale."""
    damaged = [Path(one.place).stem for one in examine_indexes(root) if one.kind == "index"]
    with Store(root) as store, contextlib.suppress(NothingToDo):
        indexes = IndexManager(store)
        for name in damaged:
            indexes.renew(name)
        indexes.get(store.recipe.default_view)
