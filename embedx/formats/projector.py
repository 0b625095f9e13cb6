"""TensorBoard: a folder that its projector opens, with vectors and metadata as text. Export only."""

from pathlib import Path
from typing import Any

from embedx.annotations.base import cell
from embedx.errors import UsageError
from embedx.filesystem.atomic import whole_folder
from embedx.formats.columns import FIXED, name_columns, to_record
from embedx.formats.format import Format
from embedx.formats.selection import Selection
from embedx.formats.table import Table, TableSource

VECTORS, METADATA, CONFIG = "vectors.tsv", "metadata.tsv", "projector_config.pbtxt"
FLOAT_FORMAT = "%.9g"  # nine digits restore every float32 exactly


def write_projector(out: Path, selection: Selection) -> None:
    """Write vectors.tsv, metadata.tsv and projector_config.pbtxt: `tensorboard --logdir OUT` opens them."""
    ((view, _),) = selection.views.items()
    columns = name_columns(selection.kinds(), ())
    with whole_folder(out) as folder:
        with (
            open(folder / VECTORS, "w", encoding="utf-8") as vectors,
            open(folder / METADATA, "w", encoding="utf-8") as metadata,
        ):
            metadata.write("\t".join(map(cell, (*FIXED, *columns.values()))) + "\n")
            for rows, matrices in selection.read():
                for row, vector in zip(rows, matrices[view].tolist(), strict=True):
                    vectors.write("\t".join(map(FLOAT_FORMAT.__mod__, vector)) + "\n")
                    metadata.write("\t".join(map(text_of, to_record(row, columns).values())) + "\n")
        (folder / CONFIG).write_text(
            f'embeddings {{\n  tensor_name: "{view}"\n  tensor_path: "{VECTORS}"\n  metadata_path: "{METADATA}"\n}}\n'
        )


def text_of(value: Any) -> str:
    """Return a value as a cell; in a line without any text the projector would see no cells."""
    return cell(value) or "-"


def refuse(source: TableSource) -> Table:
    """Refuse to import: the folder holds no recipe."""
    raise UsageError(f"{source.path} cannot be imported. Export the collection as parquet too.")


TENSORBOARD = Format("tensorboard", write_projector, refuse, single_view=True, folder_file=CONFIG)
