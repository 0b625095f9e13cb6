"""Copies of remote recordings: each is copied to a temporary file before it is decoded.

A decoder reads only local files, so the process that parses bytes from strangers needs no network and no credentials.
A recording is opened several times (each stretch, each channel, its hash), so copies that no one uses stay until they
are larger than `MAX_UNUSED_BYTES` together. The memory that a copy takes does not depend on the size of the recording.
"""

import contextlib
import os
import tempfile
import threading
from collections import OrderedDict
from collections.abc import Iterator
from dataclasses import dataclass

from embedx.errors import AudioError
from embedx.filesystem.remote import RemoteFile, Wait, download, look_at, no_action

MAX_UNUSED_BYTES = 512 << 20  # of temporary files that no one uses; players read the same recording again and again


@dataclass
class Copy:
    """A temporary file with a remote recording, and the number of its users.

    Attributes:
        is_whole: whether the copy is complete.
        lock: held while it is copied.
    """

    remote: RemoteFile
    file: str
    lock: threading.Lock
    users: int = 0
    is_whole: bool = False


class RemoteCopies:
    """The copies of a process. Threads may share it."""

    def __init__(self) -> None:
        self.copies: OrderedDict[RemoteFile, Copy] = OrderedDict()  # in the order of use
        self.number = 0
        self.lock = threading.Lock()
        self._folder: tuple[int, tempfile.TemporaryDirectory[str]] | None = None

    @contextlib.contextmanager
    def lend(self, url: str, on_wait: Wait = no_action) -> Iterator[str]:
        """Lend a local file with the present content of a remote recording.

        Raises:
            AudioError: the recording is missing, must not be read, or cannot be reached.
            DiskError: the disk is full.
        """
        with as_audio_error():
            remote = look_at(url, on_wait)
            copy = self._take(remote)
        try:
            with copy.lock:
                if not copy.is_whole:
                    with as_audio_error():
                        download(remote, copy.file, on_wait)
                    copy.is_whole = True
            yield copy.file
        finally:
            with self.lock:
                copy.users -= 1
                self._shrink()

    def _take(self, remote: RemoteFile) -> Copy:
        """Return the copy of a recording, which may have to be made, with one more user."""
        with self.lock:
            if self._folder is None or self._folder[0] != os.getpid():  # a fork has copies of its own
                self._folder = os.getpid(), tempfile.TemporaryDirectory(prefix="embedx-", ignore_cleanup_errors=True)
                self.copies.clear()
            if remote not in self.copies:
                self.number += 1
                suffix = os.path.splitext(remote.url.partition("?")[0])[1]
                name = f"{self.number}{suffix if suffix[1:].isalnum() and len(suffix) < 9 else ''}"
                self.copies[remote] = Copy(remote, os.path.join(self._folder[1].name, name), threading.Lock())
            self.copies.move_to_end(remote)
            self.copies[remote].users += 1
            return self.copies[remote]

    def _shrink(self) -> None:
        """Remove incomplete copies, and those that were not used for the longest time, down to the limit."""
        unused = [copy for copy in self.copies.values() if not copy.users]
        sizes = {copy.file: os.path.getsize(copy.file) if os.path.exists(copy.file) else 0 for copy in unused}
        total = sum(sizes.values())
        for copy in unused:
            if copy.is_whole and copy.remote.version is not None and total <= MAX_UNUSED_BYTES:
                continue
            total -= sizes[copy.file]
            del self.copies[copy.remote]
            with contextlib.suppress(FileNotFoundError):
                os.unlink(copy.file)

    def close(self) -> None:
        """Remove all copies."""
        if self._folder is not None and self._folder[0] == os.getpid():
            self._folder[1].cleanup()


@contextlib.contextmanager
def as_audio_error() -> Iterator[None]:
    """Raise the errors of a remote file as those of a recording."""
    try:
        yield
    except FileNotFoundError as error:
        raise AudioError("missing", f"{error.strerror}.") from error
    except ConnectionError as error:
        raise AudioError("network", f"{error.strerror}.") from error
    except OSError as error:
        if not error.errno:  # a full disk of this machine
            raise
        raise AudioError("unreadable", f"{error.strerror}.") from error


COPIES = RemoteCopies()  # of this process
