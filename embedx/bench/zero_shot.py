"""Zero-shot as a setup: the names of the labels -> results on the test parts of the heads, without training."""

import functools
import time
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from embedx.bench.cases import BenchCase, load_vectors
from embedx.bench.fits import RECOVERABLE_ERRORS, draw_part, keep_predictions, make_result
from embedx.bench.results import Key, Result, Shots
from embedx.bench.zero_shot_spec import ZeroShotSpec
from embedx.errors import EmbedxError
from embedx.heads.inference import to_probabilities
from embedx.recipe import view_name
from embedx.store.store import Store
from embedx.training.zero_shot import ZeroShot, make_zero_shot


@dataclass(frozen=True)
class ZeroShotJob:
    """The scores of one zero-shot setup for some test parts; they are the same for every number of shots.

    Attributes:
        case: the task and the vectors.
        spec: the prompts.
        shots, parts, out: as in `FitJob`.
        model: the model, if the user named it in this call.
        device: where the texts are embedded.
    """

    case: BenchCase
    spec: ZeroShotSpec
    shots: Shots
    parts: tuple[str, ...]
    out: str
    model: str | None = None
    device: str = "auto"

    @property
    def layer(self) -> int:
        """The layer that is scored: the last, which models with texts compare with them."""
        return self.case.layers[-1]

    @property
    def pooling(self) -> str:
        """The pooling that is scored."""
        return "mean" if "mean" in self.case.poolings else self.case.poolings[0]

    def key(self, part: str) -> Key:
        """Return the key of the scores for a test part."""
        case = self.case
        setup = (case.model, self.layer, self.pooling, str(self.spec))
        return Key(case.task, case.splits.how, *setup, self.shots, 0, part)

    @property
    def recipe(self) -> str:
        """The fingerprint of the recipe of the vectors."""
        return self.case.recipe_of(self.layer).fingerprint

    def __str__(self) -> str:
        return f"{self.case.task}, {self.case.model} with {self.spec}"


def compute_zero_shot(job: ZeroShotJob) -> tuple[list[Result], list[str]]:
    """Return the results of a job, and a sentence if the model cannot name classes."""
    case, results, view = job.case, [], view_name(job.layer, job.pooling)
    try:
        started = time.perf_counter()
        classes = tuple(job.spec.classes(case.targets.classes).items())
        scorer = load_scorer(case.folder, view, classes, job.spec.templates, job.model, job.device)
        x = load_vectors(case.folder, (view,), case.ids.tobytes())
        loaded = (time.perf_counter() - started) / len(job.parts)
        for whole in (part for part in case.splits.parts if part.name in job.parts):
            started, key = time.perf_counter(), job.key(whole.name)
            proba = to_probabilities(scorer.logits(x[whole.test]), case.targets.multilabel)
            facts = {
                "seconds": round(time.perf_counter() - started + loaded, 4),
                "embed_seconds": case.embedding_seconds(len(whole.test)),
                "parameters": 0,
            }
            part = draw_part(case, whole, job.shots, 0)  # its training rows give the baselines of the board
            result = make_result(case, key, part, proba, recipe=job.recipe, **facts)
            results.append(replace(result, rows_train=0))
            if job.shots == "all":
                keep_predictions(job.out, key, case, part.test, proba, np.full(len(part.test), part.name))
    except (EmbedxError, *RECOVERABLE_ERRORS) as error:
        return results, [f"{job}: {error}"]
    return results, []


@functools.lru_cache(maxsize=1)  # the jobs of a case differ in the number of shots only
def load_scorer(
    folder: str,
    view: str,
    classes: tuple[tuple[str, tuple[str, ...]], ...],
    templates: tuple[str, ...],
    model: str | None,
    device: str,
) -> ZeroShot:
    """Load the model of a collection, and embed the names of the classes.

    Raises:
        ModelError: the model cannot be loaded, or cannot name classes.
        UsageError: the view does not fit, or YAMNet has no class of a name.
    """
    from embedx.embedding.embedder import Embedder

    with Store(Path(folder)) as store:
        embedder = Embedder.from_recipe(store.recipe, model=model, device=device)
    return make_zero_shot(embedder, [view], dict(classes), templates or None)
