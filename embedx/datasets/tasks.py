"""Tasks: known data sets, each with the evaluation protocol of its published results.

A task says how to read the folder (`task.reads(root)` are keywords of `embedx.extract`), which rows take part
(`task.where`), and which column gives the split. The official columns are stored with the rows, so a probe of the
collection finds them. One collection of ESC-50 serves the tasks esc50 and esc10.
"""

import os
from dataclasses import dataclass
from typing import Any

from embedx.datasets.items import Item
from embedx.datasets.layouts import recognise
from embedx.datasets.manifests import MANIFEST_SUFFIXES
from embedx.datasets.sources import read_corpus
from embedx.errors import NothingToDo, UsageError
from embedx.filesystem.paths import display_path

ESC10 = (
    *("chainsaw", "clock_tick", "crackling_fire", "crying_baby", "dog"),
    *("helicopter", "rain", "rooster", "sea_waves", "sneezing"),
)
MANIFEST = "manifest"  # the layout of a task that is a table with paths, not a folder


@dataclass(frozen=True)
class Task:
    """A data set and its protocol.

    After `embedx.extract(**task.reads(root))`, the labels are in the column "label". A task without `folds` and `split`
    uses folds that embedx makes: stratified by class, without splitting a group or a recording.
    """

    name: str
    protocol: str  # one sentence
    source: str  # the publication
    layout: str  # how to read the folder: one of `embedx.datasets.LAYOUTS`, or "manifest"
    label: str | None = None  # the column with labels; None where the layout defines it
    folds: str | None = None  # the column whose values are the test parts
    split: str | None = None  # the column with train, validation and test
    group: str | None = None  # the column whose values are never split
    metric: str = "accuracy"  # the main figure
    classes: tuple[str, ...] = ()  # the classes that take part; empty for all

    def reads(self, root: str | os.PathLike[str]) -> dict[str, Any]:
        """Return the keywords for `embedx.extract` and `embedx.datasets.read_corpus` to read this data set.

        Args:
            root: the folder of the data set, or its manifest.

        Raises:
            UsageError: the folder or the manifest does not exist.
        """
        if self.layout == MANIFEST:
            return {"source": find_manifest(root), "label": self.label}
        if not os.path.isdir(root):
            raise UsageError(
                f"The task {self.name} is read from a folder, but {display_path(os.fspath(root))} is not a folder."
            )
        return {"source": os.fspath(root), "layout": self.layout, "label": self.label}

    @property
    def where(self) -> str | None:
        """The filter for the rows that take part; None for all. See `embedx.Collection.rows`."""
        classes = ", ".join(f"'{name}'" for name in self.classes)
        conditions = [f"label IN ({classes})"] if classes else []
        conditions += [f"{self.split} IS NOT NULL"] if self.split else []
        return " AND ".join(conditions) or None

    def takes(self, item: Item) -> bool:
        """Tell whether an item takes part, as `where` does for rows."""
        return not (self.classes and item.label not in self.classes) and not (self.split and item.split is None)


TASKS = {
    task.name: task
    for task in (
        Task(
            "esc50",
            "Each of the 5 official folds is the test part once; the result is the mean accuracy.",
            "Piczak 2015, ESC: Dataset for Environmental Sound Classification",
            layout="esc50",
            folds="fold",
            group="group",
        ),
        Task(
            "esc10",
            "The 400 clips of 10 classes of ESC-50, in its 5 official folds; the result is the mean accuracy.",
            "Piczak 2015, ESC: Dataset for Environmental Sound Classification",
            layout="esc50",
            folds="fold",
            group="group",
            classes=ESC10,
        ),
        Task(
            "urbansound8k",
            "Each of the 10 official folds is the test part once; the result is the mean accuracy.",
            "Salamon, Jacoby and Bello 2014, A Dataset and Taxonomy for Urban Sound Research",
            layout="urbansound8k",
            folds="fold",
            group="group",
        ),
        Task(
            "gtzan",
            "The fault-filtered lists: 443 training, 197 validation and 290 test tracks; 70 faulty ones are left out.",
            "Tzanetakis and Cook 2002; lists of Kereliuk, Sturm and Larsen 2015, Deep Learning and Music Adversaries",
            layout="gtzan",
            split="split",
        ),
        Task(
            "speech-commands",
            "The official validation and test lists, which share no speaker; all other clips are for training.",
            "Warden 2018, Speech Commands: A Dataset for Limited-Vocabulary Speech Recognition",
            layout="speech-commands",
            split="split",
            group="group",
        ),
        Task(
            "fsdd",
            "Each speaker is the test part once; the result is the mean accuracy.",
            "Jackson et al., Free Spoken Digit Dataset",
            layout="fsdd",
            folds="fold",
            group="group",
        ),
        Task(
            "minds14",
            "Intents from a manifest, in folds stratified by class that split no recording; no official split exists.",
            "Gerz et al. 2021, Multilingual and Cross-Lingual Intent Detection from Spoken Data",
            layout=MANIFEST,
            label="intent_class",
        ),
        Task(
            "fleurs",
            "The spoken language, from a manifest with train, validation and test in its column split.",
            "Conneau et al. 2022, FLEURS: Few-shot Learning Evaluation of Universal Representations of Speech",
            layout=MANIFEST,
            label="language",
            split="split",
        ),
        Task(
            "folder",
            "A folder per class, in folds stratified by class that split no recording.",
            "no official protocol",
            layout="folders",
            metric="balanced_accuracy",
        ),
        Task(
            "manifest",
            "A table with paths and labels; split by its column fold or split, else in folds that split no group.",
            "no official protocol",
            layout=MANIFEST,
            label="label",
            metric="balanced_accuracy",
        ),
    )
}


def read_task(name: str, root: str | os.PathLike[str]) -> list[Item]:
    """List the items of a known data set that take part in its protocol.

    Recordings that an official list names but the folder lacks are included, so that extraction reports them.

    Args:
        name: a name from `TASKS`.
        root: the folder of the data set, or its manifest.

    Raises:
        UsageError: there is no such task, the folder has another layout, or there are fewer than two classes.
        NothingToDo: there is no audio.
    """
    if name not in TASKS:
        raise UsageError(f"Unknown task {name!r}. Tasks: {', '.join(TASKS)}.")
    task = TASKS[name]
    items = [item for item in read_corpus(**task.reads(root)) if task.takes(item)]
    labels = {item.label for item in items} - {None}
    if len(labels) < 2:
        raise UsageError(
            f"The task {name} needs at least two classes; {display_path(os.fspath(root))} has {len(labels)}. "
            f"Protocol: {task.protocol}"
        )
    return items


def detect_task(root: str | os.PathLike[str]) -> str | None:
    """Return the name of the task for a folder or a manifest; None if it has no labels.

    Args:
        root: a folder or a file.

    Raises:
        UsageError: it does not exist.
    """
    path = os.path.abspath(root)
    if os.path.isfile(path):
        return MANIFEST if path.lower().endswith(MANIFEST_SUFFIXES) else None
    if not os.path.isdir(path):
        raise UsageError(f"There is no file or folder {display_path(os.fspath(root))}.")
    layout = recognise(path)
    if layout not in (None, "esc50"):
        return layout
    try:
        labels = {item.label for item in read_corpus(path)} - {None}
    except NothingToDo:
        return None
    if layout == "esc50":
        return "esc10" if labels <= set(ESC10) else "esc50"
    return "folder" if labels else None


def find_manifest(root: str | os.PathLike[str]) -> str:
    """Return `root` if it is a file, or the only manifest in the folder `root`.

    Args:
        root: a manifest, or a folder that contains one.

    Raises:
        UsageError: the folder contains no manifest, or several.
    """
    if not os.path.isdir(root):
        return os.fspath(root)
    names = sorted(name for name in os.listdir(root) if name.lower().endswith(MANIFEST_SUFFIXES))
    if len(names) != 1:
        several = ", ".join(display_path(name) for name in names)
        raise UsageError(
            f"{display_path(os.fspath(root))} has {f'several manifests: {several}' if names else 'no manifest'}. "
            f"Give a file that ends in {', '.join(MANIFEST_SUFFIXES)} and has a column path."
        )
    return os.path.join(root, names[0])
