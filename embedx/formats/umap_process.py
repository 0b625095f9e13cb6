"""UMAP in a process of its own: it takes minutes for many rows, and would stop all other threads of a service."""

import numpy as np
from numpy.typing import NDArray

from embedx.processes.channels import Channel
from embedx.processes.spawn import ignore_signals

NEIGHBOURS = 15  # UMAP's own default
SEED = 0  # so that a map looks the same after the service was started again


def serve(handle: int) -> None:
    """Receive vectors [N, D], and send their places [N, 2]; an error is a message."""
    ignore_signals()
    channel = Channel.from_handles(handle)
    _, (vectors,) = channel.receive()
    try:
        places = project(np.asarray(vectors, np.float32))
    except Exception as error:  # of a foreign library: its name and text are all that is known
        channel.send({"error": f"{type(error).__name__}: {error}"})
    else:
        channel.send({}, [places])


def project(vectors: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return the UMAP of vectors by their cosine."""
    from umap import UMAP

    model = UMAP(metric="cosine", n_neighbors=min(NEIGHBOURS, len(vectors) - 1), random_state=SEED, n_jobs=1)
    return np.asarray(model.fit_transform(vectors), np.float32)
