"""Published results of other benchmarks: the facts of published.toml, matched by the names of tasks and models."""

import functools
import math
import re
import tomllib
from dataclasses import dataclass
from importlib.resources import files
from typing import Any

FILE = "published.toml"
OFFICIAL_SPLITS = ("the column 'fold'", "the column 'split'")  # as in `Result.split`


@dataclass(frozen=True)
class Benchmark:
    """Where published results come from, and how they were measured.

    Attributes:
        name: name of the benchmark.
        source: the publication.
        version: commit and date.
        shots: training rows per class, or "all".
        head: kind of the head, as embedx names it; "linear" for a linear layer.
        split: how the test parts were made.
        metric: the metric, as embedx names it.
        protocol: what else there is to know, in words.
    """

    name: str
    source: str
    version: str
    shots: str
    head: str
    split: str
    metric: str
    protocol: str

    def describe(self) -> str:
        """Return the source and the protocol as a line below a table."""
        return f"{self.name}: {self.protocol}. Source: {self.source}, {self.version}."


@dataclass(frozen=True)
class PublishedResult:
    """One published score.

    Attributes:
        task: the task as embedx names it.
        published_task: the task as the benchmark names it.
        model: the model as the benchmark names it.
        score: from 0 to 1.
        benchmark: where it comes from.
    """

    task: str
    published_task: str
    model: str
    score: float
    benchmark: Benchmark

    def is_of(self, task: str, model: str) -> bool:
        """Tell whether a task and a model have the names of this result; see `same_name`."""
        return self.is_of_task(task) and same_name(self.model, model)

    def is_of_task(self, task: str) -> bool:
        """Tell whether a task has one of the names of this result's task."""
        return same_name(self.task, task) or same_name(self.published_task, task)


@functools.cache
def read_facts() -> dict[str, Any]:
    """Return the content of published.toml."""
    return tomllib.loads(files("embedx.bench").joinpath(FILE).read_text(encoding="utf-8"))


@functools.cache
def published_results() -> tuple[PublishedResult, ...]:
    """Return all published results, in the order of the file."""
    facts = read_facts()
    names = {published: task for task, all_names in facts["tasks"].items() for published in all_names}
    return tuple(
        PublishedResult(names[task], task, model, score, Benchmark(**table["about"]))
        for table in facts["benchmark"]
        for model, scores in table["models"].items()
        for task, score in zip(table["results"], scores, strict=True)
        if not math.isnan(score)
    )


def same_name(first: str, second: str) -> bool:
    """Tell whether two names of a task or model differ only by an owner, case, spaces, hyphens or underscores.

    >>> same_name("esc50", "ESC-50"), same_name("facebook/hubert-base-ls960", "HuBERT_base_ls960")
    (True, True)
    >>> same_name("wav2vec2", "wav2vec2-base"), same_name("openai/whisper-tiny", "whisper-tiny.en")
    (False, False)
    """
    return plain(first) == plain(second)


def plain(name: str) -> str:
    """Return a name without owner, case, spaces, hyphens and underscores."""
    return re.sub(r"[\s_-]+", "", name.rpartition("/")[2]).casefold()


def find_leak(task: str, split: str) -> str | None:
    """Return a warning for a task whose folds were drawn without regard to its source recordings, if this is known.

    Args:
        task: name of the task.
        split: how the test parts were made, as in `Result.split`.
    """
    for name, leak in read_facts()["leaks"].items():
        if same_name(name, task) and not is_official(split) and f"{leak['group']!r}" not in split:
            return f"{leak['text']} Source: {leak['source']}."
    return None


def is_official(split: str) -> bool:
    """Tell whether a split comes from the column with the folds or parts of the data set itself."""
    return split in OFFICIAL_SPLITS
