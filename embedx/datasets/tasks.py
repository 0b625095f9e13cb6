"""Tasks: known data sets, each with the protocol by which its published figures were made.

A task says how a folder is read (`task.reads(root)` are keywords of `embedx.extract`), which of the rows take part
(`task.where`), and by which column they are split. What was extracted keeps the official columns, so a probe over the
collection finds them; one collection of ESC-50 serves the tasks esc50 and esc10.
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
MANIFEST = "manifest"  # as a layout: a table with paths, not a folder


@dataclass(frozen=True)
class Task:
    """A data set and its protocol. After `embedx.extract(**task.reads(root))` the column of labels is "label".

    folds: the column whose values are the test parts, one after the other; split: the column that says train,
    validation and test. Neither: folds that are made, stratified by class, which split no group and no recording.
    """

    name: str
    protocol: str  # one sentence
    source: str  # who says so
    layout: str  # how the folder is read: one of `embedx.datasets.LAYOUTS`, or "manifest"
    label: str | None = None  # the column with labels, None where the layout knows
    folds: str | None = None
    split: str | None = None
    group: str | None = None  # the column that is never split
    metric: str = "accuracy"  # the headline
    classes: tuple[str, ...] = ()  # those that take part, empty for all

    def reads(self, root: str | os.PathLike[str]) -> dict[str, Any]:
        """Return the keywords by which `embedx.extract` and `embedx.datasets.read_corpus` read this data set."""
        if self.layout == MANIFEST:
            return {"source": find_manifest(root), "label": self.label}
        if not os.path.isdir(root):
            raise UsageError(
                f"The task {self.name} is read from a folder, and {display_path(os.fspath(root))} is none."
            )
        return {"source": os.fspath(root), "layout": self.layout, "label": self.label}

    @property
    def where(self) -> str | None:
        """The filter for the rows that take part, None for all; see `embedx.Collection.rows`."""
        named = ", ".join(f"'{one}'" for one in self.classes)
        parts = [f"label IN ({named})"] if named else []
        parts += [f"{self.split} IS NOT NULL"] if self.split else []
        return " AND ".join(parts) or None

    def takes(self, item: Item) -> bool:
        """Tell whether an item takes part; what `where` says of the rows."""
        return not (self.classes and item.label not in self.classes) and not (self.split and item.split is None)


TASKS = {
    task.name: task
    for task in (
        Task(
            "esc50",
            "Each of the 5 official folds is tested once; the mean accuracy over the folds counts.",
            "Piczak 2015, ESC: Dataset for Environmental Sound Classification",
            layout="esc50",
            folds="fold",
            group="group",
        ),
        Task(
            "esc10",
            "The 400 clips of 10 classes of ESC-50, in its 5 official folds; the mean accuracy over the folds counts.",
            "Piczak 2015, ESC: Dataset for Environmental Sound Classification",
            layout="esc50",
            folds="fold",
            group="group",
            classes=ESC10,
        ),
        Task(
            "urbansound8k",
            "Each of the 10 official folds is tested once; the mean accuracy over the folds counts.",
            "Salamon, Jacoby and Bello 2014, A Dataset and Taxonomy for Urban Sound Research",
            layout="urbansound8k",
            folds="fold",
            group="group",
        ),
        Task(
            "gtzan",
            "The fault-filtered lists: 443 tracks train, 197 validate, 290 test; 70 faulty ones are left out.",
            "Tzanetakis and Cook 2002; lists of Kereliuk, Sturm and Larsen 2015, Deep Learning and Music Adversaries",
            layout="gtzan",
            split="split",
        ),
        Task(
            "speech-commands",
            "The official validation and testing lists, which have speakers of their own; all other clips train.",
            "Warden 2018, Speech Commands: A Dataset for Limited-Vocabulary Speech Recognition",
            layout="speech-commands",
            split="split",
            group="group",
        ),
        Task(
            "fsdd",
            "Each speaker is tested by what the others teach; the mean accuracy over the speakers counts.",
            "Jackson et al., Free Spoken Digit Dataset",
            layout="fsdd",
            folds="fold",
            group="group",
        ),
        Task(
            "minds14",
            "Intents from a manifest, in folds stratified by class that split no recording; no split is official.",
            "Gerz et al. 2021, Multilingual and Cross-Lingual Intent Detection from Spoken Data",
            layout=MANIFEST,
            label="intent_class",
        ),
        Task(
            "fleurs",
            "The spoken language, from a manifest whose column split says train, validation and test.",
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
            "A table with a path and a label; its columns fold or split decide, else folds that split no group.",
            "no official protocol",
            layout=MANIFEST,
            label="label",
            metric="balanced_accuracy",
        ),
    )
}


def read_task(name: str, root: str | os.PathLike[str]) -> list[Item]:
    """List the items of a known data set that take part in its protocol.

    Those that an official list names and the folder lacks are among them, so that extracting counts and names them.

    Raises:
        UsageError: there is no such task, the root has another layout, or there is nothing to tell apart.
        NothingToDo: there is no audio.
    """
    if name not in TASKS:
        raise UsageError(f"Unknown task {name!r}. Tasks: {', '.join(TASKS)}.")
    task = TASKS[name]
    items = [item for item in read_corpus(**task.reads(root)) if task.takes(item)]
    found = {item.label for item in items} - {None}
    if len(found) < 2:
        raise UsageError(
            f"The task {name} needs two classes or more, and {display_path(os.fspath(root))} has {len(found)} of them. "
            f"It is read so: {task.protocol}"
        )
    return items


def detect_task(root: str | os.PathLike[str]) -> str | None:
    """Return the name of the task that a folder or a manifest is, None if there are no labels to learn from it."""
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
    """Return the manifest that is given, or the only one in the folder that is given.

    Raises:
        UsageError: there is none, or there are several.
    """
    if not os.path.isdir(root):
        return os.fspath(root)
    names = sorted(name for name in os.listdir(root) if name.lower().endswith(MANIFEST_SUFFIXES))
    if len(names) != 1:
        several = ", ".join(display_path(name) for name in names)
        raise UsageError(
            f"{display_path(os.fspath(root))} has {f'several manifests: {several}' if names else 'no manifest'}. "
            "Name a "
            f"file that ends in {', '.join(MANIFEST_SUFFIXES)}, with a column path."
        )
    return os.path.join(root, names[0])
