"""Uploading: an export to a URL is written to a temporary place, and then copied there."""

import os
import tempfile
from collections.abc import Callable
from pathlib import Path

from embedx.errors import DiskError, UsageError
from embedx.filesystem.paths import display_path
from embedx.filesystem.remote import list_files, look_at, remove, upload
from embedx.filesystem.urls import BUCKETS, absolute


def export_to_url(out: str, write: Callable[[str], int], *, overwrite: bool) -> int:
    """Write an export to a URL of a bucket; a file appears complete or not at all.

    The files of a folder are copied in the order in which they were written, so that the last one is its description.

    Args:
        out: the URL.
        write: writes the export to a local path, and returns the number of rows.
        overwrite: replace an export that exists.

    Raises:
        UsageError: the URL is not in a bucket, or there is something.
        DiskError: it cannot be written.
    """
    url = absolute(out)
    if url.partition("://")[0] not in BUCKETS:
        raise UsageError(f"{display_path(url)} cannot be written. Give a local path or s3://BUCKET/NAME.")
    try:
        there = find(url)
        if there and not overwrite:
            raise UsageError(f"{display_path(url)} exists. Choose another name, or use --overwrite (overwrite=True).")
        with tempfile.TemporaryDirectory(prefix="embedx-") as folder:
            rows = write(os.path.join(folder, url.rpartition("/")[2]))
            written = sorted((path for path in Path(folder).rglob("*") if path.is_file()), key=changed)
            parent = url.rpartition("/")[0]
            places = [f"{parent}/{path.relative_to(folder).as_posix()}" for path in written]
            for path, place in zip(written, places, strict=True):
                upload(str(path), place)
            for place in there - set(places):
                remove(place)
    except OSError as error:
        if isinstance(error, DiskError):
            raise
        raise DiskError(f"{error.strerror or error}.") from error
    return rows


def find(url: str) -> set[str]:
    """Return the files at a URL: the file itself, and those below it."""
    try:
        return {look_at(url).url}
    except FileNotFoundError:
        pass
    try:
        return {file.url for file in list_files(url)}
    except FileNotFoundError:
        return set()


def changed(path: Path) -> int:
    """Return the time at which a file was written last."""
    return path.stat().st_mtime_ns
