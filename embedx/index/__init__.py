"""Index: the nearest neighbors of vectors in one view. This is the only package that imports faiss.

An index is derived from the store and can be deleted. `<view>.<metric>.json` in its folder is the manifest: it names
the files of the index and their checksums, the generation of the store that the index was built from, and what was
measured. The manifest is written last, with a rename, so that an index exists completely or not at all. Files that do
not match their manifest are not used.
"""

from embedx.index.exact import METRICS
from embedx.index.kinds import KINDS
from embedx.index.vector_index import VectorIndex

__all__ = ["KINDS", "METRICS", "VectorIndex"]
