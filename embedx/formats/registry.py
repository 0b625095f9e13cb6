"""The list of file formats. A new format is one module with a `Format`, and one entry here."""

from embedx.errors import UsageError
from embedx.formats.arrow import HF, PARQUET
from embedx.formats.format import Format
from embedx.formats.matrices import FAISS, NPY
from embedx.formats.text import CSV, JSONL

FORMATS: dict[str, Format] = {form.name: form for form in (PARQUET, NPY, CSV, JSONL, FAISS, HF)}


def get_format(name: str) -> Format:
    """Return the format with a name.

    Raises:
        UsageError: there is no such format.
    """
    if name not in FORMATS:
        raise UsageError(f"Unknown format {name!r}. Formats: {', '.join(FORMATS)}.")
    return FORMATS[name]
