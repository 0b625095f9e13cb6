"""Formats: store -> files of other tools, and their files -> tables of rows with vectors.

Six formats, each written and read in one place: Parquet and Hugging Face `datasets` in `arrow`, CSV and JSON lines in
`text`, .npy and FAISS in `matrices`. `columns` says what a row looks like outside; a `Selection` is what is exported, a
`Table` what is imported.
"""

from embedx.formats.exporting import FORMATS, export
from embedx.formats.table import Table
from embedx.formats.tables import open_table

__all__ = ["FORMATS", "Table", "export", "open_table"]
