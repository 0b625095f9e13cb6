"""Share: models/NAME or indexes/NAME -> a folder with its files and a card; nothing else leaves the machine."""

import json
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from embedx.collection.backup import backup
from embedx.collection.collection import Collection
from embedx.errors import DiskError, ModelError, UsageError
from embedx.filesystem.atomic import make_folder, whole_folder
from embedx.filesystem.hub import repository_of, upload
from embedx.filesystem.paths import display_path
from embedx.filesystem.urls import is_url
from embedx.sharing.cards import collection_card, model_card
from embedx.store.schema import FILE_NAME

CARD = "README.md"
DESCRIPTION, METRICS, ARGUMENTS = "finetune.json", "metrics.json", "arguments.json"
MODEL_FILES = (  # everything of models/NAME that is shared; checkpoints of a training are not
    *("config.json", "model.safetensors", "head.safetensors", "preprocessor_config.json", "processor_config.json"),
    *("loss.png", DESCRIPTION, METRICS, ARGUMENTS),
)


@dataclass(frozen=True)
class Shared:
    """What was written.

    Attributes:
        kind: "model" or "dataset" (a collection).
        files: name -> bytes.
        folder: the local folder; None if there is none.
        address: the repository; None if nothing was uploaded.
    """

    kind: str
    files: dict[str, int]
    folder: str | None
    address: str | None


def share(
    source: str | os.PathLike[str],
    *,
    to: str | None = None,
    local_dir: str | os.PathLike[str] | None = None,
    private: bool = True,
) -> Shared:
    """Write a fine-tuned model or a collection with a card to a folder, to a repository of the hub, or to both.

    Absolute paths in the JSON files of a model are cut to their last part. A collection is shared as it is, with the
    paths, labels and metadata of its rows, but without audio.

    Args:
        source: models/NAME, written by `embedx finetune`, or the folder of a collection.
        to: the repository, as hf:user/repo.
        local_dir: a new folder, written without a network.
        private: make a new repository private.

    Returns:
        What was written.

    Raises:
        UsageError: `source` is neither; neither `to` nor `local_dir` is given; `local_dir` exists.
        ModelError, StoreError: the model or collection is damaged.
        DiskError: the disk is full, or the hub cannot be reached.
    """
    folder, repository = Path(source), repository_of(to)
    if (to is None) == (repository is not None) or (to is None and local_dir is None):
        raise UsageError(f"Give a repository as hf:USER/NAME (--to, to=), not {to!r}, or a folder (--local-dir).")
    if repository is not None and "@" in repository:
        raise UsageError(f"{to} names a revision; give the repository only.")
    is_model = (folder / DESCRIPTION).is_file()
    if not is_model and not (folder / FILE_NAME).is_file():
        raise UsageError(
            f"{display_path(str(folder))} is neither a model of `embedx finetune` (with {DESCRIPTION}) nor a "
            f"collection (with {FILE_NAME})."
        )
    kind = "model" if is_model else "dataset"
    name = to or folder.resolve().name
    with target_folder(local_dir) as target:
        write_model(folder, target, name) if is_model else write_collection(folder, target, name)
        files = {
            str(path.relative_to(target)): path.stat().st_size for path in sorted(target.rglob("*")) if path.is_file()
        }
        address = None if repository is None else upload(target, repository, kind, private=private)
    return Shared(kind, files, None if local_dir is None else str(local_dir), address)


@contextmanager
def target_folder(local_dir: str | os.PathLike[str] | None) -> Iterator[Path]:
    """Lend the folder to write to: a temporary one, or a new one that appears complete or not at all."""
    if local_dir is None:
        with tempfile.TemporaryDirectory(prefix="embedx-share-") as temporary:
            yield Path(temporary)
        return
    if is_url(local_dir):
        shown = display_path(str(local_dir))
        raise UsageError(
            f"{shown} is a URL, not a folder of this machine. `embedx push` copies a collection to a bucket."
        )
    target = Path(local_dir)
    if target.exists() or target.is_symlink():
        raise UsageError(f"{display_path(str(target))} exists. Give the name of a new folder.")
    try:
        make_folder(target.absolute().parent)
        with whole_folder(target) as new:
            yield new
    except OSError as error:
        if isinstance(error, DiskError):
            raise
        shown = display_path(str(target))
        raise DiskError(f"{shown} cannot be written: {error.strerror or error}.") from error


def write_collection(folder: Path, target: Path, name: str) -> None:
    """Copy a collection, its heads and indexes into an empty folder, with a card."""
    copy = target / "copy"
    backup(folder, copy)
    for path in copy.iterdir():
        path.rename(target / path.name)
    copy.rmdir()
    with Collection(folder) as collection, collection.snapshot():
        (target / CARD).write_text(collection_card(name, collection), encoding="utf-8")


def write_model(folder: Path, target: Path, name: str) -> None:
    """Copy the files of a fine-tuned model into an empty folder, with a card; see `MODEL_FILES`."""
    contents = {file: read_json(folder / file) for file in (DESCRIPTION, METRICS, ARGUMENTS)}
    contents[METRICS].pop("failures", None)  # sentences with paths of recordings
    contents = {file: without_folders(content) for file, content in contents.items()}
    for file in MODEL_FILES:
        if file in contents:
            (target / file).write_text(json.dumps(contents[file], indent=1), encoding="utf-8")
        elif (folder / file).is_file():
            shutil.copyfile(folder / file, target / file)
    try:
        card = model_card(name, contents[DESCRIPTION], contents[METRICS])
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        shown = display_path(str(folder))
        raise ModelError(f"{DESCRIPTION} or {METRICS} in {shown} is not as `embedx finetune` writes it.") from error
    (target / CARD).write_text(card, encoding="utf-8")


def read_json(file: Path) -> dict[str, Any]:
    """Return the object in a JSON file.

    Raises:
        ModelError: there is no such file, or it is damaged.
    """
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ModelError(f"{display_path(str(file))} cannot be read: {error}") from error
    if not isinstance(content, dict):
        raise ModelError(f"{display_path(str(file))} does not contain a JSON object.")
    return content


def without_folders(value: Any) -> Any:
    """Return JSON values with the last part of every absolute path.

    >>> without_folders({"source": ["/home/me/birds"], "model": "facebook/hubert-base-ls960"})
    {'source': ['birds'], 'model': 'facebook/hubert-base-ls960'}
    """
    if isinstance(value, dict):
        return {key: without_folders(one) for key, one in value.items()}
    if isinstance(value, list):
        return [without_folders(one) for one in value]
    return os.path.basename(value.rstrip("/")) if isinstance(value, str) and os.path.isabs(value) else value
