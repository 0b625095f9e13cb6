"""Fine-tuning as a setup: a case and a way of fine-tuning -> results, one for each test part.

Rows, labels and parts are those of the heads. The decoded rows are shared by all fits of a case.
"""

import functools
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from embedx.bench.artifacts import hash_names
from embedx.bench.cases import BenchCase
from embedx.bench.finetune_spec import FinetuneSpec
from embedx.bench.fits import RECOVERABLE_ERRORS, draw_part, keep_predictions, make_result
from embedx.bench.results import FINETUNED, Key, Result, Shots
from embedx.datasets.items import Item
from embedx.errors import AudioError, EmbedxError, Interrupted, UsageError
from embedx.evaluation.splits import Split
from embedx.filesystem.atomic import make_folder
from embedx.recipe import Recipe
from embedx.store.records import Row
from embedx.store.store import Store

if TYPE_CHECKING:
    from embedx.finetune.data import TrainingData
    from embedx.finetune.labels import LabelledRows
    from embedx.finetune.options import FinetuneOptions
    from embedx.finetune.waves import Waves

CHECKPOINTS = "finetuning"  # the folder of the checkpoints of fits that are not finished, in that of the benchmark
OUTPUT = "label"  # the name of the output of a network
OnStep = Callable[[str], None]


@dataclass(frozen=True)
class FinetuneJob:
    """The fits of one way of fine-tuning with one number of shots and one seed, for some test parts.

    Attributes:
        case: the task; its model is trained.
        spec: how.
        shots, seed, parts, out: as in `FitJob`.
        device, precision: as in `embedx finetune`.
    """

    case: BenchCase
    spec: FinetuneSpec
    shots: Shots
    seed: int
    parts: tuple[str, ...]
    out: str
    device: str = "auto"
    precision: str = "auto"

    def key(self, part: str) -> Key:
        """Return the key of the fit for a test part."""
        case = self.case
        setup = (case.model, FINETUNED, "", str(self.spec))
        return Key(case.task, case.splits.how, *setup, self.shots, self.seed, part)

    @functools.cached_property
    def recipe(self) -> str:
        """A fingerprint of the model and all options: a row with another one is computed again."""
        options = {name: value for name, value in vars(self.options).items() if name not in ("model", "device")}
        return hash_names([self.case.model_fingerprint, sorted(options.items())])[:16]

    @property
    def options(self) -> "FinetuneOptions":
        """The options of fine-tuning."""
        return self.spec.options(self.case.source, seed=self.seed, device=self.device, precision=self.precision)

    def __str__(self) -> str:
        return f"{self.case.task}, {self.case.model} fine-tuned with {self.spec}, shots {self.shots}"


def compute_finetuned(
    job: FinetuneJob, interrupted: Callable[[], int] = lambda: 0, on_step: OnStep = lambda text: None
) -> tuple[list[Result], list[str]]:
    """Return the results of a job, and a sentence for each fit that failed.

    Args:
        job: the job, with one part or more.
        interrupted: returns the number of a signal that came, 0 if none.
        on_step: called with a description of each step of the training.

    Raises:
        Interrupted: a signal has come; the next run goes on from the checkpoint.
    """
    results, failures = [], []
    for part in (part for part in job.case.splits.parts if part.name in job.parts):
        try:
            drawn = draw_part(job.case, part, job.shots, job.seed)
            results.append(fit_part(job, drawn, interrupted, on_step))
        except Interrupted:
            raise
        except (EmbedxError, *RECOVERABLE_ERRORS) as error:
            failures.append(f"{job}, test part {part.name}: {error}")
    return results, failures


def fit_part(job: FinetuneJob, part: Split, interrupted: Callable[[], int], on_step: OnStep) -> Result:
    """Fine-tune the model on the training rows of a part, and score it on its test rows."""
    from embedx.finetune.construction import make_network
    from embedx.finetune.fit import fit_network

    started = time.perf_counter()
    options = job.options
    network = make_network(label_rows(job.case), options)
    loaded = time.perf_counter() - started
    data, decode_s = prepare(job, part, network.encoder.sample_rate, network.encoder.max_samples)
    started = time.perf_counter()
    fit = fit_network(
        network,
        data,
        options,
        Path(job.out, CHECKPOINTS, hash_names(job.key(part.name))),
        report=lambda values: (
            on_step(f"{job}, step {values['step']} of {values['steps']}") if "step" in values else None
        ),
        interrupted=interrupted,
    )
    seconds = None if fit.resumed else round(time.perf_counter() - started + loaded, 4)
    if not np.array_equal(fit.tested.rows, np.sort(part.test)):
        raise UsageError("Some test rows have no audio.")
    proba = np.empty((len(part.test), len(job.case.targets.classes)))
    proba[np.argsort(part.test)] = fit.tested.proba[OUTPUT]
    rows = len(part.learned) + len(part.test)
    key = job.key(part.name)
    facts = {"seconds": seconds, "embed_seconds": round(decode_s * rows, 4), "parameters": fit.parameters}
    if job.shots == "all":
        keep_predictions(job.out, key, job.case, part.test, proba, np.full(len(part.test), part.name))
    return make_result(job.case, key, part, proba, recipe=job.recipe, **facts)


def prepare(job: FinetuneJob, part: Split, rate: int, max_samples: int | None) -> tuple["TrainingData", float]:
    """Return the decoded rows with the part, and the seconds per row that decoding took.

    With all training rows, a fifth of their groups are held out to choose the checkpoint, unless there is a validation
    part or the options say no. Of few rows none are: all are trained on, and the last checkpoint is used.
    """
    from embedx.finetune.data import TrainingData, hold_out, make_recipe

    labelled = label_rows(job.case)
    recipe = make_recipe(job.options, rate, max_samples)
    waves, seconds = decode_rows(job.case.folder, job.case.ids.tobytes(), recipe, job.out)
    if job.shots == "all" and not len(part.validation) and job.options.hold_out:
        part = hold_out(labelled, part, job.seed)
    return TrainingData(labelled, waves, part, (), ()), seconds


def label_rows(case: BenchCase) -> "LabelledRows":
    """Return the rows of a case with their labels and splits.

    Raises:
        UsageError: the task has weak negatives, which fine-tuning does not know.
    """
    from embedx.finetune.labels import LabelledRows, make_output

    if case.targets.weak:
        raise UsageError("Fine-tuning has no weak negatives. Leave out weak_negatives, or --finetune for this task.")
    kept = replace(case.targets, kept=np.arange(len(case.ids)))
    output = make_output(OUTPUT, kept, range(len(case.ids)))
    return LabelledRows(read_rows(case.folder, case.ids.tobytes()), (output,), case.splits, 0)


@functools.lru_cache(maxsize=1)
def read_rows(folder: str, ids: bytes) -> tuple[Row, ...]:
    """Return the rows of a collection in the order of `ids`, the bytes of an int64 array."""
    wanted = np.frombuffer(ids, np.int64).tolist()
    with Store(Path(folder)) as store:
        by_id = {row.id: row for row in store.rows(sorted(wanted))}
    return tuple(by_id[number] for number in wanted)


@functools.lru_cache(maxsize=1)  # consecutive jobs read the same rows
def decode_rows(folder: str, ids: bytes, recipe: Recipe, out: str) -> tuple["Waves", float]:
    """Return the decoded rows of a collection, and the seconds per row that decoding took.

    Raises:
        AudioError: a recording cannot be read.
    """
    from embedx.finetune.waves import read_waves

    rows = read_rows(folder, ids)
    items = [Item(row.path, row.start_s, row.end_s) for row in rows]
    place = Path(out, CHECKPOINTS)
    make_folder(place)
    started = time.perf_counter()
    waves = read_waves(items, recipe, place, lambda done: None)
    for error in waves.failures.values():
        raise AudioError(error.reason, f"{error.detail} Fine-tuning needs the audio of every row.")
    return waves, (time.perf_counter() - started) / max(1, len(rows))
