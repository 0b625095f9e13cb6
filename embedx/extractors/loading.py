"""Loading: a model name -> an extractor, ready to run."""

import contextlib
import gc
import importlib
from collections.abc import Iterator
from typing import TYPE_CHECKING

from embedx.errors import UsageError

if TYPE_CHECKING:
    from embedx.extractors.base import Extractor
from embedx.extractors.names import resolve


@contextlib.contextmanager
def gc_paused() -> Iterator[None]:
    """Search for no garbage as long as the context lasts; what is not in a cycle is freed as ever."""
    was_on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_on:
            gc.enable()


BACKENDS = ("auto", "fast", "reference")  # auto: the fast forward for models that it knows, the library's for others


@gc_paused()
def load(model: str, *, allow_pickle: bool = False, backend: str = "auto") -> "Extractor":
    """Load an extractor by name, on the CPU, ready to run.

    Weights are read from safetensors; a pickle (.bin, .pth, .pt) only with `allow_pickle`, and even then by torch's
    reader that takes nothing but tensors. `backend` is "fast" (`embedx.extractors.fast`), "reference" (the library's
    own forward), or "auto": the fast one, where there is one for the model.

    Raises:
        ModelError: the name is unknown, or its weights are missing or wrong.
        UsageError: the backend is unknown, or there is no fast one for the model.
    """
    if backend not in BACKENDS:
        raise UsageError(f"Unknown backend {backend!r}. Backends: {', '.join(BACKENDS)}.")
    family, source = resolve(model)
    module_name = "plugins" if family == "plugin" else family.replace("-", "_")  # recipes store the family's name
    module = importlib.import_module(f"embedx.extractors.{module_name}")
    extractor: Extractor = module.load(source, allow_pickle=allow_pickle)
    if backend == "reference" or (backend == "auto" and family not in ("huggingface", "torchaudio")):
        return extractor
    from embedx.extractors.fast.encoder import accelerate

    return accelerate(extractor, required=backend == "fast")
