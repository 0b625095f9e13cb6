"""Recordings of annotations: which recording a file of annotations, or a name in it, means."""

import os
import re
from collections.abc import Iterable, Sequence
from dataclasses import replace

from embedx.annotations.base import Annotation
from embedx.errors import UsageError
from embedx.filesystem.paths import display_path

UPLOADED = re.compile(r"[0-9a-f]{8}-")  # what Label Studio puts before the name of an uploaded file
NUMBERED = re.compile(r"[0-9]{4}_")  # what embedx puts before the name of a file for one recording
SEPARATOR = re.compile(r"[\\/]+")  # of Windows and of others


class Recordings:
    """The recordings that annotations can be about.

    Args:
        paths: their absolute paths.
    """

    def __init__(self, paths: Iterable[str]) -> None:
        self.paths = dict.fromkeys(paths)
        self._by_name: dict[str, list[str]] = {}
        self._by_stem: dict[str, list[str]] = {}
        for path in self.paths:
            name = os.path.basename(path)
            self._by_name.setdefault(name, []).append(path)
            self._by_stem.setdefault(os.path.splitext(name)[0], []).append(path)

    def resolve(self, files: Iterable[tuple[str, Sequence[Annotation]]]) -> tuple[list[Annotation], list[str]]:
        """Return the annotations with the paths of their recordings, and the names that no recording has.

        Raises:
            UsageError: a name belongs to several recordings.
        """
        found: list[Annotation] = []
        unknown: dict[str, None] = {}
        for file, annotations in files:
            places: dict[str, str | None] = {}
            for one in annotations:
                if one.path not in places:
                    places[one.path] = self.named(one.path, file) if one.path else self.beside(file)
                path = places[one.path]
                if path is None:
                    unknown[one.path or file] = None
                else:
                    found.append(replace(one, path=path))
        return found, list(unknown)

    def named(self, name: str, file: str) -> str | None:
        """Return the recording that a file of annotations names; None if there is none.

        A path counts from the folder of the file. If it leads nowhere, as on another machine, the recordings with the
        longest common end of the path are meant.
        """
        place = os.path.normpath(os.path.join(os.path.dirname(file), name))
        if place in self.paths:
            return place
        parts = SEPARATOR.split(name)
        for last in dict.fromkeys((parts[-1], UPLOADED.sub("", parts[-1], count=1))):
            if last in self._by_name:
                return self.nearest(self._by_name[last], [*parts[:-1], last], name)
        return None

    def beside(self, file: str) -> str | None:
        """Return the recording that a file is about by its own name: of a.wav for a.txt or a.Table.1.selections.txt."""
        name = os.path.basename(file)
        parts = os.path.dirname(file).split(os.sep)
        for start in (name, NUMBERED.sub("", name, count=1)):
            stem = start
            while stem:
                for known in (self._by_name, self._by_stem):
                    if stem in known:
                        return self.nearest(known[stem], [*parts, stem], name)
                stem = stem.rpartition(".")[0]
        return None

    def nearest(self, paths: Sequence[str], parts: Sequence[str], name: str) -> str:
        """Return the path whose folders agree with the most of these parts, counted from the end.

        Raises:
            UsageError: several paths agree with as many.
        """

        def common(path: str) -> int:
            folders = zip(reversed(path.split(os.sep)[:-1]), reversed(parts[:-1]), strict=False)
            return next((count for count, (one, other) in enumerate(folders) if one != other), min(len(parts), 1 << 20))

        best = max(map(common, paths))
        nearest = [path for path in paths if common(path) == best]
        if len(nearest) > 1:
            examples = " and ".join(map(display_path, nearest[:2]))
            raise UsageError(
                f"{display_path(name)} can be one of {len(nearest)} recordings, such as {examples}. Name the recording "
                "by its path, or put the annotations beside it."
            )
        return nearest[0]
