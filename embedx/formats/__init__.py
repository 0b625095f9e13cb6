"""Formats: export a store to files of other tools, and import their files.

A `Format` names the functions that write and read it. Parquet and Hugging Face `datasets` are in `arrow`, CSV and JSON
lines in `text`, .npy and FAISS in `matrices`; `registry` lists all of them. A `Selection` is what is exported, a
`Table` what is imported, and `columns` defines the columns of both.
"""

from embedx.formats.exporting import export
from embedx.formats.registry import FORMATS
from embedx.formats.table import Table
from embedx.formats.tables import open_table

__all__ = ["FORMATS", "Table", "export", "open_table"]
