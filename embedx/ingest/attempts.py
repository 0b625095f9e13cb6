"""Attempts: what a process that was killed has left behind, so that the next one passes over what kills it."""

import contextlib
import json
from pathlib import Path
from typing import Any

from embedx.filesystem.atomic import replace_file

MAX_KILLS = 2  # a recording that was alone in work when this many processes died is a failure


class Attempts:
    """The attempts at a piece of work, in a small file.

    A process that dies without a commit may have been killed by a recording. The next one then takes the recordings
    one by one and writes the name of each before it starts with it.

    Args:
        file: the file; only the process that holds the lock of the work writes it.
        stored: how many recordings are stored now.

    Attributes:
        is_stuck: whether the last process died without storing anything.
        kills: path -> processes that died while they had this recording alone in work.
    """

    def __init__(self, file: Path, stored: int) -> None:
        self.file = file
        earlier = self._read()
        self.kills: dict[str, int] = earlier.get("kills", {})
        died = earlier.get("running", False)
        self.is_stuck = died and earlier.get("stored") == stored
        if died and (path := earlier.get("path")) is not None:
            self.kills[path] = self.kills.get(path, 0) + 1
        self.stored = stored
        self._write(running=True)

    def has_killed(self, path: str) -> bool:
        """Tell whether a recording is not tried again."""
        return self.kills.get(path, 0) >= MAX_KILLS

    def start(self, path: str | None) -> None:
        """Write which recording is alone in work now; None if several are."""
        self._write(running=True, path=path)

    def end(self) -> None:
        """Write that this process was not killed."""
        self._write(running=False)

    def _read(self) -> dict[str, Any]:
        with contextlib.suppress(FileNotFoundError, ValueError):  # without the file this is the first attempt
            values = json.loads(self.file.read_text("ascii"))
            return values if isinstance(values, dict) else {}
        return {}

    def _write(self, **state: Any) -> None:
        values = {"stored": self.stored, "kills": self.kills, **state}
        replace_file(self.file, json.dumps(values).encode("ascii"))
