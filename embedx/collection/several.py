"""Collections: several collections of one recipe, searched as one."""

import os
import re
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Unpack

import numpy as np

from embedx.collection.collection import Collection
from embedx.collection.pushing import local_folder
from embedx.collection.searching import Searching
from embedx.errors import RecipeMismatch, UsageError
from embedx.filesystem.hub import download_collection, repository_of
from embedx.filesystem.paths import common_root, display_path
from embedx.recipe import Recipe
from embedx.search.answers import Answers
from embedx.search.hits import Hits
from embedx.search.options import SearchKwargs
from embedx.search.several import MAX_ROWS, SeveralManagers, SeveralStores

if TYPE_CHECKING:
    from embedx.embedding.embedder import Embedder

Place = str | os.PathLike[str]
ROW = re.compile(r"(.+):(\d{1,18})", re.DOTALL)  # a row of one of several collections: indexes/a:17


class Collections(Searching):
    """Several collections of one recipe, opened for searching; `embedx.open([FOLDER, FOLDER])` opens them.

    A search finds what it would find in one collection with all rows. Every hit has the name of its collection, which
    is the place as it was given. Rows of equal score are in the order of the collections. Use it in a `with` block, or
    call `close`.

    Args:
        places: the collections, each as `embedx.open` takes it.
        model: the model for audio and text queries; see `embedx.open`.
        allow_pickle: read weights from a pickle file, which can run code.

    Raises:
        UsageError: there is no collection, or one is given twice.
        RecipeMismatch: two collections have different recipes; the message names the fields.
        StoreError: a collection is damaged.
    """

    def __init__(self, places: Sequence[Place], *, model: str | None = None, allow_pickle: bool = False) -> None:
        self.names = [os.fspath(place) for place in places]
        if not self.names:
            raise UsageError("Give at least one collection.")
        with ExitStack() as stack:
            self.collections: list[Collection] = []
            for name in self.names:
                collection = Collection(folder_of(name), model=model, allow_pickle=allow_pickle)
                self.collections.append(stack.enter_context(collection))
            self._check()
            self._open = stack.pop_all()
        self.indexes = SeveralManagers([one.indexes for one in self.collections], self.names)

    def _check(self) -> None:
        """Refuse collections that cannot be searched together."""
        first, seen = self.collections[0], dict[str, str]()
        for name, collection in zip(self.names, self.collections, strict=True):
            place = os.path.realpath(collection.folder)
            if place in seen:
                raise UsageError(
                    f"{display_path(name)} and {display_path(seen[place])} are one collection. Give it once."
                )
            seen[place] = name
            collection.recipe.require_same(first.recipe, self.names[0], name)
            if collection.views != first.views:
                raise RecipeMismatch(
                    f"The vectors of {display_path(name)} and {display_path(self.names[0])} have different lengths: "
                    f"{collection.views} and {first.views}."
                )

    def __repr__(self) -> str:
        return f"<Collections {', '.join(self.names)}: {len(self)} rows by {self.recipe.extractor}>"

    def __len__(self) -> int:
        return sum(map(len, self.collections))

    def __enter__(self) -> "Collections":
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the files of all collections."""
        self._open.close()

    @property
    def store(self) -> SeveralStores:
        """The rows of all collections, opened for reading by this thread."""
        return SeveralStores([collection.store for collection in self.collections])

    @property
    def recipe(self) -> Recipe:
        """The recipe of the vectors, the same in all collections."""
        return self.collections[0].recipe

    @property
    def root(self) -> str | None:
        """The folder that holds all sources; None if there is none."""
        roots = [collection.root for collection in self.collections]
        return None if None in roots else common_root(filter(None, roots))

    def search(
        self,
        query: Any = None,
        *,
        sample_rate: float | None = None,
        id: int | str | None = None,
        vector: Any = None,
        like: Sequence[Place | int] = (),
        unlike: Sequence[Place | int] = (),
        text: str | None = None,
        **options: Unpack[SearchKwargs],
    ) -> Any:
        """Return the rows of all collections that are most similar to a query; see `Collection.search`.

        A row of a collection is "COLLECTION:ID", such as "indexes/a:17", for `id`, `like` and `unlike`. The name of its
        folder is enough, if no other collection has this name. A condition can name the columns of any collection; in
        the others they are empty. `timeout` is the time for each collection.

        Returns:
            The hits, best first, each with its `collection`; for a list of queries one `Hits` for each.

        Raises:
            UsageError: as `Collection.search`, or a row without the name of its collection.
            AudioError, ModelError: as `Collection.search`.
            NothingToDo: all collections are empty.
        """
        found = super().search(
            query,
            sample_rate=sample_rate,
            id=None if id is None else self._row(id),
            vector=vector,
            like=[self._example(example) for example in like],
            unlike=[self._example(example) for example in unlike],
            text=text,
            **options,
        )
        return [self._named(hits) for hits in found] if isinstance(found, list) else self._named(found)

    def search_many(self, source: Any, **options: Unpack[SearchKwargs]) -> Answers:
        """Run many queries at once; see `Collection.search_many` and `search`."""
        found = super().search_many(source, **options)
        answers = Answers((name, self._named(hits)) for name, hits in found.items())
        answers.failures = found.failures
        return answers

    def _named(self, hits: Hits) -> Hits:
        """Return hits with the ids that they have in their collections, and the names of these."""
        parts = [(hit, *divmod(hit.id, MAX_ROWS)) for hit in hits]
        return Hits([replace(hit, id=row_id, collection=self.names[number]) for hit, number, row_id in parts])

    def _example(self, example: Any) -> Any:
        """Return an example of `like` or `unlike`: a row as its id among all rows, anything else as it is."""
        is_text = isinstance(example, str) and not os.path.exists(example)
        match = ROW.fullmatch(example) if is_text else None
        is_row = is_text and (re.fullmatch(r"\d{1,18}", example) or (match and self._numbers(match[1])))
        return self._row(example) if is_row or isinstance(example, (int, np.integer)) else example

    def _row(self, row: Any) -> int:
        """Return the id that a row has among all rows.

        Raises:
            UsageError: it does not name its collection, or there is no such row.
        """
        match = ROW.fullmatch(row) if isinstance(row, str) else None
        if match is None:
            raise UsageError(
                f"{row!r:.80} is no row of several collections: a row is COLLECTION:ID, such as {self.names[0]}:17."
            )
        numbers = self._numbers(match[1])
        if len(numbers) != 1:
            what = "Several collections have the name" if numbers else "There is no collection"
            raise UsageError(f"{what} {display_path(match[1])}. The collections: {', '.join(self.names)}.")
        row_id = int(match[2])
        if row_id >= MAX_ROWS or row_id not in self.collections[numbers[0]]:
            raise UsageError(f"There is no row {row_id} in {display_path(self.names[numbers[0]])}.")
        return numbers[0] * MAX_ROWS + row_id

    def _numbers(self, name: str) -> list[int]:
        """Return the numbers of the collections with a name: the place as it was given, or else its last part."""
        places = [os.path.normpath(place) for place in self.names]
        whole = [number for number, place in enumerate(places) if place == os.path.normpath(name)]
        return whole or [number for number, place in enumerate(places) if os.path.basename(place) == name]

    def _load_embedder(self) -> "Embedder":
        """Load the model once, for all collections."""
        return self.collections[0]._load_embedder()


def folder_of(place: Place) -> Place:
    """Return the folder of a collection: the place itself, or a copy of what is in a bucket or at the model hub.

    Raises:
        UsageError: there is nothing, or it is the URL of a search engine.
        StoreError: what was read is damaged.
        DiskError: the bucket or hub cannot be read.
    """
    repository = repository_of(place)
    return local_folder(place) if repository is None else download_collection(repository)
