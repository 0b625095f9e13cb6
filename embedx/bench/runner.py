"""Run a plan, and add the results to the table while it runs. Fits that the table already has are not repeated."""

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
from embedx.bench.config import Dataset, Model, Plan
from embedx.bench.finetune_spec import FinetuneSpec
from embedx.bench.finetuning import FinetuneJob, compute_finetuned, decode_rows
from embedx.bench.fits import FitJob, compute
from embedx.bench.keep_best import keep_maps, keep_predictions
from embedx.bench.results import EVERY_LAYER, Key, Result, extend_table, key, read_table
from embedx.bench.setups import Setup
from embedx.bench.zero_shot import ZeroShotJob, compute_zero_shot, load_scorer
from embedx.errors import EmbedxError, Interrupted, ModelError, NothingToDo, UsageError
from embedx.filesystem.atomic import make_folder
from embedx.ingest.pipeline import Progress

WRITE_SECONDS = 3.0  # the table is written at most this often; one killed run loses the fits of this time
WRITE_SHARE = 10  # and not before this many times the duration of the last write, which grows with the table
POLL_SECONDS = 0.5  # time between checks for a signal
LIBRARIES = ("numpy", "scikit-learn", "torch", "transformers")

FROM_SCRATCH = (FinetuneSpec("full"),)  # how models with random weights are trained if the plan does not say it
LISTING = Model("logmel", "logmel")  # the model whose collection gives the rows to models with random weights

Report = Callable[["BenchProgress"], None]
Job = FitJob | FinetuneJob | ZeroShotJob
Jobs = list[Job]


@dataclass
class BenchProgress:
    """The state of a run; `run` passes it to `on_progress` after each recording and fit.

    Attributes:
        stage: "extract" (units are recordings) or "fit" (units are fits).
        what: task and model, or the last fit.
        total: number of units.
        done: number of finished units.
        present: number of units that were finished before this run.
        failures: a sentence for each failure.
    """

    stage: str
    what: str
    total: int
    done: int = 0
    present: int = 0
    failures: list[str] = field(default_factory=list)


class Crashed(EmbedxError):
    """A process that fits heads has ended unexpectedly."""


def run(
    plan: Plan,
    on_progress: Report | None = None,
    *,
    interrupted: Callable[[], int] = lambda: 0,
    command: str = "",
) -> list[Result]:
    """Run a benchmark.

    Args:
        plan: see `embedx.bench.config.make_plan`. In a script with more than one job, call this under
            `if __name__ == "__main__":`, because Python's multiprocessing needs it.
        on_progress: called after each recording and fit.
        interrupted: called regularly; the number of a signal (not 0) stops the run after the current fits.
        command: the command line to run it again, for the report.

    Returns:
        The results of the plan, from this run and earlier ones.

    Raises:
        UsageError: a task has unusable labels or splits, or the table in the folder cannot be read.
        ModelError: as `embedx.extract`.
        LockedError: as `embedx.extract`.
        StoreError: as `embedx.extract`.
        DiskError: as `embedx.extract`.
        NothingToDo: as `embedx.extract`.
        Crashed: a process that fits heads has ended unexpectedly.
        Interrupted: a signal arrived. Run the same plan again to continue.
    """
    report = on_progress or (lambda progress: None)
    make_folder(plan.out)
    table = {key(row): row for row in read_table(plan.out)}
    for cached in (load_vectors, decode_rows, load_scorer):
        cached.cache_clear()
    failures: list[str] = []
    cases = list(open_cases(plan, report, failures, interrupted))
    note_plan(plan, cases, command)
    planned: Jobs = [*list_jobs(plan, cases), *list_zero_shot_jobs(plan, cases), *list_finetune_jobs(plan, cases)]
    jobs = [rest for job in planned if (rest := select_missing(job, table)).parts]
    total = sum(len(job.parts) for job in planned)
    present = total - sum(len(job.parts) for job in jobs)
    progress = BenchProgress("fit", "", total, present, present, failures)
    report(progress)

    def on_step(text: str) -> None:
        progress.what = text
        report(progress)

    with TableWriter(plan, table) as writer:
        for results, failed in execute(jobs, plan.jobs or 1, interrupted, on_step):
            writer.add(results)
            failures += failed
            progress.done += len(results) + len(failed)
            progress.what = describe(results[-1]) if results else progress.what
            report(progress)
    keep_predictions(plan.out, table.values())
    keep_maps(plan.out, table.values(), cases, changed={job.case.task for job in jobs}, method=plan.map)
    return [table[name] for job in planned for part in job.parts if (name := job.key(part)) in table]


def open_cases(plan: Plan, report: Report, failures: list[str], interrupted: Callable[[], int]) -> Iterator[BenchCase]:
    """Yield every task with the vectors of every model; missing vectors are extracted first.

    A task or a model that cannot be used is a failure, and the others go on.

    Raises:
        UsageError, NothingToDo, ModelError: none of them can be used; the error is that of the first one.
        Interrupted: a signal arrived; finished recordings are stored.
    """
    first: EmbedxError | None = None
    opened = 0
    for data in plan.task:
        for model in plan.model if not data.is_collection else [None]:
            try:
                case = open_task(plan, data, model, report, failures, interrupted)
            except (UsageError, NothingToDo, ModelError) as error:
                first = first or error
                failures.append(f"{data.name}{f' with {model.name}' if model else ''}: {error}")
                continue
            opened += 1
            yield case
    if first is not None and not opened:
        raise first


def open_task(
    plan: Plan, data: Dataset, model: Model | None, report: Report, failures: list[str], interrupted: Callable[[], int]
) -> BenchCase:
    """Return a task with the vectors of a model, or with those of a collection."""
    if model is None:
        return open_case(plan, data, None, data.data)
    if model.from_scratch:
        plan = replace(plan, layers="all", pooling=("mean",))  # of the collection that gives the rows
    progress = BenchProgress("extract", f"{data.name}, {model.name}", 0, failures=failures)

    def show(extraction: Progress) -> None:
        progress.total, progress.done, progress.present = extraction.total, extraction.done, extraction.present
        report(progress)

    folder, failed = collect(plan, data, LISTING if model.from_scratch else model, show, interrupted)
    failures += failed
    return open_case(plan, data, model, folder)


def list_jobs(plan: Plan, cases: Iterable[BenchCase]) -> Iterator[FitJob]:
    """Yield every job of a plan; jobs that read the same vectors follow each other.

    Heads that read all layers are left out if there is only one layer. With all training rows, only heads with random
    weights have more than one seed.
    """
    for case in (case for case in cases if not case.from_scratch):
        parts = tuple(part.name for part in case.splits.parts)
        for pooling in case.poolings:
            for layer in (*case.layers, *([EVERY_LAYER] if len(case.layers) > 1 else [])):
                for head in plan.head:
                    if head.layered != (layer == EVERY_LAYER):
                        continue
                    for shots in plan.shots:
                        for seed in range(plan.seeds if shots != "all" or head.random else 1):
                            yield FitJob(case, layer, pooling, head, shots, seed, parts, os.fspath(plan.out))


def list_finetune_jobs(plan: Plan, cases: Iterable[BenchCase]) -> Iterator[FinetuneJob]:
    """Yield the jobs of fine-tuning, each with one test part; all of them depend on the seed.

    LoRA is left out for models from scratch: it adds to weights that stay as they are.
    """
    where = (os.fspath(plan.out), plan.device, plan.precision)
    for case in cases:
        for spec in plan.finetune or (FROM_SCRATCH if case.from_scratch else ()):
            if case.from_scratch and spec.kind != "full":
                continue
            for shots in plan.shots:
                for seed in range(plan.seeds):
                    for part in case.splits.parts:
                        yield FinetuneJob(case, spec, shots, seed, (part.name,), *where)


def list_zero_shot_jobs(plan: Plan, cases: Iterable[BenchCase]) -> Iterator[ZeroShotJob]:
    """Yield the jobs of zero-shot, if the plan has it; its results are on the board of every number of shots.

    Raises:
        UsageError: a prompt is for a label that no task has.
    """
    spec, cases = plan.zero_shot, [case for case in cases if not case.from_scratch]
    if spec is None:
        return
    labels = {label for case in cases for label in case.targets.classes}
    unknown = [name for name in spec.prompts if name not in labels]
    if unknown:
        raise UsageError(f"No task has the label {unknown[0]!r} of --zero-shot. Labels: {', '.join(sorted(labels))}.")
    named = {model.name: model.model for model in plan.model if model.trusted}
    for case in cases:
        parts = tuple(part.name for part in case.splits.parts)
        for shots in plan.shots:
            yield ZeroShotJob(case, spec, shots, parts, os.fspath(plan.out), named.get(case.model), plan.device)


def select_missing(job: Job, table: dict[Key, Result]) -> Job:
    """Return a job without the parts that the table already has for the same vectors, rows, labels and splits."""
    rows = {part: table.get(job.key(part)) for part in job.parts}
    missing = [
        part for part, row in rows.items() if row is None or (row.recipe, row.data) != (job.recipe, job.case.data)
    ]
    return replace(job, parts=tuple(missing))


class TableWriter:
    """Adds results to the table in the folder every few seconds, and when the run ends for any reason."""

    def __init__(self, plan: Plan, table: dict[Key, Result]) -> None:
        self.out, self.table = plan.out, table
        self.pending: list[Result] = []
        self.next_write = time.monotonic() + WRITE_SECONDS

    def __enter__(self) -> "TableWriter":
        return self

    def __exit__(self, *error: object) -> None:
        self.write()

    def add(self, results: list[Result]) -> None:
        """Add results, and write if the last write is long enough ago."""
        self.table |= {key(row): row for row in results}
        self.pending += results
        if time.monotonic() > self.next_write:
            self.write()

    def write(self) -> None:
        """Write the pending results."""
        start = time.monotonic()
        if self.pending:
            extend_table(self.out, self.pending)
            self.pending = []
        self.next_write = time.monotonic() + max(WRITE_SECONDS, WRITE_SHARE * (time.monotonic() - start))


def execute(
    jobs: Jobs, processes: int, interrupted: Callable[[], int], on_step: Callable[[str], None]
) -> Iterator[tuple[list[Result], list[str]]]:
    """Yield (results, failures) of the jobs in the order in which they finish.

    Heads are fitted first, in several processes. Zero-shot and fine-tuning follow in this process, with all threads.

    Raises:
        Interrupted: a signal arrived; the running jobs have been yielded.
        Crashed: a process ended unexpectedly.
    """
    yield from fit_heads([job for job in jobs if isinstance(job, FitJob)], processes, interrupted)
    for job in jobs:
        if isinstance(job, FitJob):
            continue
        check_interrupt(interrupted())
        yield compute_zero_shot(job) if isinstance(job, ZeroShotJob) else compute_finetuned(job, interrupted, on_step)


def fit_heads(
    jobs: list[FitJob], processes: int, interrupted: Callable[[], int]
) -> Iterator[tuple[list[Result], list[str]]]:
    """Yield (results, failures) of heads; see `execute`."""
    if processes == 1 or len(jobs) < 2:
        for job in jobs:
            check_interrupt(interrupted())
            yield compute(job)
        return
    with single_thread(), ProcessPoolExecutor(min(processes, len(jobs)), get_context("spawn"), ignore_sigint) as pool:
        pending = {pool.submit(compute, job) for job in jobs}
        try:
            while pending:
                if number := interrupted():
                    running = {future for future in pending if not future.cancel()}
                    yield from (future.result() for future in running)
                    check_interrupt(number)
                finished, pending = wait(pending, POLL_SECONDS, FIRST_COMPLETED)
                yield from (future.result() for future in finished)
        except BrokenProcessPool as error:
            raise Crashed(
                "A process that fits heads ended unexpectedly, probably because memory ran out. Finished fits are in "
                "the table. Run the same command again with fewer jobs (--jobs)."
            ) from error
        finally:
            pool.shutdown(wait=False, cancel_futures=True)


def check_interrupt(number: int) -> None:
    """Raise Interrupted if there is the number of a signal."""
    if number:
        raise Interrupted("Stopped. Finished fits are in the table; run the same command again to continue.", number)


def ignore_sigint() -> None:
    """Ignore Ctrl-C in a child process; only the process that writes the table handles it."""
    import signal

    signal.signal(signal.SIGINT, signal.SIG_IGN)


@contextmanager
def single_thread() -> Iterator[None]:
    """Give processes that are started in this context one thread each."""
    previous = os.environ.get("OMP_NUM_THREADS")
    os.environ["OMP_NUM_THREADS"] = "1"
    try:
        yield
    finally:
        if previous is None:
            del os.environ["OMP_NUM_THREADS"]
        else:
            os.environ["OMP_NUM_THREADS"] = previous


def note_plan(plan: Plan, cases: list[BenchCase], command: str) -> None:
    """Write facts about the run into the folder of the benchmark."""
    pairs: dict[str, list[tuple[str, str]]] = defaultdict(list)
    for case in cases:
        pairs[case.task] += [pair for pair in case.pairs if pair not in pairs[case.task]]
    presets = {data.name: data.preset for data in plan.task if data.preset}
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
            name: ({"protocol": presets[name].protocol, "source": presets[name].source} if name in presets else {})
            | {"duplicates": duplicates}
            for name, duplicates in pairs.items()
        },
        recipes=recipes,
    )


def describe(row: Result) -> str:
    """Return a short description of a fit, for the progress display."""
    return f"{row.task}, {row.model} {Setup.of(row).view}, {row.head}, {row.shots} shots"
