"""The list of file formats. A new format is one module with a `Format`, and one entry here."""

from collections.abc import Mapping

from embedx.errors import UsageError
from embedx.formats.arrow import HF, PARQUET
from embedx.formats.format import Format
from embedx.formats.matrices import FAISS, NPY
from embedx.formats.projector import TENSORBOARD
from embedx.formats.text import CSV, JSONL

FORMATS: dict[str, Format] = {form.name: form for form in (PARQUET, NPY, CSV, JSONL, FAISS, HF)}
WRITTEN = {**FORMATS, TENSORBOARD.name: TENSORBOARD}  # also those that embedx does not read


def get_format(name: str, formats: Mapping[str, Format] = FORMATS) -> Format:
    """Return the format with a name.

    Raises:
        UsageError: there is no such format.
    """
    if name not in formats:
        raise UsageError(f"Unknown format {name!r}. Formats: {', '.join(formats)}.")
    return formats[name]
