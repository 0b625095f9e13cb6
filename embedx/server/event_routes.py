"""Events: what has changed in a collection, told to pages as it happens; and the jobs that they wait for."""

import asyncio
import json
import time
from collections.abc import AsyncIterator
from typing import Annotated, Any, NamedTuple

from fastapi import APIRouter, Query
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse

from embedx.server.answers import json_response, state_of, without_nan
from embedx.server.errors import ApiError
from embedx.server.served import Served
from embedx.server.service import Service, service_of
from embedx.store.running import read_run

router = APIRouter(prefix="/v1")

LOOK_S = 0.5  # between two looks at the collection
COMMENT_S = 15.0  # without an event; a proxy closes a connection that is silent for long
STREAM_S, MARGIN_S = 25.0, 2.0  # length of a stream, which ends before its deadline; the page connects again at once
MAX_MISSED = 100  # changes that a page is told one by one
HEADERS = {"X-Accel-Buffering": "no", "Cache-Control": "no-store"}


class Seen(NamedTuple):
    """What a page knows: it is the id of an event."""

    generation: int
    revision: int
    job: int = 0

    @classmethod
    def read(cls, text: str) -> "Seen | None":
        """Return what a page knows from the id of its last event; None if it is not one."""
        parts = text.split(".")
        if len(parts) != 3 or not all(part.isascii() and part.isdecimal() and len(part) < 19 for part in parts):
            return None
        return cls(*map(int, parts))

    def event(self, name: str, facts: dict[str, Any]) -> str:
        """Return an event as it is sent."""
        data = json.dumps(without_nan(facts))
        return f"id: {self.generation}.{self.revision}.{self.job}\nevent: {name}\ndata: {data}\n\n"


@router.get("/collections/{name}/events")
async def get_events(
    request: Request,
    name: str,
    after: Annotated[str, Query(max_length=50, description="GENERATION.REVISION that the client has seen")] = "",
) -> Response:
    """Tell what changes: labels, rows, jobs, a running extraction, damage and its end (text/event-stream)."""
    service = service_of(request)
    served = service.get(name)
    if service.streams >= service.limits.in_flight // 2:
        raise ApiError(503, "busy", f"{service.streams} pages are told what changes.", "Ask for the state instead.")
    seen = Seen.read(request.headers.get("last-event-id", ""))
    if seen is None:
        ended = service.jobs.ended(name, 0)
        seen = Seen.read(f"{after}.{ended[-1]['number'] if ended else 0}")
    return StreamingResponse(counted_stream(service, served, seen), 200, HEADERS, "text/event-stream")


@router.get("/jobs/{job}")
async def get_job(request: Request, job: str) -> Response:
    """Return the state of a job, and its result once it is done."""
    return json_response(service_of(request).jobs.get(job))


async def counted_stream(service: Service, served: Served, seen: Seen | None) -> AsyncIterator[str]:
    """Yield events, and count the stream while it lasts."""
    service.streams += 1
    try:
        async for event in stream(service, served, seen):
            yield event
    finally:
        service.streams -= 1


async def stream(service: Service, served: Served, seen: Seen | None) -> AsyncIterator[str]:
    """Yield events until the stream ends; the page begins the next one with the id of the last."""
    begin = last = time.monotonic()
    length_s = min(STREAM_S, service.limits.request_s - MARGIN_S)
    is_damaged, run = False, None
    yield "retry: 500\n\n"
    while time.monotonic() - begin < length_s and not service.is_ending():
        try:
            state, rows = await service.run(lambda: look(served))
        except ApiError as error:
            if error.status != 503:
                raise
            if not is_damaged and seen is not None:
                yield seen.event("state", {"status": "damaged"})
            is_damaged, last = True, time.monotonic()
        else:
            now = Seen(state["generation"], state["revision"], 0 if seen is None else seen.job)
            if is_damaged:
                yield now.event("state", {"status": "ok"})
            is_damaged = False
            for event in events_between(service, served, seen or now, now, rows):
                last = time.monotonic()
                yield event
            ended = service.jobs.ended(served.name, now.job)
            seen = now if not ended else now._replace(job=ended[-1]["number"])
            for job in ended:
                last = time.monotonic()
                yield now._replace(job=job["number"]).event("job", job)
            before, run = run, await service.run(lambda: read_run(served.folder))
            if run != before:
                last = time.monotonic()
                yield seen.event("extract", run or {"done": None})
        if time.monotonic() - last >= COMMENT_S:
            last = time.monotonic()
            yield ": still here\n\n"
        await asyncio.sleep(LOOK_S)


def look(served: Served) -> tuple[dict[str, int], int]:
    """Return the state of a collection, and its number of rows."""
    with served.use() as collection:
        return state_of(collection), len(collection)


def events_between(service: Service, served: Served, seen: Seen, now: Seen, rows: int) -> list[str]:
    """Return the events between two states; of many changes of labels only the last."""
    events = []
    if now.generation != seen.generation:
        events.append(now._replace(revision=seen.revision).event("rows", {"generation": now.generation, "rows": rows}))
    first = max(seen.revision + 1, now.revision - MAX_MISSED + 1)
    for revision in range(first, now.revision + 1):
        known = served.labels.changes.get(revision)
        ids = [] if known is None else sorted({number for number, _ in known.cells})
        facts = {"revision": revision, "by": None if known is None else known.by, "ids": ids}
        events.append(now._replace(revision=revision).event("labels", facts))
    return events
