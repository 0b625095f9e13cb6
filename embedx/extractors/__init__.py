"""Extractors: waves [B, S] + lengths [B] -> frames [B, T, D] + lengths [B]. One file per family.

A model is named as a user would type it: `logmel`, `yamnet`, `yamnet:PATH`, `vggish:PATH?pca`, a hub id such as
`facebook/hubert-base-ls960` (with `@revision`), a bundle of torchaudio such as `HUBERT_BASE` (with `@FILE`), a local
folder, or code from outside: `module:factory`, `hear:module`, or an entry point. `family:source` always works.
"""

from embedx.extractors.loading import BACKENDS, load
from embedx.extractors.names import FAMILIES, NAMES, resolve

__all__ = ["BACKENDS", "FAMILIES", "NAMES", "load", "resolve"]
