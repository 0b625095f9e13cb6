"""Store: rows, vectors, failures and the recipe of a collection, in one SQLite file.

A recording is stored with all its windows and views in one transaction, or not at all. Every row of every table has a
checksum, which is compared when the row is read. Any SQLite client can open the file (indexes/README.md describes it);
all other files of a collection are derived from it and can be deleted.
"""

from embedx.store.records import Recording, Row, Vectors
from embedx.store.schema import FILE_NAME
from embedx.store.store import Store

__all__ = ["FILE_NAME", "Recording", "Row", "Store", "Vectors"]
