"""Models of `embedx finetune` on the hub, put there by `embedx share`: hub id -> the folder in the hub's cache."""

import os
from pathlib import Path
from typing import Any

from embedx.errors import ModelError
from embedx.extractors.fingerprint import find_snapshot
from embedx.extractors.names import FINETUNED_FILE, split_option

FILES = ("*.json", "*.safetensors")  # what is read of a shared model


def locate(family: str, source: str, download: bool = True) -> tuple[str, str]:
    """Return family and source of a model; those of a fine-tuned model on the hub are "finetuned" and its local folder.

    Args:
        family, source: what `embedx.extractors.names.resolve` returns.
        download: whether the model hub may be asked; otherwise a hub id is only looked up in the hub's cache.

    Raises:
        ModelError: the repository holds a fine-tuned model, but cannot be downloaded.
    """
    place, option = split_option(source)
    if family != "huggingface" or os.path.isdir(place):
        return family, source
    folder = download_shared(place) if download else find_snapshot(place)
    is_shared = folder is not None and (folder / FINETUNED_FILE).is_file()
    return ("finetuned", f"{folder}{option}") if is_shared else (family, source)


def download_shared(repository: str) -> Path | None:
    """Return the folder of a repository (`name` or `name@revision`) with a fine-tuned model, else None."""
    from huggingface_hub import snapshot_download

    from embedx.extractors.checkpoints import is_hub_reachable, read_json
    from embedx.extractors.weights import brief

    name, _, revision = repository.partition("@")
    options: dict[str, Any] = {"revision": revision} if revision else {}
    if not is_hub_reachable():
        options["local_files_only"] = True
    if read_json(name, FINETUNED_FILE, options) is None:
        return None
    try:
        return Path(snapshot_download(name, allow_patterns=list(FILES), **options))
    except Exception as error:  # the library raises errors of its own, of its HTTP client and of the file system
        raise ModelError(f"The fine-tuned model {repository} cannot be downloaded: {brief(error)}") from error
