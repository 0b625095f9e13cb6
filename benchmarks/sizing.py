"""Write the guide to sizes and costs in docs/scale.md, from the figures in BENCHMARKS.md.

    python benchmarks/sizing.py                     with a price of 0.04 for a core hour
    python benchmarks/sizing.py --price 0.025       with another price, in any currency

Nothing is measured here. Sizes of indexes are computed as `--max-memory` computes them.
"""

import argparse
import re
from pathlib import Path

from page import PAGE, ROOT, commit, write_part

from embedx.index.kinds import MAX_FLAT_NUMBERS, footprint

DIMS = (128, 768)
ROWS = (100_000, 1_000_000, 10_000_000, 100_000_000)
KINDS = ("flat", "hnsw", "ivf-sq8", "ivf-rabitq")
CORES = 2  # of the machines of BENCHMARKS.md
PRICE = 0.04  # of a core hour
FAR = 1e8  # rows for which the time on one machine is estimated
IMPORT, INDEX = "`import` from Parquet", "`index build --kind auto --max-memory 4GB`"  # rows of BENCHMARKS.md
VERIFY, EXPORT = "`verify`", "`export` to Parquet"
FIRST_FILTER = "first filter of a process: it compares all rows"
SEARCHES = (
    "kind of index",
    "memory of the index",
    "recall@10 on 200 queries that are not rows",
    "first search of a process",
    "one search",
    "searches at once",
    "one exact search",
    FIRST_FILTER,
)
GUIDE = """\
`python benchmarks/sizing.py` wrote this part at {commit}, from BENCHMARKS.md.

## Memory and disk

The store has 4 bytes for each number of a vector (2 with `--store-dtype float16`) and {overhead} bytes for each
row: its metadata (measured with five short columns, ten rows for each recording), and what is left free of pages of
32 kB. An index has a file with all vectors, and its structure, which is what a search keeps in memory. A flat index has
no structure: each search reads all vectors, from memory if they fit.

{sizes}

The last columns are the memory of a search; `embedx index build --max-memory 4GB` refuses kinds that need more. `--kind
auto` is flat up to {flat:,} numbers (rows x dim), then ivf-rabitq. Building needs more: up to 262 144 vectors to train
on, and twice the structure.

## Searches per second

{kinds_size}, recall of 0.99, two cores of an Intel Xeon (BENCHMARKS.md, Search):

{kinds}

More rows, two cores of an AMD EPYC under load (BENCHMARKS.md, One machine, far):

{far}

`embedx serve` answers {by_row} requests per second by row and {by_vector} by vector, with HNSW over 100 000 x 768 on
two cores (BENCHMARKS.md, Service). A search with a filter compares all rows that the filter selects.

Search engines with 20 000 rows of 128 numbers, per second of a processor (BENCHMARKS.md, Engines; larger sizes
were not measured, so these figures show the cost of a request, and not that of many rows):

{engines}

## When one machine is too small

{rows:,} x {dim} were measured on two cores, with every command of the table
(BENCHMARKS.md, One machine, far). Except for the index, time grows with the
rows. At the measured speed, 100 million rows of this dimension would need, on one core that never waits for the disk:

- {import_h:.1f} hours to import, {verify_h:.1f} hours to verify and {export_h:.1f} hours to export; more than
  {index_h:.1f} hours for the index, whose time grows faster than the rows;
- {filter_min:.0f} minutes for the first filter of each process, which compares all rows with their checksums (`embedx
  serve` does it once for each state of the collection);
- {disk} of disk for store and index, and as much as the vectors again for each export.

Since these measurements, the first filter, `label` and `rm` take about half of the time (300 000 x 128), because blocks
of rows are recognised ([collections.md](collections.md#damage-and-repair)), and `verify` no longer loads the structure
of the index.

Leave one machine when one of these is too much, or when you need more searches per second than above: use several
collections, or a search engine ([engines.md](engines.md)). Use several machines for embedding (shards, above) long
before, because embedding takes most of the time.

## What grows faster, and what is in memory

Besides the index, time grows faster than the rows for `duplicates`. It compares all pairs of up to 200 000 rows, and of
more the neighbours of each row in the index: with a flat index or with `--where` that is still the square of the rows,
so build an approximate index first. The members of one group are all compared with each other.

`train`, `probe` and `suggest --by diverse` compare all rows only up to a limit, and of more a sample: 20 000 test rows
in search of copies, 10 000 for retrieval, 50 000 training rows as neighbours of suspect labels, 50 000 rows from which
diverse suggestions are chosen.

In memory are:

- all vectors of the rows that are used: `train`, `probe` (with `--sweep` two layers at a time; `--where` takes a part),
  the map by UMAP (up to 150 million numbers), `vectors()`, and a search that compares all of up to 600 MB. `train` and
  `probe` also load PyTorch and scikit-learn: 855 MB in all with 3000 of 300 000 rows;
- the metadata of the rows that are used, about 0.7 kB for each: `rows()`, `predict` (255 MB for 300 000 rows; 8 bytes
  more for each class), `suggest` (302 MB) and `duplicates`;
- a path and a few numbers for each recording: `extract`, `merge`, `label` with a file, and `serve`, which also keeps
  the values of columns that clients draw or list;
- a part at a time: `import`, `export`, `verify`, `backup`, `compact`, `status`, `index build`, and the map by PCA,
  which keeps two numbers for each row. `backup` and `compact` need as much room on the disk as the copy that they make.

## Cost of embedding

Core hours for a million clips, and their cost at {price:g} for a core hour; `--price` changes it. The speeds are those
of BENCHMARKS.md (Growth, Service, Extraction).

{costs}

The cost grows with the length of the clips. `embedx bench speed` measures a model on your machine: the cost of a
million clips is the price of the machine for an hour x 1 000 000 / (clips per hour). **No GPU was measured**, so
this page gives no cost for a GPU; `embedx bench speed --device cuda` measures a GPU of your own.
"""


class Part:
    """The tables of one part of BENCHMARKS.md.

    Args:
        name: the heading of the part.
        below: the first words of the section; default: the whole part.
    """

    def __init__(self, name: str, below: str = "") -> None:
        parts = re.split(r"^# ", PAGE.read_text(encoding="utf-8"), flags=re.MULTILINE)
        text = next(part for part in parts if part.startswith(f"{name}\n"))
        lines = [line.strip("|").split("|") for line in text[text.index(below) :].split("\n") if line.startswith("|")]
        self.rows = [[cell.strip() for cell in line] for line in lines]

    def cells(self, first: str) -> list[str]:
        """Return the other cells of the first row that begins with a cell.

        Raises:
            KeyError: no row begins with this cell.
        """
        for row in self.rows:
            if row[0] == first:
                return row[1:]
        raise KeyError(first)


def number(text: str) -> float:
    """Return the first number of a cell.

    >>> number("3,072 MB"), number("17.5 s (30 s)")
    (3072.0, 17.5)
    """
    found = re.search(r"\d[\d,]*(\.\d+)?", text)
    assert found is not None, text
    return float(found[0].replace(",", ""))


def size(octets: float) -> str:
    """Return a size as text.

    >>> size(5.12e7), size(3.07e11)
    ('51 MB', '307 GB')
    """
    return f"{octets / 1e6:.0f} MB" if octets < 1e9 else f"{octets / 1e9:.{1 if octets < 1e11 else 0}f} GB"


def table(head: list[str], rows: list[list[str]]) -> str:
    """Return a table of Markdown."""
    return "\n".join(f"| {' | '.join(row)} |" for row in [head, ["---"] * len(head), *rows])


def describe(price: float) -> str:
    """Return the guide."""
    far, service = Part("One machine, far"), Part("Service", "## Search")
    sizes = measured_sizes(far)
    rows, dim = largest = max(sizes, key=lambda measured: measured[0] * measured[1])
    column = sizes.index(largest)
    names = (IMPORT, INDEX, VERIFY, EXPORT, FIRST_FILTER)
    seconds = {name: number(far.cells(name)[column]) * FAR / rows for name in names}
    overhead = {dim: overhead_of(far, dim) for dim in DIMS}
    return GUIDE.format(
        commit=commit(),
        overhead=" to ".join(f"{octets:.0f}" for octets in overhead.values()),
        sizes=table_of_sizes(overhead),
        flat=MAX_FLAT_NUMBERS,
        kinds_size=Part("Search", "## Kinds").rows[0][0],
        kinds=table_of_kinds(),
        far=table(
            ["processor time", *far.cells("searches, processor time")], [[name, *far.cells(name)] for name in SEARCHES]
        ),
        engines=table_of_engines(),
        by_row=service.cells("by row")[0],
        by_vector=service.cells("by vector (base64)")[0],
        rows=rows,
        dim=dim,
        import_h=seconds[IMPORT] / 3600,
        verify_h=seconds[VERIFY] / 3600,
        export_h=seconds[EXPORT] / 3600,
        index_h=seconds[INDEX] / 3600,
        filter_min=seconds[FIRST_FILTER] / 60,
        disk=size(FAR * (8 * dim + overhead[dim])),
        price=price,
        costs=table_of_costs(price),
    )


def measured_sizes(far: Part) -> list[tuple[int, int]]:
    """Return rows and dimension of the sizes in the tables of one machine."""
    pairs = [text.replace(",", "").split(" x ") for text in far.cells("")]
    return [(int(rows), int(dim)) for rows, dim in pairs]


def overhead_of(far: Part, dim: int) -> float:
    """Return the bytes of the store for each row, besides its vector, at the largest measured size of a dimension."""
    stores = dict(zip(measured_sizes(far), far.cells("store on the disk"), strict=True))
    rows = max(measured for measured, own_dim in stores if own_dim == dim)
    return number(stores[rows, dim]) * 1e6 / rows - 4 * dim


def table_of_sizes(overhead: dict[int, float]) -> str:
    """Return what the store and each kind of index need, by rows; `overhead` is in bytes for each row, by dimension."""
    rows = [
        [
            f"{count:,} x {dim}",
            size(count * (4 * dim + overhead[dim])),
            size(count * 4 * dim),
            *(size(footprint(kind, count, dim)) for kind in KINDS),
        ]
        for dim in DIMS
        for count in ROWS
    ]
    return table(["rows", "store", "vectors of the index", *KINDS], rows)


def table_of_kinds() -> str:
    """Return the measured speed of the kinds of index."""
    part = Part("Search", "## Kinds")
    head = ["kind", "build", "memory", "recall@10", "searches per s, at once", "one search"]
    rows = []
    for first, build, memory, *figures, one in part.rows:
        if first.startswith("embedx") and (kind := first.split(",")[0].removeprefix("embedx ")) in KINDS:
            rows.append([kind, f"{build} s", f"{memory} MB", *figures, f"{one} ms"])
    return table(head, rows)


def table_of_engines() -> str:
    """Return the measured speed of the search engines."""
    head, _, *rows = Part("Engines").rows
    columns = [
        head.index(name) for name in ("engine", "quantized", "push", "searches", "filtered", "recall", "disk, MB")
    ]
    return table([head[column] for column in columns], [[row[column] for column in columns] for row in rows])


def table_of_costs(price: float) -> str:
    """Return core hours and costs of a million clips."""
    growth, service, extraction = Part("Growth"), Part("Service"), Part("Extraction", "### 16 clips of 5 s")
    speeds = {  # clips per second on `CORES` cores
        "logmel, clips of 0.3 s, from files": 1000 / number(growth.cells("100000")[1]) * CORES,
        "YAMNet, clips of 5 s, from files": number(service.cells("`embedx extract` from files, without its start")[0]),
        "HuBERT-base, clips of 5 s, float32": number(extraction.cells("embedx, fast, float32")[0]) / 5,
        "HuBERT-base, clips of 5 s, bfloat16 in AMX": number(extraction.cells("embedx, fast, bfloat16")[0]) / 5,
    }
    hours = {name: 1e6 / speed * CORES / 3600 for name, speed in speeds.items()}
    rows = [[name, f"{speeds[name]:.1f}", f"{hours[name]:.1f}", f"{hours[name] * price:.2f}"] for name in speeds]
    return table(["model", "clips per s on two cores", "core hours", "cost"], rows)


def main() -> None:
    """Write the part of docs/scale.md."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--price", type=float, default=PRICE, help="of a core hour, in any currency")
    parser.add_argument("--page", type=Path, default=ROOT / "docs/scale.md")
    options = parser.parse_args()
    write_part("Sizing", describe(options.price), options.page)


if __name__ == "__main__":
    main()
