"""The memory of `embedx serve` over many requests of all kinds, and its processor time; used by service.py.

Alone, `python service_memory.py FOLDER CLIPS [REQUESTS]` prints the memory of a service of the collection FOLDER every
2000 requests; CLIPS has bodies of requests for embeddings, one a line.
"""

import contextlib
import http.client
import json
import os
import random
import re
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

CLIENTS = 8  # threads, each with a connection
STEP = 2000  # requests between two looks at the memory
SEED = 5

Request = tuple[str, str, Any]  # method, path, and a body or None


class Client:
    """A connection that stays open."""

    def __init__(self, url: str) -> None:
        self.connection = http.client.HTTPConnection(urlsplit(url).netloc, timeout=120)

    def send(self, method: str, path: str, body: Any = None) -> bytes:
        """Send a request, and return its answer.

        Raises:
            SystemExit: it has failed.
        """
        text = body if isinstance(body, (str, type(None))) else json.dumps(body)
        self.connection.request(method, path, text, {"Content-Type": "application/json"} if text is not None else {})
        answer = self.connection.getresponse()
        content = answer.read()
        if answer.status not in (200, 202, 204):
            raise SystemExit(f"{method} {path} has failed: {answer.status} {content[:300]!r}")
        return content

    def json(self, method: str, path: str, body: Any = None) -> Any:
        """Send a request, and return its JSON."""
        return json.loads(self.send(method, path, body))


def prepare(client: Client, collection: str, clip: str) -> list[dict[str, Any]]:
    """Load the model, label the rows, train a head, and return the rows."""
    client.send("POST", "/v1/embeddings", clip)
    rows = client.json("GET", f"{collection}/rows?limit=1000")["rows"]
    edits = [{"id": row["id"], "column": "label", "value": "ab"[row["id"] % 2]} for row in rows]
    client.send("POST", f"{collection}/labels", {"edits": edits})
    client.send("POST", f"{collection}/heads", {"label": "label", "kind": "prototype", "name": "live"})
    return list(rows)


def kinds(collection: str, rows: Sequence[dict[str, Any]], clips: Sequence[str]) -> list[Callable[[Any], Request]]:
    """Return a function for each kind of request, which makes one from a source of random numbers."""
    c = collection

    def one(chosen: Any) -> dict[str, Any]:
        return dict(chosen.choice(rows))

    def get(path: str) -> Callable[[Any], Request]:
        return lambda chosen: ("GET", path.format(**one(chosen)), None)

    def post(path: str, make: Callable[[Any], Any]) -> Callable[[Any], Request]:
        return lambda chosen: ("POST", path, make(chosen))

    searches = [
        post(f"{c}/search", lambda chosen: {"id": one(chosen)["id"]}),
        post(f"{c}/search", lambda chosen: {"id": one(chosen)["id"], "with_vector": True}),
        post(f"{c}/search", lambda chosen: {"id": one(chosen)["id"], "filter": f"id > {one(chosen)['id'] - 50}"}),
        post(f"{c}/search", lambda chosen: {"like": [one(chosen)["id"]], "diverse": 0.5}),
    ]
    reads = ("rows?limit=50&after={id}", "rows/{id}", "recordings/{recording}", "vectors?limit=20&after={id}")
    facts = ("values?column=label", "failures", "about", "columns/label", "map")
    sounds = ("rows/{id}/audio?context=1", "rows/{id}/spectrogram.png")
    return [
        *(12 * searches),
        *(3 * [get(f"{c}/{path}") for path in (*reads, *facts)]),
        *[get(f"{c}/{path}") for path in (*sounds, "recordings/{recording}/peaks")],
        *[get(path) for path in ("/v1/collections", c, "/v1/models", "/metrics", "/livez")],
        *[post("/v1/embeddings", lambda chosen: chosen.choice(clips))] * 2,
        post(f"{c}/count", lambda chosen: {"filter": f"id < {one(chosen)['id']}"}),
        post(f"{c}/scores", lambda chosen: {"like": [one(chosen)["id"]]}),
        post(f"{c}/predict", lambda chosen: {"ids": [one(chosen)["id"]], "head": "live"}),
    ]


def send_many(url: str, wanted: int, first: int, made: Sequence[Callable[[Any], Request]]) -> None:
    """Send requests from several threads; each kind comes as often as it is in the list."""
    failures: list[BaseException] = []

    def run(thread: int) -> None:
        client = Client(url)
        try:
            for number in range(first + thread, first + wanted, CLIENTS):
                chosen = random.Random(SEED + number)  # noqa: S311 -- not for secrets
                client.send(*chosen.choice(made)(chosen))
        except BaseException as error:  # the main thread raises it
            failures.append(error)

    threads = [threading.Thread(target=run, args=(thread,)) for thread in range(CLIENTS)]
    for one in threads:
        one.start()
    for one in threads:
        one.join()
    if failures:
        raise failures[0]


def label_some(url: str, collection: str, rows: Sequence[dict[str, Any]], number: int) -> None:
    """Change a label, and fetch an export: what is kept in memory for the state before must be dropped."""
    client = Client(url)
    edit = {"id": rows[number % len(rows)]["id"], "column": "note", "value": f"n{number}"}
    client.send("POST", f"{collection}/labels", {"edits": [edit]})
    made = client.json("POST", f"{collection}/exports", {"ids": [row["id"] for row in rows[:100]], "format": "csv"})
    client.send("GET", f"/v1/{made['url']}")


def memory_over(url: str, name: str, clips: Sequence[str], pid: int, requests: int) -> Iterator[tuple[int, float]]:
    """Send requests of all kinds that keep nothing by their purpose (such as clips); yield their number and the MB."""
    collection = f"/v1/collections/{name}"
    rows = prepare(Client(url), collection, clips[0])
    made = kinds(collection, rows, clips)
    for first in range(0, requests, STEP):
        for part in range(10):
            send_many(url, STEP // 10, first + part * STEP // 10, made)
            label_some(url, collection, rows, first + part)
        yield first + STEP, memory_of(pid)


def memory_of(pid: int) -> float:
    """Return the memory of a process in MB."""
    found = re.search(r"VmRSS:\s+(\d+)", Path(f"/proc/{pid}/status").read_text())
    return int(found[1]) / 1024 if found else float("nan")


def processor_s(pid: int) -> float:
    """Return the seconds of processor time that a process and its children have used."""
    children = [int(text) for file in Path(f"/proc/{pid}/task").glob("*/children") for text in file.read_text().split()]
    ticks = 0
    for number in (pid, *children):
        with contextlib.suppress(OSError):  # it has ended; its parent has its time
            ticks += sum(map(int, Path(f"/proc/{number}/stat").read_text().rpartition(")")[2].split()[11:15]))
    return ticks / os.sysconf("SC_CLK_TCK")


def main() -> None:
    """Print the memory of a service of its own."""
    from service import running, serve_command

    folder, clips = Path(sys.argv[1]), Path(sys.argv[2]).read_text().splitlines()
    requests = int(sys.argv[3]) if len(sys.argv) > 3 else 10 * STEP
    with running([*serve_command(folder), "--allow-labels"]) as (url, process, _):
        begun = time.perf_counter()
        for number, megabytes in memory_over(url, folder.name, clips, process.pid, requests):
            print(f"{number} requests: {megabytes:.0f} MB, {time.perf_counter() - begun:.0f} s", flush=True)


if __name__ == "__main__":
    main()
