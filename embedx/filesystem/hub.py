"""Repositories of a model hub: `hf:user/repo` -> a folder on this machine."""

import re
import shutil
from pathlib import Path

from embedx.errors import DiskError, UsageError
from embedx.filesystem.atomic import make_folder, whole_folder

PREFIX = "hf:"
REPOSITORY = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*(@\w[\w./-]*)?", re.ASCII)


def repository_of(name: object) -> str | None:
    """Return the repository that a name such as `hf:user/repo` or `hf:user/repo@revision` means, else None.

    >>> repository_of("hf:user/birds"), repository_of("indexes/birds")
    ('user/birds', None)

    Raises:
        UsageError: what follows `hf:` is not the name of a repository.
    """
    if not isinstance(name, str) or not name.startswith(PREFIX):
        return None
    repository = name.removeprefix(PREFIX)
    if not REPOSITORY.fullmatch(repository) or ".." in repository:
        raise UsageError(f"{name!r:.99} is not a repository of the hub. Give hf:USER/NAME, such as hf:user/birds.")
    return repository


def download_collection(repository: str) -> Path:
    """Return a folder with the collection of a data set repository; it is downloaded once for each commit.

    The folder is a copy of the hub's cache, so that labels and indexes can be written.

    Raises:
        DiskError: the hub cannot be reached, there is no such repository, or the disk is full.
    """
    from huggingface_hub import constants, snapshot_download

    name, _, revision = repository.partition("@")
    try:
        snapshot = Path(snapshot_download(name, repo_type="dataset", revision=revision or None))
    except Exception as error:  # the library raises errors of its own, of its HTTP client and of the file system
        raise DiskError(explain(f"hf:{repository} cannot be downloaded", error)) from error
    folder = Path(constants.HF_HOME) / "embedx" / name.replace("/", "--") / snapshot.name
    if not folder.is_dir():
        try:
            make_folder(folder.parent)
            with whole_folder(folder) as new:
                shutil.copytree(snapshot, new, dirs_exist_ok=True)
        except OSError as error:
            raise DiskError(f"hf:{repository} cannot be copied to {folder}: {error.strerror or error}.") from error
    return folder


def upload(folder: Path, repository: str, kind: str, *, private: bool) -> str:
    """Upload a folder to a repository, which is created if it does not exist; return its address.

    Args:
        folder: the folder.
        repository: `user/repo`.
        kind: "model" or "dataset".
        private: make a new repository private.

    Raises:
        DiskError: the hub cannot be reached, or it refuses.
    """
    from huggingface_hub import HfApi

    api = HfApi()
    try:
        address = api.create_repo(repository, repo_type=kind, private=private, exist_ok=True)
        api.upload_folder(
            repo_id=repository,
            folder_path=folder,
            repo_type=kind,
            commit_message="Upload by embedx",
            delete_patterns="*",
        )
    except Exception as error:  # see `download_collection`
        raise DiskError(explain(f"hf:{repository} cannot be written", error)) from error
    return str(address)


def explain(what: str, error: Exception) -> str:
    """Return a sentence with the first line of an error of the hub, and what to do."""
    reason = " ".join(str(error).split()) or type(error).__name__
    return (
        f"{what}: {reason:.300} Check the name and the network; a private repository needs `hf auth login` or the "
        "variable HF_TOKEN."
    )
