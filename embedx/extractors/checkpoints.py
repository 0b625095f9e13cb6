"""Checkpoints of transformers: finding and loading one, and refusing what is none, with a sentence."""

import json
import logging
import socket
import urllib.parse
import urllib.request
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from embedx.errors import ModelError
from embedx.extractors.weights import brief

log = logging.getLogger(__name__)

UNUSED = ("masked_spec_embed",)  # a training-time parameter that some checkpoints leave out
NAMES = ("_name_or_path", "transformers_version", "architectures", "torch_dtype", "dtype")  # say nothing of the output


@dataclass(frozen=True)
class Checkpoint:
    """A loaded model, the JSON of its front end (None where it has none), and the settings that change its output."""

    place: str
    model: Any
    front_end: dict[str, Any] | None
    settings: dict[str, Any]


def load_checkpoint(source: str, kinds: tuple[str, ...], allow_pickle: bool) -> Checkpoint:
    """Load a checkpoint by hub id (`name` or `name@revision`) or from a local folder.

    Raises:
        ModelError: nothing is there, the network cannot be reached, the model is not one of `kinds`, its weights do
            not fit its configuration, or are a pickle without `allow_pickle`.
    """
    from transformers import AutoModel
    from transformers.utils.logging import disable_progress_bar, set_verbosity_error

    set_verbosity_error()
    disable_progress_bar()
    place, _, revision = (source, "", "") if Path(source).is_dir() else source.partition("@")
    options: dict[str, Any] = {"revision": revision} if revision else {}
    if not Path(source).is_dir() and not hub_is_near():
        options["local_files_only"] = True  # the cache may have it, and the library would try for half a minute
    settings = read_json(place, "config.json", options)
    if settings is None:
        raise ModelError(missing(place))
    kind = settings.get("model_type")
    if kind not in kinds:
        raise ModelError(
            f"{place} is a model of type {kind!r}, not an audio encoder that embedx runs ({', '.join(kinds)})."
        )
    front_end = read_json(place, "preprocessor_config.json", options)
    try:
        model, report = AutoModel.from_pretrained(
            place,
            output_loading_info=True,
            use_safetensors=None if allow_pickle else True,
            weights_only=True,
            dtype=torch.float32,
            **options,
        )
    except Exception as error:  # transformers raises whatever its file readers raise, from OSError to SafetensorError
        raise ModelError(f"The weights in {place} cannot be loaded: {brief(error)}{pickled(place)}") from error
    check_keys(place, model, report)
    settings = {key: value for key, value in settings.items() if key not in NAMES}
    return Checkpoint(place, model.eval().requires_grad_(False), front_end, settings)


def hub_is_near() -> bool:
    """Tell whether the name of the model hub can be looked up; behind a proxy that is the proxy's business."""
    from huggingface_hub import constants

    if urllib.request.getproxies():
        return True
    try:
        socket.getaddrinfo(urllib.parse.urlsplit(constants.ENDPOINT).hostname, 443)
    except OSError:
        return False
    return True


def read_json(place: str, name: str, options: dict[str, Any]) -> dict[str, Any] | None:
    """Return a JSON file of a local folder or a hub repository, None where it is not to be had."""
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
        raise ModelError(f"{path} cannot be read: {error}") from error
    if not isinstance(values, dict):
        raise ModelError(f"{path} should hold a JSON object.")
    return values


def check_keys(place: str, model: nn.Module, report: dict[str, Any]) -> None:
    """Refuse a checkpoint that leaves a parameter of the encoder untouched.

    A head behind the encoder (`lm_head`, `classifier`) is left out without complaint: it is no part of a frozen
    encoder. Two components of a name tell them apart: WavLM's speaker head has a `feature_extractor` of its own.
    """
    places = {".".join(name.split(".")[:2]) for name in model.state_dict()}
    unexpected = [key for key in report["unexpected_keys"] if ".".join(key.split(".")[:2]) in places]
    wrong = {
        "missing": sorted(set(report["missing_keys"]) - set(UNUSED)),
        "unexpected": sorted(unexpected),
        "of another shape": sorted(str(key[0]) for key in report["mismatched_keys"]),
    }
    complaints = [f"{kind}: {', '.join(keys[:5])} ({len(keys)} in all)" for kind, keys in wrong.items() if keys]
    if complaints:
        raise ModelError(f"The weights in {place} do not fit their configuration. {'; '.join(complaints)}.")


def missing(place: str) -> str:
    """Say what can be done about a checkpoint that is not there."""
    if Path(place).is_dir():
        return f"{place} holds no config.json: give the folder that save_pretrained() wrote."
    return (
        f"{place} is no folder here, and it cannot be had from the model hub (wrong name, or no network). "
        "Without a network, download the checkpoint elsewhere and give its folder as --model FOLDER."
    )


def pickled(place: str) -> str:
    """Say what can be done where a folder holds its weights as a pickle, and nothing otherwise."""
    if not any(Path(place).glob("*.bin")):
        return ""
    return (
        " The folder holds a pickle (.bin), which can run code: allow it with --allow-pickle if you trust its source, "
        "or save it as safetensors."
    )
