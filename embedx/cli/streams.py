"""Standard streams that never end the work of a command: closed, full or broken ones lose text and nothing else."""

import io
import os
import select
import sys
from typing import Any


class TolerantOutput(io.RawIOBase):
    """A file descriptor for output whose first error is kept in `error`; what follows it is dropped."""

    def __init__(self, descriptor: int) -> None:
        super().__init__()
        self.descriptor = descriptor
        self.error: OSError | None = None

    def writable(self) -> bool:
        """Return True."""
        return True

    def fileno(self) -> int:
        """Return the file descriptor."""
        return self.descriptor

    def isatty(self) -> bool:
        """Tell whether the output is a terminal."""
        return os.isatty(self.descriptor)

    def write(self, data: Any, /) -> int:
        """Write all bytes, or drop them after an error; return how many bytes there were."""
        left = memoryview(data).cast("B")
        size = len(left)
        while left and self.error is None:
            try:
                left = left[os.write(self.descriptor, left) :]
            except BlockingIOError:  # another program has made a terminal or a pipe non-blocking
                select.select([], [self.descriptor], [])
            except OSError as error:
                self.error = error
        return size


def protect_standard_streams() -> TolerantOutput:
    """Let sys.stdout and sys.stderr drop what cannot be written, and return the raw standard output.

    A closed descriptor is opened on /dev/null first. Otherwise the next file that is opened, such as that of a store,
    would get its number, and messages would be written into the file.
    """
    for descriptor in (0, 1, 2):
        try:
            os.fstat(descriptor)
        except OSError:
            opened = os.open(os.devnull, os.O_RDWR)
            if opened != descriptor:
                os.dup2(opened, descriptor)
                os.close(opened)
    for stream in (sys.stdout, sys.stderr):
        if stream is not None:
            stream.flush()
    out, err = TolerantOutput(1), TolerantOutput(2)
    sys.stdout = text_stream(out, getattr(sys.stdout, "encoding", None))
    sys.stderr = text_stream(err, getattr(sys.stderr, "encoding", None), is_log=True)
    return out


def text_stream(raw: TolerantOutput, encoding: str | None, is_log: bool = False) -> io.TextIOWrapper:
    """Return a text stream; a character that the encoding lacks is escaped. A log is written line by line."""
    return io.TextIOWrapper(
        io.BufferedWriter(raw),
        encoding=encoding or "utf-8",
        errors="backslashreplace",
        line_buffering=is_log or raw.isatty(),
    )
