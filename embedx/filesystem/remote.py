"""Remote files: buckets and web servers, through fsspec.

Every request is tried `ATTEMPTS` times if the network or the server fails. What a server denies, or says not to have,
is not asked again. "Could not look" is never "is not there": only a server that answers so makes a FileNotFoundError.
"""

import concurrent.futures
import contextlib
import errno
import functools
import hashlib
import os
import random
import re
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from embedx.errors import DiskError, EmbedxError
from embedx.filesystem.paths import display_path
from embedx.filesystem.systems import CONNECT_S, SILENCE_S, make_system
from embedx.filesystem.urls import WEB, signed

if TYPE_CHECKING:
    from fsspec import AbstractFileSystem

WAITS_S = (0.5, 1.0, 2.0, 4.0)  # seconds before the second to the fifth attempt, each times 0.5 to 1.5 by chance
ATTEMPTS = 1 + len(WAITS_S)
TICK_S = 0.1  # seconds between two checks for a signal while a request runs
OUTAGE_S = 30.0  # seconds after a host has failed in every attempt, in which requests to it are tried once
PAGE = 1000  # objects in a page of a listing: the most that S3 gives
MIN_BYTES_PER_S = 50_000  # of an upload: a slow line
GONE, DENIED, TRY_AGAIN = (404, 410), (401, 403), (408, 425, 429)  # HTTP statuses

outages: dict[str, float] = {}  # host -> the time of its last outage, by the clock of `time.monotonic`
making = threading.Lock()


@dataclass(frozen=True)
class RemoteFile:
    """A file as a listing or its server describes it.

    Attributes:
        size: bytes; None if the server does not say.
        version: a number that differs after every change, made of the ETag; without one the time of change in
            nanoseconds; None if the server gives neither.
    """

    url: str
    size: int | None
    version: int | None


def no_action() -> None:
    """Do nothing while a request runs."""


Wait = Callable[[], None]


def describe(url: str, info: dict[str, Any]) -> RemoteFile:
    """Return what the entry of a listing, or the answer of a server, says about a file."""
    size = info.get("size", info.get("Size"))
    tag = info.get("ETag") or info.get("etag") or info.get("md5Hash")
    if tag:
        digest = hashlib.blake2b(str(tag).encode(), digest_size=8).digest()
        return RemoteFile(url, size, int.from_bytes(digest) >> 1)  # a column of the store has 63 bits
    for name in ("LastModified", "Last-Modified", "updated", "created", "mtime"):
        if (when := info.get(name)) is not None:
            return RemoteFile(url, size, nanoseconds(when))
    return RemoteFile(url, size, None)


def nanoseconds(when: Any) -> int | None:
    """Return a time, as file systems give it, in nanoseconds; None if it is no time."""
    from email.utils import parsedate_to_datetime

    try:
        if isinstance(when, str):
            when = parsedate_to_datetime(when) if "," in when else datetime.fromisoformat(when)
        return int((when.timestamp() if isinstance(when, datetime) else float(when)) * 1e9)
    except (ValueError, TypeError, OverflowError):
        return None


def system_of(url: str) -> "tuple[AbstractFileSystem, str]":
    """Return the file system of a URL, and the name of the file in it."""
    scheme, _, rest = url.partition("://")
    with making:
        system = make_system(scheme, os.getpid())
    return system, quote(signed(url), safe="%/:?#[]@!$&'()*+,;=~") if scheme in WEB else rest


def call(
    system: "AbstractFileSystem",
    method: str,
    *arguments: Any,
    on_wait: Wait = no_action,
    copy: str = "",
    seconds: float = CONNECT_S + SILENCE_S,
    **keywords: Any,
) -> Any:
    """Call a method of a file system, and wait for it.

    Args:
        system: the file system.
        method: the name of the method.
        arguments, keywords: what it takes.
        on_wait: called every 0.1 s; an error that it raises ends the request.
        copy: a file that the method writes. While it grows there is no timeout.
        seconds: the time for an answer, or for the copy to grow.

    Raises:
        TimeoutError: the time is over.
    """
    import asyncio

    if not system.async_impl:
        return getattr(system, method)(*arguments, **keywords)
    future = asyncio.run_coroutine_threadsafe(getattr(system, f"_{method}")(*arguments, **keywords), system.loop)
    size, last = -1, time.monotonic()
    try:
        while True:
            with contextlib.suppress(concurrent.futures.TimeoutError):
                return future.result(TICK_S)
            if future.done():  # a timeout of the library itself
                return future.result()
            on_wait()
            grown = os.path.getsize(copy) if copy and os.path.exists(copy) else 0
            size, last = (grown, time.monotonic()) if grown != size else (size, last)
            if time.monotonic() - last > seconds:
                raise TimeoutError(f"no answer for {seconds:.0f} s")
    finally:
        future.cancel()


def request(url: str, method: str, *arguments: Any, on_wait: Wait = no_action, **keywords: Any) -> Any:
    """Call a method of the file system of a URL, up to `ATTEMPTS` times; see `call`.

    Raises:
        FileNotFoundError: the server says that there is no such file or bucket.
        PermissionError: the server denies it, or there are no credentials.
        ConnectionError: the network or the server failed in every attempt.
        OSError: the server refuses the request.
        DiskError: the disk of this machine is full.
        UsageError: a package is not installed.
    """
    return attempt(url, lambda: call(system_of(url)[0], method, *arguments, on_wait=on_wait, **keywords), on_wait)


def attempt(url: str, work: Callable[[], Any], on_wait: Wait = no_action) -> Any:
    """Do some work at a URL, again after each failure of the network; see `request`."""
    host = url[: (url + "/").index("/", url.index("://") + 3)]
    is_out = time.monotonic() - outages.get(host, -OUTAGE_S) < OUTAGE_S
    for wait_s in (None,) if is_out else (*WAITS_S, None):
        try:
            result = work()
            outages.pop(host, None)
            return result
        except EmbedxError:  # from `on_wait`, or a package is missing
            raise
        except library_errors() as error:
            reason = explain(url, error)
            if wait_s is None or not isinstance(reason, ConnectionError):
                if isinstance(reason, ConnectionError):
                    outages[host] = time.monotonic()
                raise reason from None  # the cause may hold a signature
        pause(wait_s * random.uniform(0.5, 1.5), on_wait)  # noqa: S311 - only spreads the attempts of many readers
    raise AssertionError("every attempt returns or raises")


def pause(seconds: float, on_wait: Wait) -> None:
    """Wait, and call `on_wait` meanwhile."""
    end = time.monotonic() + seconds
    while (left := end - time.monotonic()) > 0:
        on_wait()
        time.sleep(min(TICK_S, left))


def library_errors() -> tuple[type[Exception], ...]:
    """Return the errors of a request: those of the system, and of the libraries behind fsspec that are imported."""
    names = (
        ("aiohttp", "ClientError"),
        ("botocore.exceptions", "BotoCoreError"),
        ("botocore.exceptions", "ClientError"),
        ("gcsfs.retry", "HttpError"),
        ("gcsfs.retry", "ChecksumError"),
        ("google.auth.exceptions", "GoogleAuthError"),
    )
    imported = (getattr(sys.modules[module], name) for module, name in names if module in sys.modules)
    return OSError, ValueError, *imported


def explain(url: str, error: Exception) -> OSError:
    """Return what an error means: the file is not there, the server denies it, or the network failed."""
    if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
        return DiskError(f"{display_path(url)} cannot be copied to {tempfile.gettempdir()}: the disk is full.")
    shown, chain = display_path(url), [error]
    while (cause := chain[-1].__cause__) is not None and isinstance(cause, Exception):
        chain.append(cause)
    status = next((number for one in chain if (number := status_of(one)) is not None), None)
    is_missing = isinstance(error, FileNotFoundError) and (len(chain) == 1 or (status is None and not is_web(url)))
    if status in GONE or is_missing:
        return FileNotFoundError(errno.ENOENT, f"There is no {shown}")
    if any(type(one).__name__ in ("NoCredentialsError", "DefaultCredentialsError") for one in chain):
        return PermissionError(errno.EACCES, f"{shown} cannot be read: there are no credentials in the environment")
    if status in DENIED or isinstance(error, PermissionError):
        return PermissionError(errno.EACCES, f"{shown} cannot be read: access is denied")
    if status is not None and 400 <= status < 500 and status not in TRY_AGAIN:
        return OSError(errno.EIO, f"{shown} cannot be read: the server answers {status}")
    if status is None and isinstance(chain[-1], ValueError):
        return OSError(errno.EIO, f"{shown} cannot be read: {without_secrets(chain[-1])}")
    why = f"the server answers {status}" if status else without_secrets(chain[-1])
    return ConnectionError(errno.EIO, f"{shown} cannot be reached: {why}")


def is_web(url: str) -> bool:
    """Tell whether a URL is a web address; fsspec calls each failure of one a missing file."""
    return url.partition("://")[0] in WEB


def status_of(error: Exception) -> int | None:
    """Return the HTTP status that an error of a library holds; None if it has none."""
    response = getattr(error, "response", None)
    if isinstance(response, dict):
        status = response.get("ResponseMetadata", {}).get("HTTPStatusCode")
    else:
        status = getattr(error, "status", None)
        if type(error).__name__ == "HttpError":  # of gcsfs; the codes of others are no statuses
            status = getattr(error, "code", None)
        elif type(error) is OSError and str(error).startswith("Forbidden: "):  # of gcsfs
            status = 403
    if status == 200:  # S3 may report an error behind a good status
        return 500
    return status if isinstance(status, int) and 300 <= status < 600 else None


def without_secrets(error: Exception) -> str:
    """Return the kind and the first words of an error, without the parameters of web addresses."""
    words = " ".join(str(getattr(error, "strerror", None) or error).split())
    words = re.sub(r"://[^\s/@]*@", "://***@", re.sub(r"\?[^\s'\")>]*", "", words))
    return f"{type(error).__name__}: {words:.120}" if words else type(error).__name__


def look_at(url: str, on_wait: Wait = no_action) -> RemoteFile:
    """Return size and version of a file; raise the errors of `request`."""
    method = "get_object" if url.startswith("gs://") else "info"  # there, `info` also asks for a listing
    info = request(url, method, system_of(url)[1], on_wait=on_wait)
    if info.get("type") == "directory":
        raise FileNotFoundError(errno.ENOENT, f"There is no file {display_path(url)}; it is a folder")
    return describe(url, info)


def download(remote: RemoteFile, file: str, on_wait: Wait = no_action) -> None:
    """Copy a remote file to a local one. A copy of another size is an error of the network.

    Raises:
        FileNotFoundError, PermissionError, ConnectionError: see `request`.
    """
    system, name = system_of(remote.url)

    def copy() -> None:
        call(system, "get_file", name, file, on_wait=on_wait, copy=file)
        size = os.path.getsize(file)
        if remote.size is not None and size != remote.size:
            raise ConnectionError(errno.EIO, f"{size} of {remote.size} bytes arrived")

    attempt(remote.url, copy, on_wait)


def read_bytes(url: str) -> bytes:
    """Return the bytes of a file; raise the errors of `request`."""
    with tempfile.TemporaryDirectory(prefix="embedx-") as folder:
        file = os.path.join(folder, "copy")
        download(look_at(url), file)
        with open(file, "rb") as copy:
            return copy.read()


def write_bytes(url: str, data: bytes) -> None:
    """Write a file: a reader sees all of it or nothing; raise the errors of `request`."""
    write(url, "pipe_file", system_of(url)[1], data, size=len(data))


def upload(file: str, url: str) -> None:
    """Copy a local file to a remote one: a reader sees all of it or nothing; raise the errors of `request`."""
    write(url, "put_file", file, system_of(url)[1], size=os.path.getsize(file))


def write(url: str, method: str, *arguments: Any, size: int) -> None:
    """Send a request that writes some bytes; raise the errors of `request`."""
    try:
        request(url, method, *arguments, seconds=upload_seconds(size))
    except FileNotFoundError as error:
        problem = (
            f"{display_path(url)} cannot be written: there is no such bucket. Create the bucket, or give another one"
        )
        raise FileNotFoundError(errno.ENOENT, problem) from error


def upload_seconds(size: int) -> float:
    """Return the time that an upload of some bytes may take."""
    return CONNECT_S + SILENCE_S + size / MIN_BYTES_PER_S


def remove(url: str) -> None:
    """Remove a file; raise the errors of `request`."""
    request(url, "rm_file", system_of(url)[1])


def matcher(pattern: str) -> re.Pattern[str]:
    """Return the expression of a pattern with * (within a folder), ** (any folders), ? and [abc]."""
    from fsspec.utils import glob_translate

    return re.compile(glob_translate(pattern))


def list_files(url: str) -> Iterator[RemoteFile]:
    """Yield the files below a place of a bucket, page by page, in the order of the server.

    Raises:
        FileNotFoundError: there is no such bucket.
        PermissionError, ConnectionError: see `request`. What was yielded before is correct, and not all.
    """
    return list_s3(url) if url.startswith("s3://") else list_folders(url)


def list_s3(url: str) -> Iterator[RemoteFile]:
    """Yield the objects below a place of an S3 bucket in pages of `PAGE`."""
    bucket, _, prefix = url.removeprefix("s3://").partition("/")
    query = {"Bucket": bucket, "Prefix": f"{prefix}/" if prefix else "", "MaxKeys": PAGE}
    system = system_of(url)[0]
    while True:
        page = attempt(url, functools.partial(read_page, system, query))
        for entry in page.get("Contents", ()):
            yield describe(f"s3://{bucket}/{entry['Key']}", entry)
        if not page["IsTruncated"]:
            return
        query["ContinuationToken"] = page["NextContinuationToken"]


def read_page(system: "AbstractFileSystem", query: dict[str, Any]) -> Any:
    """Return a page of a listing of S3; a page that is cut is an error of the network."""
    page = call(system, "call_s3", "list_objects_v2", **query)
    is_cut = "IsTruncated" not in page or (page["IsTruncated"] and not page.get("NextContinuationToken"))
    if is_cut or page.get("KeyCount", 0) != len(page.get("Contents", ())):
        raise ConnectionError(errno.EIO, "a page of the listing is cut")
    return page


def list_folders(url: str) -> Iterator[RemoteFile]:
    """Yield the files below a place of a bucket, folder by folder."""
    scheme = url.partition("://")[0]
    waiting = [url]
    while waiting:
        folder = waiting.pop()
        entries = request(folder, "ls", system_of(folder)[1], True)
        folders = []
        for entry in sorted(entries, key=lambda entry: str(entry["name"])):
            place = f"{scheme}://{entry['name'].strip('/')}"
            if entry["type"] == "directory":
                folders.append(place)
            elif place != folder:
                yield describe(place, entry)
        waiting += reversed(folders)
