"""Checkpoints of transformers: find, load and check one."""

import importlib
import json
import logging
import socket
import urllib.parse
import urllib.request
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Self

import torch
from torch import nn

from embedx.errors import ModelError
from embedx.extractors.fingerprint import find_snapshot
from embedx.extractors.front_ends import read_front_end
from embedx.extractors.unsupported import REFUSED
from embedx.extractors.weights import brief, refuse_pointers

log = logging.getLogger(__name__)

UNUSED = ("masked_spec_embed",)  # a parameter for training only, which some checkpoints do not have
FORBIDDEN = (  # keys that make transformers import, download or open something that the file chooses
    *("auto_map", "_attn_implementation", "attn_implementation", "_experts_implementation", "quantization_config"),
    *("transformers_weights", "_name_or_path", "base_model_tp_plan", "base_model_pp_plan"),
)
CLASSIFIER = ("classifier.", "projector.", "layer_weights")  # parameters of AutoModelForAudioClassification
WEIGHT_INDEXES = ("model.safetensors.index.json", "pytorch_model.bin.index.json")
IRRELEVANT = ("_name_or_path", "transformers_version", "architectures", "torch_dtype", "dtype")  # no effect on output


@dataclass(frozen=True)
class Checkpoint:
    """A loaded checkpoint.

    Attributes:
        place: its folder or hub id.
        model: the model.
        front_end: the JSON configuration of its front end, None if it has none.
        settings: the settings that change its output.
        options: how its other files are found: the revision, and whether only in the hub's cache.
    """

    place: str
    model: Any
    front_end: dict[str, Any] | None
    settings: dict[str, Any]
    options: dict[str, Any] = field(default_factory=dict)

    def with_model(self, model: Any) -> Self:
        """Return the same checkpoint with a part of its model."""
        return replace(self, model=model)


@dataclass(frozen=True)
class Part:
    """A part of a model, of a class that transformers' AutoModel does not know.

    Attributes:
        module: the module of transformers' models that has the class.
        name: the class.
        prefix: what the names of its weights begin with in the file of the whole model.
        hint: what is wrong with a checkpoint that does not have all of these weights.
        config: the part of the configuration that describes the part; empty: all of it.
    """

    module: str
    name: str
    prefix: str
    hint: str = ""
    config: str = ""

    def find_class(self) -> Any:
        """Return the class."""
        return getattr(importlib.import_module(f"transformers.models.{self.module}"), self.name)


ENCODERS = {  # class that was saved -> its encoder, where AutoModel would ask for more than the encoder
    "WhisperForAudioClassification": Part("whisper.modeling_whisper", "WhisperEncoder", r"^(model\.)?encoder\."),
    "WhisperEncoder": Part("whisper.modeling_whisper", "WhisperEncoder", r"^(model\.)?encoder\."),
    "ClapAudioModelWithProjection": Part("clap.modeling_clap", "ClapAudioModelWithProjection", r"^clap\."),
}
INCOMPLETE = {  # class that was saved -> what it is
    "WhisperForCausalLM": "Whisper's decoder without the encoder",
    "ClapAudioModel": "CLAP's audio encoder without its projection",
}


def load_checkpoint(
    source: str,
    kinds: Collection[str],
    allow_pickle: bool,
    download: bool = True,
    auto_class: str = "AutoModel",
    parts: Mapping[str, Part] | None = None,
) -> Checkpoint:
    """Load a checkpoint.

    Args:
        source: a hub id (`name` or `name@revision`) or a local folder.
        kinds: the model types that are accepted.
        allow_pickle: whether weights may be read from a pickle.
        download: whether the model hub may be asked; otherwise a hub id is only looked up in the hub's cache.
        auto_class: the class of transformers that is loaded: "AutoModel", the encoder (for a checkpoint that holds
            more or only this, its encoder alone); or
            "AutoModelForAudioClassification", with its classifier, whose weights must be there too.
        parts: model type -> the part that is loaded instead.

    Raises:
        ModelError: the checkpoint is not found, the network cannot be reached, the model type is not accepted, the
            weights do not fit the configuration, or they are a pickle and `allow_pickle` is not set.
    """
    import transformers
    from transformers.utils.logging import disable_progress_bar, set_verbosity_error

    set_verbosity_error()
    disable_progress_bar()
    place, options = find_place(source, download)
    settings = read_json(place, "config.json", options)
    if settings is None:
        raise ModelError(explain_missing(place))
    kind: Any = settings.get("model_type")
    if kind not in kinds:
        raise ModelError(explain_kind(place, kind, kinds))
    part = pick_part(place, settings, auto_class) or (parts or {}).get(kind)
    front_end = read_front_end(place, lambda name: read_json(place, name, options))
    check_file_names(place, options)
    try:
        model_class = part.find_class() if part else getattr(transformers, auto_class)
        config = transformers.CONFIG_MAPPING[kind].from_dict(remove_keys(settings, FORBIDDEN))
        model, report = model_class.from_pretrained(
            place,
            config=getattr(config, part.config) if part and part.config else config,
            trust_remote_code=False,
            output_loading_info=True,
            use_safetensors=None if allow_pickle else True,
            weights_only=True,
            dtype=torch.float32,
            key_mapping={part.prefix: ""} if part else None,
            **options,
        )
    except Exception as error:  # transformers passes on all errors of its file readers, from OSError to SafetensorError
        refuse_pointers(sorted(Path(place).glob("*")), error)
        raise ModelError(f"The weights in {place} cannot be loaded: {brief(error)}{explain_pickle(place)}") from error
    check_keys(place, model, report, part.hint if part else "")
    settings = {key: value for key, value in settings.items() if key not in IRRELEVANT}
    return Checkpoint(place, model.eval().requires_grad_(False), front_end, settings, options)


def find_place(source: str, download: bool) -> tuple[str, dict[str, Any]]:
    """Return the folder or hub id of a checkpoint, and how its files are found; see `Checkpoint`."""
    if not download and not Path(source).is_dir():  # even with `local_files_only` the library connects to its hub
        snapshot = find_snapshot(source)
        if snapshot is None:
            raise ModelError(explain_download(source))
        source = str(snapshot)
    place, _, revision = (source, "", "") if Path(source).is_dir() else source.partition("@")
    options: dict[str, Any] = {"revision": revision} if revision else {}
    if not Path(source).is_dir() and not is_hub_reachable():
        options["local_files_only"] = True  # it may be in the cache, and the library would retry for half a minute
    return place, options


def pick_part(place: str, settings: dict[str, Any], auto_class: str) -> Part | None:
    """Return the encoder of a checkpoint whose class has more or less than `auto_class`, else None.

    Raises:
        ModelError: the checkpoint is a part of a model without its encoder.
    """
    saved = settings.get("architectures")
    name = str(saved[0]) if isinstance(saved, list) and saved else ""
    if name in INCOMPLETE:
        raise ModelError(f"{place} holds only a part of a model: {INCOMPLETE[name]}. Give the whole model.")
    return ENCODERS.get(name) if auto_class == "AutoModel" else None


def check_file_names(place: str, options: dict[str, Any]) -> None:
    """Refuse a checkpoint whose files lead out of its folder: weights with a path, or an adapter for another model."""
    if read_json(place, "adapter_config.json", options) is not None:
        raise ModelError(f"{place} holds an adapter for another model. Merge it into the model, and save that.")
    for index in WEIGHT_INDEXES:
        names = (read_json(place, index, options) or {}).get("weight_map", {})
        names = names.values() if isinstance(names, dict) else [names]
        outside = [name for name in names if not isinstance(name, str) or name in ("", "..") or set(name) & set("/\\")]
        if outside:
            raise ModelError(f"{index} in {place} names a file outside of its folder: {str(outside[0])[:99]!r}.")


def remove_keys(settings: Any, names: tuple[str, ...]) -> Any:
    """Return JSON values without some keys, at every depth.

    >>> remove_keys({"a": 1, "b": [{"a": 2, "c": 3}]}, ("a",))
    {'b': [{'c': 3}]}
    """
    if isinstance(settings, dict):
        return {key: remove_keys(value, names) for key, value in settings.items() if key not in names}
    return [remove_keys(value, names) for value in settings] if isinstance(settings, list) else settings


def is_hub_reachable() -> bool:
    """Tell whether the host name of the model hub can be resolved; with a proxy this is assumed."""
    from huggingface_hub import constants

    if urllib.request.getproxies():
        return True
    try:
        socket.getaddrinfo(urllib.parse.urlsplit(constants.ENDPOINT).hostname, 443)
    except OSError:
        return False
    return True


def read_json(place: str, name: str, options: dict[str, Any]) -> dict[str, Any] | None:
    """Return the content of a JSON file in a local folder or a hub repository, None if it is not available."""
    from transformers.utils.hub import cached_file

    try:
        path = cached_file(place, name, _raise_exceptions_for_missing_entries=False, **options)
    except (OSError, ValueError):
        return None
    if path is None:
        return None
    try:
        values = json.loads(Path(path).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        refuse_pointers([Path(path)], error)
        raise ModelError(f"{path} cannot be read: {error}") from error
    if not isinstance(values, dict):
        raise ModelError(f"{path} does not contain a JSON object.")
    return values


def check_keys(place: str, model: nn.Module, report: dict[str, Any], hint: str = "") -> None:
    """Raise ModelError, with a hint, if the weights do not fill every parameter of the encoder.

    A head after the encoder (`lm_head`, `classifier`) is ignored, because it is not part of a frozen encoder. It is
    recognised by the first two parts of the name: WavLM's speaker head has its own `feature_extractor`.
    """
    modules = {".".join(name.split(".")[:2]) for name in model.state_dict()}
    unexpected = [key for key in report["unexpected_keys"] if ".".join(key.split(".")[:2]) in modules]
    problems = {
        "missing": sorted(key for key in report["missing_keys"] if key.rpartition(".")[2] not in UNUSED),
        "unexpected": sorted(unexpected),
        "of another shape": sorted(str(key[0]) for key in report["mismatched_keys"]),
    }
    if any(key.startswith(CLASSIFIER) for key in problems["missing"]):
        raise ModelError(
            f"{place} has no trained classifier; it is an encoder. Embed with it (`embedx extract --model`) and train "
            "a head (`embedx train`), or give a checkpoint that was trained for classification."
        )
    texts = [f"{kind}: {', '.join(keys[:5])} ({len(keys)} in total)" for kind, keys in problems.items() if keys]
    if texts:
        raise ModelError(f"The weights in {place} do not fit their configuration. {'; '.join(texts)}.{hint}")


def explain_missing(place: str) -> str:
    """Say what to do about a checkpoint that was not found."""
    if Path(place).is_dir():
        return f"{place} contains no config.json. Give the folder that save_pretrained() wrote."
    return (
        f"{place} is not a folder, and it cannot be loaded from the model hub (wrong name, or no network). "
        "Without a network, download the checkpoint on another machine and give its folder as --model FOLDER."
    )


def explain_download(model: str) -> str:
    """Say what to do about a model that a file names and that is not on this machine."""
    return (
        f"A file names the model {model}, which is not on this machine. embedx downloads nothing only because a file "
        f"names it. If you want it, name it yourself: --model {model} (model=)."
    )


def explain_pickle(place: str) -> str:
    """Say what to do about weights in a pickle; return an empty text for a folder without one."""
    if not any(Path(place).glob("*.bin")):
        return ""
    return (
        " The folder contains a pickle (.bin), which can run code. If you trust its source, use --allow-pickle; "
        "otherwise save the weights as safetensors."
    )


def explain_kind(place: str, kind: object, kinds: Collection[str]) -> str:
    """Say why a model type is refused, and which are not."""
    refused = f"{place} is a model of type {kind!r}, which embedx does not support"
    if str(kind) in REFUSED:
        return f"{refused}: {REFUSED[str(kind)]}."
    return f"{refused}. Supported types: {', '.join(kinds)}."
