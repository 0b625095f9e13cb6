"""Buckets: the audio files below a URL, or those that a pattern matches -> items, as `walk` finds them in a folder."""

import os
import re
from collections.abc import Iterator

from embedx.audio.decode import SUFFIXES
from embedx.datasets.items import Item
from embedx.datasets.walk import COMMON_SUFFIX, UNREADABLE_FOLDER, Survey
from embedx.filesystem.remote import RemoteFile, list_files, matcher
from embedx.filesystem.urls import split_pattern


def list_bucket(url: str, survey: Survey) -> Iterator[Item]:
    """Yield the audio files below a place of a bucket, or those that match a pattern, in the order of the listing.

    A place that cannot be listed to its end is an item with a problem, and nothing below it counts as deleted. Hidden
    files and folders are passed over.

    Args:
        url: the place, or a pattern with * (within a folder), ** (any folders), ? and [abc].
        survey: receives what was passed over, and where the search could not look.
    """
    place, pattern = split_pattern(url)
    matches = matcher(pattern) if pattern else None
    is_empty = True
    try:
        for file in list_files(place):
            is_empty = False
            yield from file_items(file, place, matches, survey)
    except OSError as error:
        survey.explain(place, "cannot be listed")
        yield Item(place, problem=f"{error.strerror}.", reason=UNREADABLE_FOLDER, status=(None, None))
        return
    if is_empty:
        survey.explain(place, "is empty")


def file_items(file: RemoteFile, place: str, matches: re.Pattern[str] | None, survey: Survey) -> Iterator[Item]:
    """Yield the item of a file that is audio by its name, and count any other file."""
    inner = file.url[len(place) + 1 :]
    suffix = os.path.splitext(inner)[1].lower()
    if not inner or inner.endswith("/"):  # stands for a folder
        return
    if matches is not None and not matches.fullmatch(file.url):
        survey.passed_over["not in the pattern"] += 1
    elif any(part.startswith(".") for part in inner.split("/")):
        survey.passed_over["hidden"] += 1
    elif suffix in SUFFIXES:
        yield Item(file.url, status=(file.size, file.version))
    else:
        survey.passed_over[suffix if COMMON_SUFFIX.fullmatch(suffix) else "other files"] += 1
