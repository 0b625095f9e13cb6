"""Maps of the service: which methods there are, and UMAP in a process that can be stopped."""

from importlib.util import find_spec

import numpy as np
from numpy.typing import NDArray

from embedx.formats.coordinates import Map
from embedx.processes.channels import Channel
from embedx.processes.spawn import start_child
from embedx.server.errors import ApiError


def methods() -> list[str]:
    """Return the methods of a map on this machine."""
    return ["pca", *(["umap"] if find_spec("umap") else [])]


def check_method(method: str) -> None:
    """Raise ApiError if a map cannot be made by a method here."""
    if method == "umap" and method not in methods():
        raise ApiError(400, "no_umap", "This server has no UMAP.", "Install it: pip install umap-learn. Or use pca.")
    if method not in methods():
        raise ApiError(400, "bad_request", f"The method of a map is {' or '.join(methods())}.")


class Projection:
    """A map by UMAP that a process makes; `stop` ends it.

    Raises:
        EmbedxError: the system cannot start a process.
    """

    def __init__(self) -> None:
        self._child = start_child("makes a map", "embedx.formats.umap_process", Channel)

    def make(self, ids: NDArray[np.int64], vectors: NDArray[np.float32]) -> Map:
        """Return the map of vectors [N, D].

        Raises:
            ApiError: UMAP fails, or it was stopped.
        """
        try:
            self._child.channels[0].send({}, [vectors])
            message, found = self._child.channels[0].receive()
        except (OSError, EOFError):
            raise ApiError(503, "umap_stopped", "UMAP has ended before the map was made.", "Try again.") from None
        if "error" in message:
            raise ApiError(500, "umap_failed", f"UMAP has failed: {message['error']}", "Use pca.")
        return Map(ids, found[0].astype(np.float32))

    def stop(self) -> None:
        """End the process, even in the middle of its work."""
        self._child.stop()
