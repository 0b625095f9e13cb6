"""Parts: a file that is made of pieces of another one, without a copy."""

import io
import os
from bisect import bisect_right
from collections.abc import Sequence
from itertools import accumulate

from embedx.audio.layout import Piece


class PartFile(io.RawIOBase):
    """A file for reading that consists of pieces: bytes, or the bytes of a file between two positions."""

    def __init__(self, path: str, pieces: Sequence[Piece]) -> None:
        """Open the file at a path, of which the part consists with its `pieces`."""
        self.file = open(path, "rb")  # noqa: SIM115 - closed with the part
        self.pieces = pieces
        lengths = [len(piece) if isinstance(piece, bytes) else piece[1] - piece[0] for piece in pieces]
        self.starts = [0, *accumulate(lengths)]
        self.position = 0

    def readable(self) -> bool:
        """Return True."""
        return True

    def seekable(self) -> bool:
        """Return True."""
        return True

    def tell(self) -> int:
        """Return the position in the part."""
        return self.position

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        """Move to a position in the part, and return it."""
        origin = {os.SEEK_SET: 0, os.SEEK_CUR: self.position, os.SEEK_END: self.starts[-1]}[whence]
        self.position = max(0, origin + offset)
        return self.position

    def readinto(self, buffer: "bytearray | memoryview") -> int:  # type: ignore[override]
        """Fill a buffer, and return the number of bytes."""
        view = memoryview(buffer).cast("B")
        done = 0
        while done < len(view) and self.position < self.starts[-1]:
            number = bisect_right(self.starts, self.position) - 1
            piece, offset = self.pieces[number], self.position - self.starts[number]
            length = min(len(view) - done, self.starts[number + 1] - self.position)
            if isinstance(piece, bytes):
                data = piece[offset : offset + length]
            else:
                self.file.seek(piece[0] + offset)
                data = self.file.read(length)
            if not data:
                break
            view[done : done + len(data)] = data
            done += len(data)
            self.position += len(data)
        return done

    def close(self) -> None:
        """Close the part and its file."""
        self.file.close()
        super().close()
