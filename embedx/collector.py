"""Collector: Python's search for garbage in cycles, put off while libraries are imported.

torch and transformers make some million objects as they come, none of them garbage, and Python looks at all of them
again and again: a fifth of the time to a loaded model.
"""

import contextlib
import gc
from collections.abc import Iterator


@contextlib.contextmanager
def uncollected() -> Iterator[None]:
    """Search for no garbage as long as the context lasts; what is not in a cycle is freed as ever."""
    was_on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_on:
            gc.enable()
