"""Push a collection to a bucket, and fetch it from there: only what changed is sent, and only what is missing is read.

A pushed collection is a manifest and parts of up to 8 MB, which are named after their digests::

    s3://bucket/x/embedx.json      the files, and the digests of their parts; written last
    s3://bucket/x/parts/DIGEST

Parts never change, so a reader of the old manifest finds all of it while a new one is pushed. A push that was stopped
leaves the old manifest, and parts that the next push need not send.
"""

import contextlib
import fcntl
import hashlib
import json
import os
import re
import tempfile
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from embedx._version import __version__
from embedx.collection.backup import backup
from embedx.errors import DiskError, StoreError, UsageError
from embedx.filesystem.atomic import make_folder, sync_folder, whole_folder
from embedx.filesystem.paths import display_path
from embedx.filesystem.remote import list_files, read_bytes, remove, write_bytes
from embedx.filesystem.urls import BUCKETS, absolute, is_engine, is_url, split_pattern
from embedx.store.lock import LOCK_NAME

MANIFEST, PARTS = "embedx.json", "parts"
FORMAT = 1  # of the manifest
PART_BYTES = 8 << 20
REQUESTS = 4  # parts that are sent or read at the same time, each in memory
MAX_PARTS = 1 << 22  # of a manifest: 32 TB
NAME = re.compile(r"(?!\.)[^/\0]+(/(?!\.)[^/\0]+){0,3}")  # of a file of a collection
DIGEST = re.compile(r"[0-9a-f]{32}")


@dataclass(frozen=True)
class Part:
    """Some bytes of a file of a collection."""

    digest: str
    name: str
    offset: int
    size: int


@dataclass(frozen=True)
class Pushed:
    """What a push has done: the bytes of the collection, and those that were sent; the parts of both."""

    url: str
    bytes: int
    parts: int
    bytes_sent: int
    parts_sent: int


def is_bucket(place: object) -> bool:
    """Tell whether a place is a URL at which a collection can be pushed."""
    return is_url(place) and str(place).partition("://")[0].lower() in (*BUCKETS, "s3a", "gcs")


def bucket_url(place: str) -> str:
    """Return the URL of a collection in its stored form.

    Raises:
        UsageError: it is not the URL of a folder in a bucket.
    """
    url = absolute(place) if is_url(place) else ""
    if not is_bucket(url) or split_pattern(url)[1] is not None:
        known = " or ".join(f"{scheme}://BUCKET/NAME" for scheme in BUCKETS[:2])
        raise UsageError(f"{display_path(place)} is not a place in a bucket. Give {known}.")
    return url


def push(
    folder: str | os.PathLike[str],
    place: str,
    *,
    is_new: bool = False,
    on_progress: Callable[[int, int], None] = lambda done, total: None,
) -> Pushed:
    """Copy a collection to a bucket; a writer may be active. Parts that are there already are not sent again.

    Args:
        folder: the folder of the collection.
        place: the URL, such as s3://bucket/x. It holds a collection or nothing.
        is_new: refuse a place that holds a collection.
        on_progress: called with the bytes that were sent and all that have to be sent.

    Raises:
        UsageError: there is no collection in the folder; or the place holds other files.
        StoreError: the collection is damaged.
        DiskError: the bucket cannot be written, or the disk is full.
    """
    url = bucket_url(place)
    with bucket_errors(url), tempfile.TemporaryDirectory(prefix="embedx-") as temporary:
        there = {file.url[len(url) + 1 :]: file.size for file in files_below(url)}
        strangers = [name for name in there if name != MANIFEST and not name.startswith(f"{PARTS}/")]
        if strangers or (is_new and MANIFEST in there):
            what = "a collection" if MANIFEST in there else f"other files, such as {display_path(strangers[0])}"
            raise UsageError(f"{display_path(url)} holds {what}. Give another name.")
        old = parse_manifest(read_bytes(f"{url}/{MANIFEST}"), url) if MANIFEST in there else {}
        copy = Path(temporary, "copy")
        size = backup(folder, copy)
        parts = list(split_files(copy))
        if content_of(parts) == content_of(old.get("parts", ())):
            return Pushed(url, size, len(parts), 0, 0)
        missing = {part.digest: part for part in parts if there.get(f"{PARTS}/{part.digest}") != part.size}
        to_send, sent = sum(part.size for part in missing.values()), 0
        with ThreadPoolExecutor(REQUESTS, "push") as pool:
            for count in pool.map(lambda part: send_part(copy, url, part), missing.values()):
                sent += count
                on_progress(sent, to_send)
        write_bytes(f"{url}/{MANIFEST}", make_manifest(parts, old))
        remove_unused(url, parts, old, there)
    return Pushed(url, size, len(parts), to_send, len(missing))


def files_below(url: str) -> Iterator[Any]:
    """Yield the files below a URL; none if nothing was ever written there."""
    with contextlib.suppress(FileNotFoundError):  # the bucket itself: writing says so
        yield from list_files(url)


def split_files(folder: Path) -> Iterator[Part]:
    """Yield the parts of the files of a collection, in the order of names and offsets."""
    for file in sorted(path for path in folder.rglob("*") if path.is_file()):
        name, offset = file.relative_to(folder).as_posix(), 0
        with open(file, "rb") as handle:
            while (data := handle.read(PART_BYTES)) or not offset:
                yield Part(digest_of(data), name, offset, len(data))
                offset += max(1, len(data))


def content_of(parts: Sequence[Part]) -> list[Part]:
    """Return the parts that tell whether a collection has changed: each copy of it has another lock file."""
    return [part for part in parts if part.name != LOCK_NAME]


def digest_of(data: bytes) -> str:
    """Return the name of a part."""
    return hashlib.blake2b(data, digest_size=16).hexdigest()


def send_part(folder: Path, url: str, part: Part) -> int:
    """Write a part to the bucket, and return its size."""
    write_bytes(f"{url}/{PARTS}/{part.digest}", read_part(folder, part))
    return part.size


def read_part(folder: Path, part: Part) -> bytes:
    """Return the bytes of a part from a folder with the files."""
    with open(folder / part.name, "rb") as file:
        file.seek(part.offset)
        return file.read(part.size)


def make_manifest(parts: Sequence[Part], old: dict[str, Any]) -> bytes:
    """Return a manifest; it also names the parts of the one before, which readers of that one may still need."""
    previous = sorted({part.digest for part in old.get("parts", ())})
    content: dict[str, Any] = {"format": FORMAT, "embedx": __version__, "parts": [asdict(part) for part in parts]}
    content["previous"] = previous
    return json.dumps({"digest": digest_of(canonical(content)), **content}).encode()


def canonical(content: dict[str, Any]) -> bytes:
    """Return the bytes of which the digest of a manifest is made."""
    return json.dumps(content, sort_keys=True).encode()


def parse_manifest(data: bytes, url: str) -> dict[str, Any]:
    """Return a manifest with its parts as objects.

    Raises:
        StoreError: it is damaged, of a newer version, or names a file that no collection has.
    """
    try:
        content = json.loads(data)
        digest = content.pop("digest")
        if content["format"] > FORMAT:
            raise StoreError(f"{display_path(url)} was pushed by a newer embedx. Update embedx.")
        parts = [Part(**part) for part in content["parts"]]
        is_whole = digest == digest_of(canonical(content)) and all(map(DIGEST.fullmatch, content["previous"]))
        ends: dict[str, int] = {}
        for part in parts:
            is_whole &= DIGEST.fullmatch(part.digest) is not None and NAME.fullmatch(part.name) is not None
            is_whole &= part.offset == ends.get(part.name, 0) and 0 <= part.size <= PART_BYTES
            ends[part.name] = part.offset + part.size
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise StoreError(f"The manifest of {display_path(url)} is damaged. Push the collection again.") from error
    if not is_whole or len(parts) > MAX_PARTS:
        raise StoreError(f"The manifest of {display_path(url)} is damaged. Push the collection again.")
    return {**content, "parts": parts, "digest": digest}


def remove_unused(url: str, parts: Sequence[Part], old: dict[str, Any], there: dict[str, int | None]) -> None:
    """Remove the parts that only the manifest before the last one needed. What cannot be removed stays."""
    needed = {part.digest for part in (*parts, *old.get("parts", ()))}
    for digest in old.get("previous", ()):
        if digest not in needed and f"{PARTS}/{digest}" in there:
            with contextlib.suppress(OSError):
                remove(f"{url}/{PARTS}/{digest}")


def fetch(place: str) -> Path:
    """Return a folder with a pushed collection. It is downloaded once for each push, and only the parts that changed.

    The folder is a copy in the cache of the user, so that labels and indexes can be written. Every part is compared
    with its digest.

    Raises:
        UsageError: nothing was pushed there, or the push was not finished.
        StoreError: a part is missing or damaged.
        DiskError: the bucket cannot be read, or the disk is full.
    """
    url = bucket_url(place)
    with bucket_errors(url):
        data = read_manifest(url)
        manifest = parse_manifest(data, url)
        cache = cache_of(url)
        make_folder(cache)
        with open(cache / "lock", "wb") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            folder = cache / str(manifest["digest"])
            if not folder.is_dir():
                Download(url, cache).make(folder, manifest["parts"])
                (cache / f"{folder.name}.json").write_bytes(data)
            return folder


def read_manifest(url: str) -> bytes:
    """Return the bytes of the manifest of a pushed collection.

    Raises:
        UsageError: nothing was pushed there, or the push was not finished.
    """
    try:
        return read_bytes(f"{url}/{MANIFEST}")
    except FileNotFoundError:
        raise UsageError(
            f"There is no collection at {display_path(url)}, or its push was not finished. Use `embedx push`."
        ) from None


def download(place: str, folder: Path) -> None:
    """Make a new folder with a pushed collection, without a copy in the cache; every part is compared with its digest.

    Raises:
        UsageError, StoreError, DiskError: see `fetch`.
    """
    url = bucket_url(place)
    with bucket_errors(url), tempfile.TemporaryDirectory(prefix=f".{folder.name}-", dir=folder.parent) as parts:
        Download(url, Path(parts)).make(folder, parse_manifest(read_manifest(url), url)["parts"])


def cache_of(url: str) -> Path:
    """Return the folder with the copies of a pushed collection."""
    base = os.environ.get("XDG_CACHE_HOME") or os.path.join(os.path.expanduser("~"), ".cache")
    return Path(base, "embedx", "pushed", digest_of(url.encode())[:16])


class Download:
    """Makes a folder from the parts of a pushed collection; a stopped one goes on where it was.

    Attributes:
        earlier: digest -> a folder of an earlier push that has these bytes, and where.
    """

    def __init__(self, url: str, cache: Path) -> None:
        self.url = url
        self.arrived = cache / PARTS
        self.earlier: dict[str, tuple[Path, Part]] = {}
        for file in cache.glob("*.json"):
            with contextlib.suppress(StoreError, OSError):
                for part in parse_manifest(file.read_bytes(), url)["parts"]:
                    self.earlier[part.digest] = file.with_suffix(""), part

    def make(self, folder: Path, parts: Sequence[Part]) -> None:
        """Read the missing parts, and write all files."""
        make_folder(self.arrived)
        with ThreadPoolExecutor(REQUESTS, "fetch") as pool:
            list(pool.map(self._receive, {part.digest: part for part in parts}.values()))
        with whole_folder(folder) as new:
            for part in parts:
                (new / part.name).parent.mkdir(parents=True, exist_ok=True)
                with open(new / part.name, "ab") as file:
                    file.write(self._read(part))
            for path in new.rglob("*"):
                sync_folder(path)  # it also flushes a file
        for used in self.arrived.iterdir():
            used.unlink()

    def _receive(self, part: Part) -> None:
        """Read a part from the bucket, unless this machine has it."""
        if self._have(part) is not None:
            return
        try:
            data = read_bytes(f"{self.url}/{PARTS}/{part.digest}")
        except FileNotFoundError:
            data = b""
        if digest_of(data) != part.digest:
            raise StoreError(
                f"{display_path(self.url)} is damaged: a part of {part.name} is missing or was changed. Push it again."
            )
        file = self.arrived / f"{part.digest}.new"
        file.write_bytes(data)
        os.replace(file, self.arrived / part.digest)

    def _have(self, part: Part) -> bytes | None:
        """Return the bytes of a part if they are on this machine and whole."""
        with contextlib.suppress(OSError):
            data = (self.arrived / part.digest).read_bytes()
            if digest_of(data) == part.digest:
                return data
        with contextlib.suppress(OSError, KeyError):
            data = read_part(*self.earlier[part.digest])
            if digest_of(data) == part.digest:
                return data
        return None

    def _read(self, part: Part) -> bytes:
        data = self._have(part)
        if data is None:
            raise DiskError(f"{self.arrived} was changed while {display_path(self.url)} was read. Run it again.")
        return data


def local_folder(place: str | os.PathLike[str]) -> str | os.PathLike[str]:
    """Return the folder of a collection: the place itself, or a copy of what was pushed to a bucket; see `fetch`.

    Raises:
        UsageError: it is the URL of a search engine, or a URL that is not in a bucket; also see `fetch`.
    """
    if is_engine(place):
        raise UsageError(
            "A search engine holds only what searches need: `embedx search`, `embedx push` and `embedx verify "
            "--against` take its URL. Give the folder of the collection."
        )
    if is_url(place) and not is_bucket(place):
        raise UsageError(
            f"No collection can be read from {display_path(os.fspath(place))}. Give the folder of a collection, or the "
            "place to which it was pushed, such as s3://BUCKET/NAME."
        )
    return fetch(os.fspath(place)) if is_bucket(place) else place


@contextlib.contextmanager
def bucket_errors(url: str) -> Iterator[None]:
    """Raise the errors of a bucket and of the disk as DiskError."""
    try:
        yield
    except DiskError:
        raise
    except OSError as error:
        raise DiskError(f"{error.strerror or error}. What was read or written before stays; run it again.") from error
