"""Comparing a collection that was embedded in shards with one of a single run, and a model that kills its process."""

from pathlib import Path

import numpy as np

import embedx

KILLER = """
import os, signal, time
from pathlib import Path
from embedx.extractors.logmel import LogMelStatistics

class Killer(LogMelStatistics):
    def frames(self, waves, lengths, layers):
        if waves.abs().max() > 0.9:  # the loud recording
            with open(os.environ.get("KILLS", os.devnull), "a") as kills:
                kills.write("killed\\n")
            os.kill(os.getpid(), signal.SIGKILL)
        time.sleep(float(os.environ.get("SLOW", 0)))
        yield from super().frames(waves, lengths, layers)

def make():
    return Killer()
"""


def assert_same_collection(one: Path, other: Path) -> None:
    """Compare rows, ids, vectors, failures, recordings and recipe; vectors may depend on the batch in the last bits."""
    with embedx.open(one) as a, embedx.open(other) as b:
        assert a.recipe == b.recipe
        assert a.rows().equals(b.rows())
        for view in a.views:
            np.testing.assert_allclose(a.vectors(view=view), b.vectors(view=view), rtol=1e-6, atol=1e-6)
        assert a.store.recordings() == b.store.recordings()
        assert a.verify().found == []
        assert b.verify().found == []
