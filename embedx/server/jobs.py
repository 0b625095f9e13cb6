"""Jobs: work that takes longer than a request, one after the other; its result can be asked for."""

import itertools
import logging
import threading
from collections import OrderedDict
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from embedx.errors import EmbedxError
from embedx.server.errors import ApiError, api_error

log = logging.getLogger("embedx.server")

MAX_WAITING = 20  # jobs that wait; a page has one at a time
MAX_KEPT = 100  # jobs whose result is kept


class Jobs:
    """The jobs of a service by their names."""

    def __init__(self) -> None:
        self._pool = ThreadPoolExecutor(1, "embedx-job")
        self._jobs: OrderedDict[str, dict[str, Any]] = OrderedDict()
        self._keys: dict[tuple[Any, ...], str] = {}  # what a job makes: its name
        self._numbers = itertools.count(1)
        self._lock = threading.RLock()

    def start(self, collection: str, make: Callable[[], dict[str, Any]]) -> str:
        """Start a job of a collection, and return its name.

        Raises:
            ApiError: too many jobs wait.
        """
        with self._lock:
            if sum(job["state"] in ("waiting", "running") for job in self._jobs.values()) >= MAX_WAITING:
                raise ApiError(503, "busy", f"{MAX_WAITING} jobs wait.", "Try again.")
            number = next(self._numbers)
            name = f"j{number}"
            job = self._jobs[name] = {"job": name, "number": number, "collection": collection, "state": "waiting"}
            while len(self._jobs) > MAX_KEPT:
                self._jobs.popitem(last=False)
        self._pool.submit(self._run, job, make)
        return name

    def once(
        self, collection: str, key: tuple[Any, ...], make: Callable[[], dict[str, Any]], *, is_lost: bool = False
    ) -> str:
        """Return the job that makes what a key says; start it if there is none, or if it has failed.

        Args:
            collection: the collection.
            key: what is made, such as its name and the generation.
            make: makes it.
            is_lost: a job that has ended is of no use: what it has made is not kept any more.

        Raises:
            ApiError: too many jobs wait.
        """
        with self._lock:
            known = self._jobs.get(self._keys.get((collection, *key), ""))
            if known is None or known["state"] == "failed" or (is_lost and known["state"] == "done"):
                name = self.start(collection, make)
                self._keys = {one: job for one, job in self._keys.items() if job in self._jobs}
                self._keys[collection, *key] = name
                return name
            return str(known["job"])

    def _run(self, job: dict[str, Any], make: Callable[[], dict[str, Any]]) -> None:
        """Do a job; an error is its result."""
        job["state"] = "running"
        try:
            job |= make()
            job["state"] = "done"
        except ApiError as error:
            job |= error.to_json() | {"state": "failed"}
        except EmbedxError as error:
            job |= api_error(error).to_json() | {"state": "failed"}
        except Exception:  # a fault of the server ends the job, not the thread
            log.exception("The job %s failed.", job["job"])
            job |= ApiError(500, "internal", "The server has failed.").to_json() | {"state": "failed"}

    def get(self, name: str) -> dict[str, Any]:
        """Return a job with its state, and its result once it is done.

        Raises:
            ApiError: there is no such job.
        """
        with self._lock:
            if name not in self._jobs:
                raise ApiError(404, "no_job", "There is no job of this name.", "Results are kept for 100 jobs.")
            return dict(self._jobs[name])

    def ended(self, collection: str, after: int) -> list[dict[str, Any]]:
        """Return the jobs of a collection that have ended, with a number above one, the oldest first."""
        with self._lock:
            jobs = [dict(job) for job in self._jobs.values()]
        return [
            job for job in jobs
            if job["collection"] == collection and job["number"] > after and job["state"] in ("done", "failed")
        ]  # fmt: skip

    def close(self) -> None:
        """Take no more jobs; what runs is not waited for."""
        self._pool.shutdown(wait=False, cancel_futures=True)
