"""Names of models: what a user types -> family and source."""

import difflib
import os
import re
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path

from embedx.errors import ModelError, StoreError
from embedx.filesystem.paths import display_path

NAMES = ("logmel", "mfcc", "yamnet", "vggish", "melspec-resnet18")  # families with only one model
FORMATS = ("huggingface", "torchaudio", "finetuned", "onnx", "ctranslate2")
BUILT_IN = (*NAMES, *FORMATS)  # modules of this package that have a function `load`
FAMILIES = (*BUILT_IN, "plugin")  # "plugin": code outside embedx
STORED = (*FAMILIES, "imported")  # what a stored recipe may name; "imported": vectors made with other software
VARIABLES = {  # environment variables that may name a weights file
    "yamnet": "EMBEDX_YAMNET_WEIGHTS",
    "vggish": "EMBEDX_VGGISH_WEIGHTS",
}
FINETUNED_FILE = "finetune.json"  # in the folder of a model of `embedx finetune`
CTRANSLATE2_FILE = "model.bin"  # in the folders of faster-whisper, without the weights of transformers
TRANSFORMERS_FILES = ("model.safetensors", "pytorch_model.bin")
HUB_PREFIX = "hf:"  # may stand before a hub id
HUB_ID = re.compile(r"\w[\w.-]*(/\w[\w.-]*)?(@\w[\w./-]*)?", re.ASCII)  # no path in the hub's cache
BUNDLES = ("WAV2VEC2_", "HUBERT_", "WAVLM_", "VOXPOPULI_", "XLSR_")  # prefixes of torchaudio's speech models


def resolve(model: str) -> tuple[str, str]:
    """Split the name of a model into family and source. Nothing is loaded.

    Args:
        model: `logmel`, `yamnet`, `yamnet:PATH`, `vggish:PATH?pca`; a hub id such as `facebook/hubert-base-ls960`, also
            with `@revision`; a bundle of torchaudio such as `HUBERT_BASE`, also with `@FILE`; a local folder;
            `onnx:FILE?rate=32000`; code outside embedx as `module:factory`, `hear:module` or the name of an entry
            point; or `family:source`.

    Returns:
        The family and the source; local paths are absolute.

    Raises:
        ModelError: the name is not a valid model name.

    >>> resolve("yamnet")
    ('yamnet', '')
    >>> resolve("hf:facebook/hubert-base-ls960@main")  # the prefix may be left out
    ('huggingface', 'facebook/hubert-base-ls960@main')
    """
    if not model:
        raise ModelError("The name of the model is empty. `embedx models` lists the names.")
    without_prefix = model.removeprefix(HUB_PREFIX)
    model = without_prefix if HUB_ID.fullmatch(split_option(without_prefix)[0]) else model
    family, _, source = model.partition(":")
    if family not in FAMILIES:
        family, source = guess_family(model), model
    if family == "torchaudio":
        name, separator, file = source.partition("@")
        return family, f"{name}@{os.path.abspath(Path(file).expanduser())}" if file else name + separator
    if family == "onnx":
        return family, resolve_onnx(source)
    location, option = split_option(source)
    path = Path(location).expanduser()
    if family == "huggingface" and not path.exists() and (not HUB_ID.fullmatch(location) or ".." in location):
        raise ModelError(
            f"There is no model folder {display_path(source)}, and it is not a hub id such as "
            "facebook/hubert-base-ls960. Give a folder with config.json and the weights (--model, model=)."
        )
    return family, os.path.abspath(path) + option if location and path.exists() else source


def resolve_untrusted(model: str) -> tuple[str, str]:
    """Split the name of a model that a file holds, such as a stored recipe. Only families of embedx are accepted.

    Raises:
        ModelError: the name is not a valid model name, or it names code outside embedx.

    >>> resolve_untrusted("logmel")
    ('logmel', '')
    """
    family, source = resolve(model)
    if family not in BUILT_IN:
        name = display_path(model.removeprefix("plugin:"))
        raise ModelError(
            f"A file names the model {name}, which is code outside embedx. embedx does not run code only because "
            f"a file names it. If you trust this code, name it yourself: --model {name} (model=)."
        )
    return family, source


def check_stored_family(family: object) -> None:
    """Refuse a stored recipe whose extractor is not a family of embedx.

    Raises:
        StoreError: the family is unknown.
    """
    if family not in STORED:
        raise StoreError(
            f"The stored recipe names the extractor {display_path(str(family))!r}; this embedx knows: "
            f"{', '.join(STORED)}. A newer version may have written it, or the file was forged."
        )


def split_option(source: str) -> tuple[str, str]:
    """Split a source before its last question mark; an existing path is not split.

    >>> split_option("vggish.npz?pca")
    ('vggish.npz', '?pca')
    """
    location, mark, option = source.rpartition("?")
    return (source, "") if not mark or Path(source).expanduser().exists() else (location, mark + option)


def split_onnx(source: str) -> tuple[str, str]:
    """Split a source after the name of an existing file, or else before its first question mark.

    >>> split_onnx("perch.onnx?rate=32000&labels=which?.txt")
    ('perch.onnx', 'rate=32000&labels=which?.txt')
    """
    marks = [match.start() for match in re.finditer(r"\?", source)]
    files = (place for place in (*marks, len(source)) if Path(source[:place]).expanduser().is_file())
    place = next(files, marks[0] if marks else len(source))
    return source[:place], source[place + 1 :]


def resolve_onnx(source: str) -> str:
    """Return a source of the family onnx with absolute paths of its file and its labels."""
    location, options = split_onnx(source)
    options = re.sub(r"(?<![^&])labels=([^&]+)", lambda match: f"labels={absolute(match[1])}", options)
    return "?".join(filter(None, (absolute(location), options)))


def absolute(path: str) -> str:
    """Return an absolute path; ~ is the home folder."""
    return os.path.abspath(Path(path).expanduser())


def guess_family(model: str) -> str:
    """Return the family of a folder, a weights file, a hub id, a bundle of torchaudio, or code outside embedx."""
    if entry_point(model) or re.fullmatch(r"hear:.+|[A-Za-z_][\w.]*:[A-Za-z_]\w*", model):
        return "plugin"
    path = Path(model).expanduser()
    if split_onnx(model)[0].endswith(".onnx"):
        return "onnx"
    if (Path(split_option(model)[0]).expanduser() / FINETUNED_FILE).is_file():
        return "finetuned"
    if (path / CTRANSLATE2_FILE).is_file() and not any((path / name).is_file() for name in TRANSFORMERS_FILES):
        return "ctranslate2"
    if (path.is_file() and path.suffix == ".safetensors") or (path / "yamnet.safetensors").is_file():
        return "yamnet"
    name = model.partition("@")[0]
    if not path.is_dir() and name.startswith(BUNDLES) and "/" not in name and name.isupper():
        return "torchaudio"
    if path.is_dir() or ("/" in model and not model.startswith((".", "/", "~"))):
        return "huggingface"
    if "/" in model:
        raise ModelError(f"There is no model folder {model}. Give a folder with config.json and the weights.")
    similar = difflib.get_close_matches(model, NAMES, n=1)
    hint = f" Did you mean {similar[0]!r}?" if similar else ""
    raise ModelError(
        f"Unknown model {model!r}.{hint} Known names: {', '.join(NAMES)}. "
        "Or give a local folder, a hub id such as facebook/hubert-base-ls960, or a bundle such as HUBERT_BASE."
    )


def entry_point(name: str) -> EntryPoint | None:
    """Return the entry point with this name in the group `embedx.extractors`, None if no package has one."""
    return next(iter(entry_points(group="embedx.extractors", name=name)), None)
