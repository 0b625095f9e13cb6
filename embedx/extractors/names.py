"""Extractors: waves [B, S] + lengths [B] -> frames [B, T, D] + lengths [B]. One file per family.

A model is named as a user would type it: `logmel`, `yamnet`, `yamnet:PATH`, `vggish:PATH?pca`, a hub id such as
`facebook/hubert-base-ls960` (with `@revision`), a bundle of torchaudio such as `HUBERT_BASE` (with `@FILE`), a local
folder, or code from outside: `module:factory`, `hear:module`, or an entry point. `family:source` always works.
"""

import difflib
import os
import re
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from typing import TYPE_CHECKING

from embedx.errors import ModelError

if TYPE_CHECKING:
    pass

NAMES = ("logmel", "mfcc", "yamnet", "vggish", "melspec-resnet18")  # families that are a model by themselves
FAMILIES = (*NAMES, "huggingface", "torchaudio", "plugin")  # modules here (- becomes _), each with a function load
VARIABLES = {"yamnet": "EMBEDX_YAMNET_WEIGHTS", "vggish": "EMBEDX_VGGISH_WEIGHTS"}  # each may name a weights file
BUNDLES = ("WAV2VEC2_", "HUBERT_", "WAVLM_", "VOXPOPULI_", "XLSR_")  # how torchaudio's names of speech models begin


def resolve(model: str) -> tuple[str, str]:
    """Split what a user typed into (family, source); local paths become absolute. Nothing is loaded.

    >>> resolve("yamnet")
    ('yamnet', '')
    >>> resolve("facebook/hubert-base-ls960@main")
    ('huggingface', 'facebook/hubert-base-ls960@main')

    Raises:
        ModelError: the name cannot be a model.
    """
    family, _, source = model.partition(":")
    if family not in FAMILIES:
        family, source = guess_family(model), model
    if family == "torchaudio":
        name, named, file = source.partition("@")
        return family, f"{name}@{os.path.abspath(Path(file).expanduser())}" if file else name + named
    place, option = split_option(source)
    path = Path(place).expanduser()
    return family, os.path.abspath(path) + option if place and path.exists() else source


def split_option(source: str) -> tuple[str, str]:
    """Split a source at its last question mark, which stays with the option; a path that exists is left whole.

    >>> split_option("vggish.npz?pca")
    ('vggish.npz', '?pca')
    """
    place, mark, option = source.rpartition("?")
    return (source, "") if not mark or Path(source).expanduser().exists() else (place, mark + option)


def guess_family(model: str) -> str:
    """Return the family of a folder, a weights file, a hub id, a bundle of torchaudio, or code from outside."""
    if entry_point(model) or re.fullmatch(r"hear:.+|[A-Za-z_][\w.]*:[A-Za-z_]\w*", model):
        return "plugin"
    path = Path(model).expanduser()
    if (path.is_file() and path.suffix == ".safetensors") or (path / "yamnet.safetensors").is_file():
        return "yamnet"
    name = model.partition("@")[0]
    if not path.is_dir() and name.startswith(BUNDLES) and "/" not in name and name.isupper():
        return "torchaudio"
    if path.is_dir() or ("/" in model and not model.startswith((".", "/", "~"))):
        return "huggingface"
    if "/" in model:
        raise ModelError(f"There is no model folder {model}. Give the folder that holds config.json and the weights.")
    near = difflib.get_close_matches(model, NAMES, n=1)
    hint = f" Did you mean {near[0]!r}?" if near else ""
    raise ModelError(
        f"Unknown model {model!r}.{hint} Known names: {', '.join(NAMES)}; "
        "or give a local folder, a hub id such as facebook/hubert-base-ls960, or a bundle such as HUBERT_BASE."
    )


def entry_point(name: str) -> EntryPoint | None:
    """Return the entry point of that name in the group `embedx.extractors` of installed packages."""
    return next(iter(entry_points(group="embedx.extractors", name=name)), None)
