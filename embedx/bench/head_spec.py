"""Heads as text, such as "PCA(128)+knn(k=3)". The same text names a head in the results."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from embedx.errors import UsageError
from embedx.heads.kinds import KINDS, check_settings
from embedx.heads.preprocessing import read_chain
from embedx.text import parse_number, parse_pair

HEAD = re.compile(r"(?:(?P<steps>.+)\+)?\s*(?P<kind>[a-z-]+)\s*(?:\((?P<settings>[^()]*)\))?")
SEPARATOR = re.compile(r",(?![^()]*\))")  # a comma that is not in parentheses
CLASS_WEIGHT = "class_weight"


@dataclass(frozen=True)
class HeadSpec:
    """A head to fit.

    Attributes:
        kind: one of `embedx.heads.kinds.KINDS`.
        steps: preprocessing steps, as text.
        settings: the settings that differ from the defaults.
    """

    kind: str
    steps: str = ""
    settings: Mapping[str, Any] = field(default_factory=dict)

    def __str__(self) -> str:
        settings = ", ".join(f"{name}={value}" for name, value in self.settings.items())
        return "+".join([*([self.steps] if self.steps else []), self.kind + (f"({settings})" if settings else "")])

    @property
    def layered(self) -> bool:
        """Whether the head reads all layers."""
        return KINDS[self.kind].layers

    @property
    def random(self) -> bool:
        """Whether the head starts from random weights, so that it depends on the seed."""
        return "max_epochs" in KINDS[self.kind].settings


def read_heads(value: Any) -> tuple[HeadSpec, ...]:
    """Return the heads in a list of texts, or in one text with commas.

    >>> [str(head) for head in read_heads("logistic, PCA(16,whiten)+knn( k=3 )")]
    ['logistic', 'PCA(16, whiten)+knn(k=3)']

    Raises:
        UsageError: there is no head, or a kind, step or setting does not exist.
    """
    texts: Sequence[Any] = [value] if isinstance(value, str) else value
    if not isinstance(texts, list | tuple) or not texts or not all(isinstance(text, str) for text in texts):
        raise UsageError(f"head takes a text or a list of texts, not {value!r}. Kinds: {', '.join(KINDS)}.")
    heads = [read_head(part) for text in texts for part in SEPARATOR.split(text)]
    return tuple({str(head): head for head in heads}.values())


def read_head(text: str) -> HeadSpec:
    """Return the head that a text describes.

    Raises:
        UsageError: a kind, step or setting does not exist.
    """
    match = HEAD.fullmatch(text.strip())
    if match is None or match["kind"] not in KINDS:
        raise UsageError(
            f"Unknown head {text!r}. Give one of {', '.join(KINDS)}, with settings as in mlp(hidden=128) and "
            "preprocessing steps as in PCA(128)+knn(k=3)."
        )
    settings: dict[str, Any] = {}
    for pair in filter(None, (part.strip() for part in (match["settings"] or "").split(","))):
        name, value = parse_pair(pair, f"A setting in {text!r}")
        settings[name] = parse_number(value.strip())
    weight = settings.get(CLASS_WEIGHT, "balanced")
    if weight != "balanced":
        raise UsageError(f"{CLASS_WEIGHT} in {text!r} must be balanced, not {weight}.")
    check_settings(match["kind"], {name: value for name, value in settings.items() if name != CLASS_WEIGHT})
    return HeadSpec(match["kind"], "+".join(map(str, read_chain(match["steps"] or ""))), settings)
