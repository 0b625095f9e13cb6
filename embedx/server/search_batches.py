"""Search batches: searches by a row or a vector that come at the same time are answered together, from one state.

A search that comes while none runs is answered at once. Those that come meanwhile wait for it, and are the next batch:
the store is then read once for all of them.
"""

import asyncio
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from itertools import chain
from typing import Any

from starlette.responses import Response

from embedx.collection.batches import rank_each
from embedx.errors import NothingToDo, UsageError
from embedx.index.matrix import Floats, Ids
from embedx.search.options import SearchOptions
from embedx.server.answers import Paths, etag, json_text, state_of, text_response
from embedx.server.errors import Cancelled, api_error
from embedx.server.hit_texts import HitTexts, hits_text
from embedx.server.metrics import Metrics
from embedx.server.schemas import SearchBody
from embedx.server.searching import options_of, queries_of, vectors_of
from embedx.server.served import Served, ServedCollection
from embedx.server.settings import Limits
from embedx.server.work import WORK, Threads, Work

BATCHED = frozenset(("id", "vector", "using", "limit", "metric", "exact", "exclude_self", "with_vector"))  # fields


def is_batched(body: SearchBody) -> bool:
    """Tell whether a search is for the nearest rows of one row or vector, without a filter or other options."""
    is_many = isinstance(body.id, list) or (
        isinstance(body.vector, list) and any(isinstance(one, list) for one in body.vector[:1])
    )
    return body.model_fields_set <= BATCHED and not is_many


@dataclass
class Waiting:
    """A search that waits for its answer."""

    body: SearchBody
    query: Mapping[str, Any]
    answer: asyncio.Future[Response]
    start: float = field(default_factory=time.perf_counter)

    @property
    def options(self) -> tuple[Any, ...]:
        """What searches must have in common to be run in one call."""
        body = self.body
        return body.using, body.limit, body.metric, body.exact, body.exclude_self, "id" in self.query


class SearchBatches:
    """The batches of a collection; all methods are called in the thread of the event loop."""

    def __init__(self, served: Served, threads: Threads, limits: Limits, metrics: Metrics) -> None:
        self.served = served
        self.threads = threads
        self.limits = limits
        self.metrics = metrics
        self._texts = HitTexts()
        self._waiting: list[Waiting] = []
        self._running: asyncio.Task[None] | None = None

    async def search(self, body: SearchBody) -> Response:
        """Return the answer to a search.

        Raises:
            ApiError: the request is invalid, or the collection cannot be read.
        """
        (query,), _ = queries_of(body, self.limits)
        waiting = Waiting(body, query, asyncio.get_running_loop().create_future())
        self._waiting.append(waiting)
        if self._running is None:
            self._running = asyncio.create_task(self._run())
        return await waiting.answer

    async def _run(self) -> None:
        """Answer batches until no search waits."""
        while self._waiting:
            batch, self._waiting = self._waiting, []
            batch = [one for one in batch if not one.answer.done()]  # else its client has gone
            work = Work()
            WORK.set(work)
            for one in batch:
                one.answer.add_done_callback(partial(stop_if_unwanted, batch, work))
            answers: Sequence[Response | Exception]
            try:
                answers = await self.threads.run(partial(self._answer, batch))
            except (Exception, asyncio.CancelledError) as error:
                answers = [Cancelled() if isinstance(error, asyncio.CancelledError) else error] * len(batch)
            for one, answer in zip(batch, answers, strict=True):
                if one.answer.done():
                    continue
                if isinstance(answer, Exception):
                    one.answer.set_exception(answer)
                else:
                    one.answer.set_result(answer)
        self._running = None

    def _answer(self, batch: Sequence[Waiting]) -> list[Response | Exception]:
        """Return the answers to the searches of a batch, in their order."""
        answers: dict[int, Response | Exception] = {}
        with self.served.use() as collection:
            groups: dict[tuple[Any, ...], list[Waiting]] = {}
            for one in batch:
                groups.setdefault(one.options, []).append(one)
            for group in groups.values():
                answers |= zip(map(id, group), self._answer_group(collection, group), strict=True)
        return [answers[id(one)] for one in batch]

    def _answer_group(self, collection: ServedCollection, group: Sequence[Waiting]) -> Iterator[Response | Exception]:
        """Yield the answers to searches with the same options."""
        queries = [next(iter(one.query.values())) for one in group]
        results: Sequence[tuple[Ids, Floats] | UsageError | NothingToDo]
        try:
            results = rank_each(collection, queries, SearchOptions(**options_of(group[0].body, self.limits)))
        except (UsageError, NothingToDo) as error:  # of the options, or of an empty collection
            results = [error] * len(group)
        state, paths = state_of(collection), Paths(collection)
        ids = [result[0].tolist() for result in results if not isinstance(result, Exception)]
        texts = self._texts.read(collection, paths, chain.from_iterable(ids))
        for one, result in zip(group, results, strict=True):
            if isinstance(result, Exception):
                yield api_error(result, self.served.name, self.served.private)
            else:
                row_ids = result[0].tolist()
                vectors = vectors_of(collection, row_ids, one.body)
                yield self._response(one, hits_text(texts, row_ids, result[1].tolist(), vectors), state)

    def _response(self, one: Waiting, hits: str, state: Mapping[str, int]) -> Response:
        """Return hits, which are JSON, as the answer to a search."""
        seconds = time.perf_counter() - one.start
        self.metrics.stage("search", seconds)
        facts = json_text({**state, "took_ms": round(1000 * seconds, 3)})
        return text_response(f'{{"hits":{hits},{facts[1:]}', headers={"ETag": etag(state)})


def stop_if_unwanted(batch: Sequence[Waiting], work: Work, _: object) -> None:
    """Stop the work of a batch if the clients of all its searches have gone."""
    if all(one.answer.cancelled() for one in batch):
        work.cancel()
