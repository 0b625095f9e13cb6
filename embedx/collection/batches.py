"""Batches: the searches of many requests, each by a row or a vector, answered together from one state."""

from collections.abc import Sequence

from embedx.collection.collection import Collection
from embedx.errors import UsageError
from embedx.index.matrix import Floats, Ids
from embedx.search.answers import rank_queries
from embedx.search.options import SearchOptions
from embedx.search.queries import Query


def rank_each(
    collection: Collection, queries: Sequence[int | Floats], options: SearchOptions
) -> list[tuple[Ids, Floats] | UsageError]:
    """Search for rows and vectors; the hits are those of `Collection.search`, but the index is asked once for all.

    Args:
        collection: the collection.
        queries: ids of rows, and vectors [D].
        options: the options of all queries; only those of searches for the k nearest rows (`SearchOptions.is_plain`).

    Returns:
        Ids [K] and scores [K] of the hits of every query, best first, or the error of one that is invalid.

    Raises:
        UsageError: an option is invalid.
        NothingToDo: the collection is empty.
        StoreError: the collection is damaged.
    """
    with collection.snapshot():
        builder = collection._query_builder(options)
        include_ids = collection._include_ids(options.where, options.timeout)
        built = builder.from_each(queries)
        usable = [query for query in built if isinstance(query, Query)]
        answers = iter(
            collection.indexes.ask(
                builder.view, options.metric, lambda index: rank_queries(index, usable, options, include_ids)
            )
        )
        return [query if isinstance(query, UsageError) else next(answers) for query in built]
