"""Search: a query (file, row, vector, examples or text) -> hits."""

from embedx.search.answers import Answers
from embedx.search.hit import Hit
from embedx.search.hits import Hits

__all__ = ["Answers", "Hit", "Hits"]
