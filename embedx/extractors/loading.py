"""Load an extractor by the name of its model."""

import contextlib
import gc
import importlib
from collections.abc import Iterator
from typing import TYPE_CHECKING

from embedx.errors import UsageError
from embedx.extractors.names import resolve, resolve_untrusted
from embedx.extractors.shared_models import locate

if TYPE_CHECKING:
    from embedx.extractors.base import Extractor

BACKENDS = ("auto", "fast", "reference")
ACCELERATED = ("huggingface", "torchaudio", "finetuned")  # families with models that `fast` supports


@contextlib.contextmanager
def gc_paused() -> Iterator[None]:
    """Pause Python's cyclic garbage collector in this context, which makes large imports faster."""
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()


@gc_paused()
def load(model: str, *, allow_pickle: bool = False, backend: str = "auto", trusted: bool = True) -> "Extractor":
    """Load an extractor on the CPU.

    Args:
        model: the name of the model; see `embedx.extractors.names.resolve`.
        allow_pickle: read weights from a pickle (.bin, .pth, .pt) if there is no safetensors file, with torch's reader
            that accepts only tensors; default False.
        backend: "fast" (`embedx.extractors.fast`), "reference" (the library's own forward pass), or "auto": fast for
            models that it supports, else reference. Default "auto".
        trusted: whether the user named the model in this call. False for a name from a file, such as a stored recipe:
            then no code outside embedx is run, and nothing is downloaded. Default True.

    Raises:
        ModelError: the name is unknown, the weights are missing or wrong, or the name is not trusted and needs code
            outside embedx or a download.
        UsageError: the backend is unknown, or the fast backend does not support the model.
    """
    if backend not in BACKENDS:
        raise UsageError(f"Unknown backend {backend!r}. Backends: {', '.join(BACKENDS)}.")
    family, source = locate(*(resolve(model) if trusted else resolve_untrusted(model)), download=trusted)
    module_name = "plugins" if family == "plugin" else family.replace("-", "_")  # recipes store the family's name
    module = importlib.import_module(f"embedx.extractors.{module_name}")
    extractor: Extractor = module.load(source, allow_pickle=allow_pickle, download=trusted)
    if backend == "reference" or (backend == "auto" and family not in ACCELERATED):
        return extractor
    from embedx.extractors.fast.encoder import accelerate

    return accelerate(extractor, required=backend == "fast")
