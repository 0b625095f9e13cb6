"""Runner: a plan -> results, in a table that fills while it runs. What is in the table already is not done again."""

import os
import platform
import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from importlib.metadata import version
from multiprocessing import get_context

from embedx._version import __version__
from embedx.bench.artifacts import note_run
from embedx.bench.cases import BenchCase, collect, load_vectors, open_case
from embedx.bench.config import Plan
from embedx.bench.fits import FitJob, compute
from embedx.bench.keep_best import keep_maps, keep_predictions
from embedx.bench.results import EVERY_LAYER, Key, Result, extend_table, key, read_table
from embedx.errors import EmbedxError, Interrupted
from embedx.filesystem.atomic import make_folder
from embedx.ingest.pipeline import Progress as Extraction

WRITE_SECONDS = 3.0  # between two writings of the table, or
WRITE_SHARE = 10  # so many times what the last one took, where the table is long
POLL_SECONDS = 0.5  # between two looks at whether to stop
LIBRARIES = ("numpy", "scikit-learn", "torch", "transformers")

Report = Callable[["Progress"], None]


@dataclass
class Progress:
    """Where a run stands; `run` hands it to `on_progress` whenever something is done.

    stage: "extract", of which `what` is task and model and a unit is a recording; or "fit".
    present: of `total`, what was there before. failures: a sentence each.
    """

    stage: str
    what: str
    total: int
    done: int = 0
    present: int = 0
    failures: list[str] = field(default_factory=list)


class Crashed(EmbedxError):
    """A process that fits heads has died."""


def run(
    plan: Plan,
    on_progress: Report | None = None,
    *,
    interrupted: Callable[[], int] = lambda: 0,
    command: str = "",
) -> list[Result]:
    """Run a benchmark, and return the results that the plan asks for, whether made now or before.

    Args:
        plan: see `embedx.bench.config.make_plan`. With more than one job in a script of your own, call this under
            `if __name__ == "__main__":`, as processes of Python need it.
        on_progress: called whenever something is done.
        interrupted: asked now and then; the number of a signal ends the run once the fits in hand are written.
        command: how to run it again, for the report.

    Raises:
        UsageError: a task cannot be posed, or the table in the folder is none.
        ModelError, LockedError, StoreError, DiskError, NothingToDo: as `embedx.extract`.
        Interrupted: a signal came. The same plan goes on from here.
    """
    report = on_progress or (lambda progress: None)
    make_folder(plan.out)
    table = {key(row): row for row in read_table(plan.out)}
    load_vectors.cache_clear()
    failures: list[str] = []
    cases = list(open_cases(plan, report, failures, interrupted))
    note(plan, cases, command)
    wanted = list(list_jobs(plan, cases))
    jobs = [rest for job in wanted if (rest := what_is_missing(job, table)).parts]
    total = sum(len(job.parts) for job in wanted)
    present = total - sum(len(job.parts) for job in jobs)
    progress = Progress("fit", "", total, present, present, failures)
    report(progress)
    with Writer(plan, table) as writer:
        for results, failed in execute(jobs, plan.jobs or 1, interrupted):
            writer.add(results)
            failures += failed
            progress.done += len(results) + len(failed)
            progress.what = describe(results[-1]) if results else progress.what
            report(progress)
    keep_predictions(plan.out, table.values())
    keep_maps(plan.out, table.values(), cases, changed={job.case.task for job in jobs}, how=plan.map)
    return [table[one] for job in wanted for part in job.parts if (one := job.key(part)) in table]


def open_cases(plan: Plan, report: Report, failures: list[str], interrupted: Callable[[], int]) -> Iterator[BenchCase]:
    """Yield every task with the vectors of every model, embedded where they are not there yet.

    Raises:
        Interrupted: after a clean commit.
    """
    for data in plan.task:
        for model in plan.model if not data.is_collection else [None]:
            folder = data.data
            if model is not None:
                progress = Progress("extract", f"{data.name}, {model.name}", 0, failures=failures)

                def show(extraction: Extraction, progress: Progress = progress) -> None:
                    progress.total, progress.done = extraction.total, extraction.done
                    progress.present = extraction.present
                    report(progress)

                folder, failed = collect(plan, data, model, show, interrupted)
                failures += failed
            yield open_case(plan, data, model.name if model else None, folder)


def list_jobs(plan: Plan, cases: Iterable[BenchCase]) -> Iterator[FitJob]:
    """Yield every job of a plan; those that read the same vectors follow each other.

    A head that reads all layers is left out where there is one layer. All rows are drawn in one way only, so seeds
    matter there to heads that begin at random.
    """
    for case in cases:
        parts = tuple(part.name for part in case.splits.parts)
        for pooling in case.poolings:
            for layer in (*case.layers, *([EVERY_LAYER] if len(case.layers) > 1 else [])):
                for head in plan.head:
                    if head.layered != (layer == EVERY_LAYER):
                        continue
                    for shots in plan.shots:
                        for seed in range(plan.seeds if shots != "all" or head.random else 1):
                            yield FitJob(case, layer, pooling, head, shots, seed, parts, os.fspath(plan.out))


def what_is_missing(job: FitJob, table: dict[Key, Result]) -> FitJob:
    """Return a job without the parts that the table has, made of the same vectors, rows, labels and splits."""
    recipe = job.case.recipe_of(job.layer).fingerprint
    asked = {part: table.get(job.key(part)) for part in job.parts}
    missing = [part for part, row in asked.items() if row is None or (row.recipe, row.data) != (recipe, job.case.data)]
    return replace(job, parts=tuple(missing))


class Writer:
    """Adds results to the table in the folder, every few seconds and at the end, whatever ends the run."""

    def __init__(self, plan: Plan, table: dict[Key, Result]) -> None:
        self.out, self.table = plan.out, table
        self.waiting: list[Result] = []
        self.next = time.monotonic() + WRITE_SECONDS

    def __enter__(self) -> "Writer":
        return self

    def __exit__(self, *error: object) -> None:
        self.write()

    def add(self, results: list[Result]) -> None:
        """Take results, and write if it is time."""
        self.table |= {key(row): row for row in results}
        self.waiting += results
        if time.monotonic() > self.next:
            self.write()

    def write(self) -> None:
        """Write what waits."""
        begun = time.monotonic()
        if self.waiting:
            extend_table(self.out, self.waiting)
            self.waiting = []
        self.next = time.monotonic() + max(WRITE_SECONDS, WRITE_SHARE * (time.monotonic() - begun))


def execute(
    jobs: list[FitJob], processes: int, interrupted: Callable[[], int]
) -> Iterator[tuple[list[Result], list[str]]]:
    """Yield what the jobs make, in the order in which they are done.

    Raises:
        Interrupted: a signal came, and what was in hand has been yielded.
        Crashed: a process died.
    """
    if processes == 1 or len(jobs) < 2:
        for job in jobs:
            stop(interrupted())
            yield compute(job)
        return
    with one_thread_each(), ProcessPoolExecutor(min(processes, len(jobs)), get_context("spawn"), ignore_sigint) as pool:
        left = {pool.submit(compute, job) for job in jobs}
        try:
            while left:
                if number := interrupted():
                    running = {one for one in left if not one.cancel()}
                    yield from (one.result() for one in running)
                    stop(number)
                finished, left = wait(left, POLL_SECONDS, FIRST_COMPLETED)
                yield from (one.result() for one in finished)
        except BrokenProcessPool as error:
            raise Crashed(
                "A process that fits heads has died, most often because memory ran out. What was done is in the table: "
                "run the same again with fewer jobs."
            ) from error
        finally:
            pool.shutdown(wait=False, cancel_futures=True)


def stop(number: int) -> None:
    """End the run if there is the number of a signal."""
    if number:
        raise Interrupted("Stopped; what was fitted is in the table. The same command goes on from here.", number)


def ignore_sigint() -> None:
    """Leave Ctrl-C, which the terminal sends to every process, to the one that writes the table."""
    import signal

    signal.signal(signal.SIGINT, signal.SIG_IGN)


@contextmanager
def one_thread_each() -> Iterator[None]:
    """Let processes that are started inside run on one thread each."""
    old = os.environ.get("OMP_NUM_THREADS")
    os.environ["OMP_NUM_THREADS"] = "1"
    try:
        yield
    finally:
        if old is None:
            del os.environ["OMP_NUM_THREADS"]
        else:
            os.environ["OMP_NUM_THREADS"] = old


def note(plan: Plan, cases: list[BenchCase], command: str) -> None:
    """Say beside the table how it was made."""
    pairs: dict[str, list[tuple[str, str]]] = defaultdict(list)
    for case in cases:
        pairs[case.task] += [pair for pair in case.pairs if pair not in pairs[case.task]]
    known = {data.name: data.preset for data in plan.task if data.preset}
    recipes = {}
    for case in cases:
        for layer in (case.layers[-1], EVERY_LAYER):
            recipe = case.recipe_of(layer)
            recipes[recipe.fingerprint] = {name: value for name, value in asdict(recipe).items() if value != ()}
    note_run(
        plan.out,
        command=command,
        versions={
            "embedx": __version__,
            "Python": platform.python_version(),
            **{name: version(name) for name in LIBRARIES},
            "machine": f"{platform.system()} {platform.machine()}, {os.cpu_count()} cores",
        },
        tasks={
            name: ({"protocol": known[name].protocol, "source": known[name].source} if name in known else {})
            | {"duplicates": found}
            for name, found in pairs.items()
        },
        recipes=recipes,
    )


def describe(row: Result) -> str:
    """Return what a fit was, for people who watch."""
    layer = "all layers" if row.layer == EVERY_LAYER else f"L{row.layer}.{row.pooling}"
    return f"{row.task}, {row.model} {layer}, {row.head}, {row.shots} shots"
