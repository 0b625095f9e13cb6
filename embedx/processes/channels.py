"""Channels: messages and arrays between a process and its child."""

import json
import mmap
import os
import socket
import struct
import time
from collections.abc import Callable, Sequence
from multiprocessing.connection import Connection
from typing import Any

import numpy as np
from numpy.typing import NDArray

Samples = NDArray[np.float32]

MOST_TEXT = 1 << 20  # bytes of a message: a path has up to 4096, its detail a few times as many


HEAD = struct.Struct("<II")  # bytes of JSON, number of samples


NOTHING = np.zeros(0, np.float32)


Message = dict[str, Any]


class Wire:
    """One end of the socket: messages of JSON, each with the samples that belong to it."""

    def __init__(self, line: socket.socket) -> None:
        self.line = line

    def close(self) -> None:
        """Close this end; the other one reads the end of the stream."""
        self.line.close()

    def send(self, message: Message, samples: Samples = NOTHING) -> None:
        """Send a message, and wait until the other end takes it."""
        text = json.dumps(message).encode()  # ASCII, whatever bytes a path has
        self.line.sendall(HEAD.pack(len(text), len(samples)) + text)
        if len(samples):
            self.line.sendall(np.ascontiguousarray(samples, "<f4").data)

    def receive(
        self, most: int, patience_s: float = float("inf"), on_wait: Callable[[], None] = lambda: None
    ) -> tuple[Message, Samples]:
        """Wait for a message with at most so many samples.

        Raises:
            EOFError: the other end is gone, or sends what is no message.
            TimeoutError: nothing came for `patience_s`.
        """
        head = self._fill(bytearray(HEAD.size), patience_s, on_wait)
        length, count = HEAD.unpack(head)
        if length > MOST_TEXT or count > most:
            raise EOFError("a message that is too long")
        text = self._fill(bytearray(length), patience_s, on_wait)
        samples: Samples = self._fill(np.empty(count, "<f4"), patience_s, on_wait)
        try:
            message = json.loads(text)
        except ValueError as error:
            raise EOFError("a message that is no JSON") from error
        return message, samples

    def _fill(self, buffer: Any, patience_s: float, on_wait: Callable[[], None]) -> Any:
        """Read until a buffer is full, and return it."""
        heard = time.monotonic()
        view = memoryview(buffer).cast("B") if len(buffer) else memoryview(b"")
        while view:
            try:
                count = self.line.recv_into(view)
            except TimeoutError:
                on_wait()
                if time.monotonic() - heard > patience_s:
                    raise
                continue
            if not count:
                raise EOFError("the other end is closed")
            view, heard = view[count:], time.monotonic()
        return buffer


ITEM = np.dtype(np.float32).itemsize


class Line:
    """One end of a line between two processes that speak in turn: text through a socket, numbers through memory."""

    def __init__(self, sock: int, memory: int) -> None:
        self.wire, self.memory = Connection(sock), memory
        self.map = mmap.mmap(memory, mmap.PAGESIZE)

    def send(self, message: dict[str, Any], arrays: Sequence[NDArray[np.float32]] = ()) -> None:
        """Send a message with arrays."""
        sizes = [array.size for array in arrays]
        place = self._place(sum(sizes))
        for array, part in zip(arrays, np.split(place, np.cumsum(sizes)), strict=False):
            part[:] = array.ravel()
        self.wire.send_bytes(json.dumps(message | {"shapes": [array.shape for array in arrays]}).encode())

    def receive(self) -> tuple[dict[str, Any], list[NDArray[np.float32]]]:
        """Wait for a message; its arrays are views, and good until the next one is sent.

        Raises:
            EOFError, OSError: the other end is gone.
        """
        message: dict[str, Any] = json.loads(self.wire.recv_bytes())
        shapes = message.pop("shapes")
        sizes = [int(np.prod(shape)) for shape in shapes]
        parts = np.split(self._place(sum(sizes)), np.cumsum(sizes))
        return message, [part.reshape(shape) for part, shape in zip(parts, shapes, strict=False)]

    def _place(self, count: int) -> NDArray[np.float32]:
        """Return the memory of so many numbers."""
        if count * ITEM > len(self.map):
            if count * ITEM > os.fstat(self.memory).st_size:
                os.ftruncate(self.memory, count * ITEM)
            self.map = mmap.mmap(self.memory, count * ITEM)  # the old one goes with the last view of it
        return np.frombuffer(self.map, np.float32, count)
