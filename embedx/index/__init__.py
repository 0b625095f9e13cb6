"""Index: nearest neighbours of one view. The only package that knows faiss.

An index is derived from the store and can be deleted. `<view>.<metric>.json` in its folder is a manifest that names its
files and their checksums, the generation of the store that it was built from, and what was measured. The manifest is
written last, by a rename: an index is there whole or not at all. What does not agree with it is not used.
"""

from embedx.index.approximate import KINDS
from embedx.index.exact import METRICS
from embedx.index.vector_index import VectorIndex

__all__ = ["KINDS", "METRICS", "VectorIndex"]
