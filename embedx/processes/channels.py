"""Channels between a process and its child: JSON messages, each with arrays of float32.

Both channels frame messages in the same way: a header, the JSON text, the values of the arrays. `Channel` sends the
values through the socket; `SharedMemoryChannel` puts them into memory that both processes map. No pickle is used, so a
child that was taken over by a malicious file cannot make its parent run code.
"""

import json
import mmap
import os
import socket
import struct
import time
from collections.abc import Callable, Sequence
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from embedx.errors import AudioError, EmbedxError

Message = dict[str, Any]
Values = NDArray[np.float32]

HEADER = struct.Struct("<IQ")  # bytes of JSON text, number of float32 values
MAX_TEXT_BYTES = 1 << 20  # a path has up to 4096 bytes, and an error text quotes it a few times
VALUE_BYTES = np.dtype(np.float32).itemsize
READY: Message = {"ready": True}  # the first message of every child


def no_action() -> None:
    """Do nothing."""


class Channel:
    """One end of a connection between two processes; the values of arrays go through the socket."""

    max_text_bytes = MAX_TEXT_BYTES

    def __init__(self, sock: socket.socket) -> None:
        self.socket = sock

    @classmethod
    def pair(cls) -> tuple[Self, Self]:
        """Return both ends of a new connection: one for this process, one for its child."""
        parent_end, child_end = socket.socketpair()
        return cls(parent_end), cls(child_end)

    @classmethod
    def from_handles(cls, *handles: int) -> Self:
        """Return the end that a child process was given as open file descriptors; see `handles`."""
        return cls(socket.socket(fileno=handles[0]))

    @property
    def handles(self) -> tuple[int, ...]:
        """The file descriptors of this end."""
        return (self.socket.fileno(),)

    def close(self) -> None:
        """Close this end; the other one then reads the end of the stream."""
        self.socket.close()

    def send(self, message: Message, arrays: Sequence[Values] = ()) -> None:
        """Send a message with arrays, and wait until the other end has received it."""
        text = json.dumps(message | {"shapes": [array.shape for array in arrays]}).encode()  # ASCII for any path
        self._write(HEADER.pack(len(text), sum(array.size for array in arrays)) + text, arrays)

    def receive(
        self,
        max_values: float = float("inf"),
        timeout_s: float = float("inf"),
        on_wait: Callable[[], None] = no_action,
    ) -> tuple[Message, list[Values]]:
        """Wait for a message and return it with its arrays.

        Args:
            max_values: the largest number of float32 values that is accepted.
            timeout_s: seconds without any byte after which TimeoutError is raised. It needs a socket with a timeout.
            on_wait: called each time that the socket's own timeout passes.

        Raises:
            EOFError: the other end is closed, or what it sent is not a valid message.
            TimeoutError: nothing arrived for `timeout_s`.
            OSError: the connection failed.
        """
        length, count = HEADER.unpack(self._fill(bytearray(HEADER.size), timeout_s, on_wait))
        if length > self.max_text_bytes or count > max_values:
            raise EOFError("The message is too long.")
        text = self._fill(bytearray(length), timeout_s, on_wait)
        values = self._read(count, timeout_s, on_wait)
        try:
            message: Message = json.loads(text)
            return message, split(values, message.pop("shapes"))
        except (ValueError, TypeError, KeyError, AttributeError) as error:
            raise EOFError("The message is not valid.") from error

    def _write(self, head: bytes, arrays: Sequence[Values]) -> None:
        self.socket.sendall(head)
        for array in arrays:
            if array.size:
                self.socket.sendall(np.ascontiguousarray(array, "<f4").data)

    def _read(self, count: int, timeout_s: float, on_wait: Callable[[], None]) -> Values:
        values: Values = self._fill(np.empty(count, "<f4"), timeout_s, on_wait)
        return values

    def _fill(self, buffer: Any, timeout_s: float, on_wait: Callable[[], None]) -> Any:
        """Read from the socket until a buffer is full, and return the buffer."""
        last_read = time.monotonic()
        view = memoryview(buffer).cast("B") if len(buffer) else memoryview(b"")
        while view:
            try:
                count = self.socket.recv_into(view)
            except TimeoutError:
                on_wait()
                if time.monotonic() - last_read > timeout_s:
                    raise
                continue
            if not count:
                raise EOFError("The other end is closed.")
            view, last_read = view[count:], time.monotonic()
        return buffer


class SharedMemoryChannel(Channel):
    """A channel whose arrays lie in shared memory, which is faster for large ones.

    Both ends write to the same memory, so they must take turns: one sends, then the other. Received arrays are views
    of that memory and are valid until the next message is sent.
    """

    max_text_bytes = 1 << 30  # it holds the shape of every clip of a batch; the other end is trusted

    def __init__(self, sock: socket.socket, memory: int) -> None:
        super().__init__(sock)
        self.memory = memory
        self.map = mmap.mmap(memory, mmap.PAGESIZE)

    @classmethod
    def pair(cls) -> tuple[Self, Self]:
        """Return both ends of a new connection that share one block of memory."""
        parent_end, child_end = socket.socketpair()
        memory = os.memfd_create("embedx")
        os.ftruncate(memory, mmap.PAGESIZE)
        return cls(parent_end, memory), cls(child_end, os.dup(memory))

    @classmethod
    def from_handles(cls, *handles: int) -> Self:
        """Return the end that a child process was given as the descriptors of a socket and of the memory."""
        sock, memory = handles
        return cls(socket.socket(fileno=sock), memory)

    @property
    def handles(self) -> tuple[int, ...]:
        """The file descriptors of the socket and of the memory."""
        return (self.socket.fileno(), self.memory)

    def close(self) -> None:
        """Close the socket and release the memory; arrays that are still in use keep theirs."""
        super().close()
        if self.memory >= 0:
            os.close(self.memory)
            self.memory = -1

    def _write(self, head: bytes, arrays: Sequence[Values]) -> None:
        sizes = [array.size for array in arrays]
        for array, part in zip(arrays, np.split(self._values(sum(sizes)), np.cumsum(sizes)), strict=False):
            part[:] = array.ravel()
        self.socket.sendall(head)

    def _read(self, count: int, timeout_s: float, on_wait: Callable[[], None]) -> Values:
        return self._values(count)

    def _values(self, count: int) -> Values:
        """Return the first values of the memory as an array, and enlarge the memory if it is too small."""
        size = count * VALUE_BYTES
        if size > len(self.map):
            if size > os.fstat(self.memory).st_size:
                os.ftruncate(self.memory, size)
            self.map = mmap.mmap(self.memory, size)  # the old map is released with the last array that uses it
        return np.frombuffer(self.map, np.float32, count)


def split(values: Values, shapes: Sequence[Sequence[int]]) -> list[Values]:
    """Split values [N] into arrays of the given shapes.

    >>> [array.tolist() for array in split(np.arange(5, dtype=np.float32), [[3], [1, 2]])]
    [[0.0, 1.0, 2.0], [[3.0, 4.0]]]
    """
    parts = np.split(values, np.cumsum([int(np.prod(shape)) for shape in shapes]))
    return [part.reshape(shape) for part, shape in zip(parts, shapes, strict=False)]


def error_message(error: Exception) -> Message:
    """Return the message that reports an error to the other process."""
    if isinstance(error, AudioError):
        return {"error": error.detail, "reason": error.reason}
    if isinstance(error, EmbedxError):
        return {"error": str(error), "exit_code": error.exit_code}
    return {"error": f"{type(error).__name__}: {error}"}


def raise_reported(message: Message, prefix: str = "") -> None:
    """Raise the error that a message reports, if it reports one.

    Raises:
        AudioError: the message has a reason.
        EmbedxError: the message has an exit code.
        RuntimeError: the other process met an unexpected error.
    """
    if "error" not in message:
        return
    text = f"{prefix}{message['error']}"
    if "reason" in message:
        raise AudioError(message["reason"], text)
    if "exit_code" not in message:
        raise RuntimeError(text)
    error = EmbedxError(text)
    error.exit_code = message["exit_code"]
    raise error
