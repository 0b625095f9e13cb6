"""Search: a query (file, row, vector, examples or text) -> hits."""

from embedx.search.answers import Answers
from embedx.search.hits import Hit, Hits

__all__ = ["Answers", "Hit", "Hits"]
