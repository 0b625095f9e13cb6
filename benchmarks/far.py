"""Measure one machine with many rows, and write the part of BENCHMARKS.md.

    python benchmarks/far.py                          10 000 to 300 000 rows, 1 000 000 x 768, 10 000 000 x 128
    python benchmarks/far.py --sizes 100000x768       other sizes
    python benchmarks/far.py --describe               only write the part, from the steps that are finished

It needs 20 GB in the folder of --work (default: a folder in the temporary folder). Each step is a process of its own
with a limit on its time. What a finished step has measured is kept in --work, and is not measured again, so a run that
was stopped continues. The vectors are random clusters from a fixed seed, ten windows for each recording.
"""

import argparse
import json
import os
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any

from page import ROOT, commit, write_part

import embedx
from embedx.cli import main as run_command

GROWTH = ("10000x128", "100000x128", "300000x128")
FULL = ("1000000x768", "10000000x128")
WINDOWS = 10  # of a recording
QUERIES, K = 200, 10
SHARES = (0.0001, 0.01, 0.5, 1.0)  # of the rows that a filter selects
PROBED = 2000  # rows of the sample that is probed
CHANGED = 1000  # rows that are labelled, and that are removed
LIMIT_S = {"import": 2400, "index": 2400}  # of a step
OTHER_LIMIT_S = 900
Size = tuple[int, int]  # rows, dimension
Figures = dict[str, Any]


def write_source(work: Path, size: Size) -> None:
    """Write the vectors with their metadata as Parquet, block by block. A class is told by the first eight numbers."""
    import numpy as np  # here and below: the memory of a step is measured, so it imports only what it uses
    import pyarrow as pa
    import pyarrow.parquet as pq
    from search import BLOCK, clustered

    rows, dim = size
    texts = [(name, pa.string()) for name in ("path", "label")]
    numbers = [(name, pa.float64()) for name in ("start_s", "end_s", "share")]
    schema = pa.schema([*texts, *numbers, ("vector", pa.list_(pa.float32(), dim))])
    with pq.ParquetWriter(work / "source.parquet", schema, use_dictionary=["path", "label"]) as writer:
        for number, vectors in enumerate(clustered(rows, 1, dim)):
            places = np.arange(len(vectors)) + number * BLOCK
            starts = (places % WINDOWS).astype(float)
            columns = [
                [f"/sounds/{place // WINDOWS:08d}.wav" for place in places.tolist()],
                [f"class {best}" for best in vectors[:, :8].argmax(axis=1).tolist()],
                starts,
                starts + 1,
                np.random.default_rng([3, number]).random(len(vectors)),
                pa.FixedSizeListArray.from_arrays(pa.array(vectors.ravel()), dim),
            ]
            writer.write_batch(pa.record_batch(columns, schema=schema))
    np.save(work / "queries.npy", next(clustered(QUERIES, 2, dim)))


def import_(work: Path, size: Size) -> Figures:
    """Import the source."""
    command("import", str(work / "source.parquet"), "-o", str(work / "c"), "--label", "label")
    return {"bytes": (work / "c/store.db").stat().st_size}


def index(work: Path, size: Size) -> Figures:
    """Build the index that fits into 4 GB."""
    command("index", "build", str(work / "c"), "--kind", "auto", "--max-memory", "4GB")
    with embedx.open(work / "c") as collection:
        (facts,) = collection.indexes.describe()
    octets = sum(file.stat().st_size for file in (work / "c/index").iterdir())
    return {"kind": facts["kind"], "memory_bytes": facts["memory_bytes"], "bytes": octets}


def search(work: Path, size: Size) -> Figures:
    """Search for vectors that are not rows, and compare the hits with those of an exact search."""
    queries = read_queries(work)
    with embedx.open(work / "c") as collection:
        first_s = seconds(partial(collection.search, vector=queries[0], k=K))
        single_s = [seconds(partial(collection.search, vector=query, k=K)) for query in queries[:50]]
        batch_s = seconds(partial(collection.nearest, queries, K))
        hits = collection.nearest(queries, K)[1].tolist()
    return {"first_s": first_s, "single_s": median(single_s), "per_s": QUERIES / batch_s, "hits": hits}


def exact(work: Path, size: Size) -> Figures:
    """Search exactly."""
    queries = read_queries(work)
    with embedx.open(work / "c") as collection:
        begun = time.process_time()
        hits = collection.nearest(queries, K, exact=True)[1].tolist()
        batch_s = time.process_time() - begun
        single_s = seconds(partial(collection.nearest, queries[:1], K, exact=True))
    return {"single_s": single_s, "per_s": QUERIES / batch_s, "hits": hits}


def filters(work: Path, size: Size) -> Figures:
    """Search with filters that select different shares of the rows. The first one compares all rows."""
    conditions = {"first": "id = 1", **{f"{share:g}": f"share < {share:g}" for share in SHARES}}
    query = read_queries(work)[0]
    with embedx.open(work / "c") as collection:
        search = partial(collection.search, vector=query, k=K, timeout=OTHER_LIMIT_S)
        return {name: seconds(partial(search, where=where)) for name, where in conditions.items()}


def probe(work: Path, size: Size) -> Figures:
    """Probe a sample of the rows."""
    with embedx.open(work / "c") as collection:
        report = collection.probe("label", where=f"share < {PROBED / size[0]:g}", timeout=OTHER_LIMIT_S)
    return {"rows": report.rows, "balanced_accuracy": report.balanced_accuracy}


def status(work: Path, size: Size) -> Figures:
    """Show what the collection holds."""
    command("status", str(work / "c"))
    return {}


def label(work: Path, size: Size) -> Figures:
    """Set a label of 1 000 rows."""
    command("label", str(work / "c"), "--set", "label=other", "--where", f"id <= {CHANGED}")
    return {}


def remove(work: Path, size: Size) -> Figures:
    """Remove 1 000 rows."""
    command("rm", str(work / "c"), "--where", f"id > {CHANGED} AND id <= {2 * CHANGED}")
    return {}


def verify(work: Path, size: Size) -> Figures:
    """Compare everything with its checksums."""
    command("verify", str(work / "c"))
    return {}


def export(work: Path, size: Size) -> Figures:
    """Write all rows as Parquet."""
    out = work / "export.parquet"
    command("export", str(work / "c"), "-o", str(out), "--overwrite")
    octets = out.stat().st_size
    out.unlink()
    return {"bytes": octets}


STEPS: dict[str, Callable[[Path, Size], Figures]] = {
    "import": import_,
    "status": status,
    "index": index,
    "search": search,
    "exact": exact,
    "filters": filters,
    "label": label,
    "rm": remove,
    "verify": verify,
    "export": export,
    "probe": probe,
}
NAMES = {
    "import": "`import` from Parquet",
    "status": "`status`",
    "index": "`index build --kind auto --max-memory 4GB`",
    "search": f"{QUERIES} searches, k = {K}, one by one and at once",
    "exact": f"the same {QUERIES}, `--exact`, at once",
    "filters": "searches with five filters",
    "label": f"`label` of {CHANGED} rows",
    "rm": f"`rm` of {CHANGED} rows",
    "verify": "`verify`",
    "export": "`export` to Parquet",
    "probe": f"`probe` on a sample of {PROBED} rows",
}


def read_queries(work: Path) -> Any:
    """Return query vectors [Q, D], which are not rows."""
    import numpy as np

    return np.load(work / "queries.npy")


def command(*words: str) -> None:
    """Run a command of embedx in this process."""
    try:
        sys.argv = ["embedx", *words]
        run_command()
    except SystemExit as end:
        if end.code:
            raise RuntimeError(f"embedx {words[0]}: exit code {end.code}") from end


def seconds(work: Callable[[], Any]) -> float:
    """Return the processor time that the work takes: the time on the clock is that of a machine with other programs."""
    begun = time.process_time()
    work()
    return time.process_time() - begun


def peak_bytes() -> int:
    """Return the peak memory of this process."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM"))


def run_step(name: str, work: Path, size: Size) -> Figures:
    """Run a step in a process of its own; return its figures, or the reason why it failed."""
    text = f"{size[0]}x{size[1]}"
    words = [sys.executable, __file__, "--step", name, "--work", str(work), "--sizes", text]
    variables = os.environ | {"PYTHONPATH": str(ROOT)}
    limit = LIMIT_S.get(name, OTHER_LIMIT_S)
    try:
        done = subprocess.run(words, env=variables, stdout=subprocess.PIPE, text=True, timeout=limit)
    except subprocess.TimeoutExpired:
        return {"failed": f"stopped after {limit} s"}
    if done.returncode:
        return {"failed": f"exit code {done.returncode}"}
    figures: Figures = json.loads(done.stdout.splitlines()[-1])
    return figures


def measure_size(
    text: str, work: Path, steps: list[str], results: dict[str, Figures], keep: Callable[[], None]
) -> None:
    """Run the steps of a size that are not finished."""
    size, folder = read_size(text), work / text
    finished = results.setdefault(text, {})
    for name in steps:
        if name in finished:
            continue
        if name == "import":
            shutil.rmtree(folder, ignore_errors=True)
            folder.mkdir(parents=True)
            write_source(folder, size)
        finished[name] = {**run_step(name, folder, size), "load": os.getloadavg()[1], "commit": commit()}
        print(text, name, {key: value for key, value in finished[name].items() if key != "hits"}, flush=True)
        keep()
        (folder / "source.parquet").unlink(missing_ok=True)
        if name == "import" and "failed" in finished[name]:
            break
    shutil.rmtree(folder, ignore_errors=True)


def describe(results: dict[str, Figures]) -> str:
    """Return the part of BENCHMARKS.md."""
    from embedx.bench.speed.roofline import name_device

    sizes = sorted(results, key=read_size)
    commits = sorted({step["commit"] for steps in results.values() for step in steps.values()})
    loads = [step["load"] for steps in results.values() for step in steps.values()]
    return "\n".join(
        [
            f"`python benchmarks/far.py` on {time.strftime('%Y-%m-%d')} at {', '.join(commits)}: {name_device('cpu')}, "
            f"{os.cpu_count()} cores, **loaded**: other programs ran, load {min(loads):.1f} to {max(loads):.1f}. Each "
            "step is a process of its own: its processor time, in brackets the time on the clock, and its peak memory "
            "(VmHWM), all with the start of Python and the libraries. Vectors are "
            f"float32, {WINDOWS} rows for each recording.",
            "",
            head("", sizes),
            row("all vectors as float32", [f"{4 * rows * dim / 1e6:,.0f} MB" for rows, dim in map(read_size, sizes)]),
            *(row(NAMES[name], [cell(results[text].get(name)) for text in sizes]) for name in STEPS),
            row("store on the disk", [octets(results[text].get("import")) for text in sizes]),
            row("index on the disk", [octets(results[text].get("index")) for text in sizes]),
            "",
            describe_growth(results),
            "",
            describe_missing(results),
            "",
            *describe_searches(results, sizes),
        ]
    )


def head(name: str, sizes: list[str]) -> str:
    """Return the head of a table with a column for each size."""
    return row(name, [f"{rows:,} x {dim}" for rows, dim in map(read_size, sizes)]) + "\n|" + "---|" * (len(sizes) + 1)


def row(name: str, cells: list[str]) -> str:
    """Return a row of a table."""
    return f"| {name} | {' | '.join(cells)} |"


def cell(step: Figures | None) -> str:
    """Return processor time, time on the clock, and memory of a step."""
    if step is None or "failed" in step:
        return "not run" if step is None else f"**{step['failed']}**"
    return f"{step['cpu_s']:.1f} s ({step['s']:.0f} s), {step['peak_bytes'] / 1e6:,.0f} MB"


def octets(step: Figures | None) -> str:
    """Return what a step has written."""
    return "" if step is None or "failed" in step else f"{step['bytes'] / 1e6:,.0f} MB"


def describe_growth(results: dict[str, Figures]) -> str:
    """Return how time and memory grow from the second size to the third one, with three times as many rows."""
    before, after = (results.get(text, {}) for text in GROWTH[1:])
    if not after:
        return ""
    rows = [read_size(text)[0] for text in GROWTH[1:]]
    names = [name for name in STEPS if {"cpu_s"} <= before.get(name, {}).keys() & after.get(name, {}).keys()]
    ratios = [f"{name} {after[name]['cpu_s'] / before[name]['cpu_s']:.2f}" for name in names]
    vectors = 4 * (rows[1] - rows[0]) * read_size(GROWTH[1])[1]
    memory = [f"{name} {(after[name]['peak_bytes'] - before[name]['peak_bytes']) / 1e6:,.0f}" for name in names]
    return (
        f"From {rows[0]:,} to {rows[1]:,} rows, {rows[1] / rows[0]:.0f} times as many, the processor time grows by "
        f"these factors: {', '.join(ratios)}. The peak memory grows by these MB, while the "
        f"vectors grow by {vectors / 1e6:,.0f} MB: {', '.join(memory)}."
    )


def describe_missing(results: dict[str, Figures]) -> str:
    """Return what a reader must know about the memory of searches, and the sizes that were not measured."""
    from embedx.index.matrix import MAX_LOADED_BYTES

    known = (
        f"Up to {MAX_LOADED_BYTES / 1e6:,.0f} MB of vectors are kept in memory by a search that compares all of them; "
        "more are read a part at a time."
    )
    missing = [f"{rows:,} x {dim}" for text in FULL if text not in results for rows, dim in [read_size(text)]]
    return known + (f" **Not measured: {', '.join(missing)}.**" if missing else "")


def describe_searches(results: dict[str, Figures], sizes: list[str]) -> list[str]:
    """Return the table of the searches."""
    lines = [head("searches, processor time", sizes)]
    searched = [results[text] for text in sizes]

    def add(name: str, step: str, show: Callable[[Figures], str]) -> None:
        lines.append(row(name, [show(one[step]) if "s" in one.get(step, {}) else "" for one in searched]))

    add("kind of index", "index", lambda step: str(step["kind"]))
    add("memory of the index", "index", lambda step: f"{step['memory_bytes'] / 1e6:,.0f} MB")
    recalls = [
        f"{recall(one):.4f}" if "s" in one.get("exact", {}) and "s" in one.get("search", {}) else "" for one in searched
    ]
    lines.append(row(f"recall@{K} on {QUERIES} queries that are not rows", recalls))
    add("first search of a process", "search", lambda step: f"{step['first_s']:.2f} s")
    add("one search", "search", lambda step: f"{step['single_s'] * 1000:.1f} ms")
    add("searches at once", "search", lambda step: f"{step['per_s']:,.0f} per processor s")
    add("one exact search", "exact", lambda step: f"{step['single_s'] * 1000:,.0f} ms")
    add("exact searches at once", "exact", lambda step: f"{step['per_s']:,.0f} per processor s")
    add("first filter of a process: it compares all rows", "filters", lambda step: f"{step['first']:.1f} s")
    for share in SHARES:
        add(f"filter that selects {share:g} of the rows", "filters", lambda step: f"{step[f'{share:g}']:.2f} s")  # noqa: B023
    return lines


def recall(steps: dict[str, Figures]) -> float:
    """Return the share of the true nearest rows among the hits."""
    pairs = zip(steps["search"]["hits"], steps["exact"]["hits"], strict=True)
    return sum(len(set(found) & set(true)) for found, true in pairs) / (QUERIES * K)


def read_size(text: str) -> Size:
    """Return rows and dimension of a text such as 1000x128."""
    rows, dim = text.split("x")
    return int(rows), int(dim)


def main() -> None:
    """Measure what is not measured yet, and write the part of BENCHMARKS.md."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--sizes", nargs="*", default=[*GROWTH, *FULL], metavar="ROWSxDIM")
    parser.add_argument("--work", type=Path, default=Path(tempfile.gettempdir()) / "embedx-far")
    parser.add_argument("--steps", nargs="*", default=list(STEPS), choices=STEPS, help="only these steps")
    parser.add_argument("--step", choices=STEPS, help=argparse.SUPPRESS)
    parser.add_argument("--describe", action="store_true")
    options = parser.parse_args()
    if options.step:
        begun = time.perf_counter()
        figures = STEPS[options.step](options.work, read_size(options.sizes[0]))
        usage = resource.getrusage(resource.RUSAGE_SELF)
        spent = {"s": time.perf_counter() - begun, "cpu_s": usage.ru_utime + usage.ru_stime}
        print(json.dumps({**spent, "peak_bytes": peak_bytes(), **figures}))
        return
    options.work.mkdir(parents=True, exist_ok=True)
    file = options.work / "results.json"
    results: dict[str, Figures] = json.loads(file.read_text()) if file.exists() else {}
    for text in [] if options.describe else options.sizes:
        measure_size(text, options.work, options.steps, results, lambda: file.write_text(json.dumps(results)) and None)
    write_part("One machine, far", describe(results))


if __name__ == "__main__":
    main()
