"""Store: rows, vectors, failures and recipe in one SQLite file, which is the truth.

A recording and all its windows and views appear in one transaction or not at all. Every row of every table carries a
checksum, which is compared when it is read. The file opens with any SQLite client (indexes/README.md describes it);
everything else in the folder is derived from it and can be deleted.
"""

from embedx.store.records import Recording, Row, Vectors
from embedx.store.schema import FILE_NAME
from embedx.store.store import Store

__all__ = ["FILE_NAME", "Recording", "Row", "Store", "Vectors"]
