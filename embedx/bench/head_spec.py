"""Setups: heads written as text, as in "PCA(128)+knn(k=3)"; the same text names them in the results."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from embedx.errors import UsageError
from embedx.heads.kinds import KINDS, check_settings
from embedx.heads.preprocessing import read_chain
from embedx.text import parse_number, parse_pair

PATTERN = re.compile(r"(?:(?P<steps>.+)\+)?\s*(?P<kind>[a-z-]+)\s*(?:\((?P<settings>[^()]*)\))?")
BETWEEN = re.compile(r",(?![^()]*\))")  # commas outside of parentheses
CLASS_WEIGHT = "class_weight"


@dataclass(frozen=True)
class HeadSpec:
    """A head to be fitted; `steps` go before it, `settings` are those that are not by default."""

    kind: str
    steps: str = ""
    settings: Mapping[str, Any] = field(default_factory=dict)

    def __str__(self) -> str:
        settings = ", ".join(f"{name}={value}" for name, value in self.settings.items())
        return "+".join([*([self.steps] if self.steps else []), self.kind + (f"({settings})" if settings else "")])

    @property
    def layered(self) -> bool:
        """Whether it reads all layers."""
        return KINDS[self.kind].layers

    @property
    def random(self) -> bool:
        """Whether it begins at random, so that seeds change what it becomes."""
        return "max_epochs" in KINDS[self.kind].settings


def read_heads(given: Any) -> tuple[HeadSpec, ...]:
    """Return heads from a list of texts, or from one text with commas between.

    >>> [str(one) for one in read_heads("logistic, PCA(16,whiten)+knn( k=3 )")]
    ['logistic', 'PCA(16, whiten)+knn(k=3)']

    Raises:
        UsageError: a kind, step or setting that does not exist, or none at all.
    """
    texts: Sequence[Any] = [given] if isinstance(given, str) else given
    if not isinstance(texts, list | tuple) or not texts or not all(isinstance(one, str) for one in texts):
        raise UsageError(f"head takes text, or a list of it, not {given!r}. Kinds: {', '.join(KINDS)}.")
    heads = {str(one): one for one in map(read_head, [part for one in texts for part in BETWEEN.split(one)])}
    return tuple(heads.values())


def read_head(text: str) -> HeadSpec:
    """Return the head that a text names.

    Raises:
        UsageError: as `read_heads`.
    """
    match = PATTERN.fullmatch(text.strip())
    if match is None or match["kind"] not in KINDS:
        raise UsageError(
            f"{text!r} is no head. A head is one of {', '.join(KINDS)}, with settings as in mlp(hidden=128), and with "
            "steps before it as in PCA(128)+knn(k=3)."
        )
    settings: dict[str, Any] = {}
    for pair in filter(None, (part.strip() for part in (match["settings"] or "").split(","))):
        name, value = parse_pair(pair, f"A setting in {text!r}")
        settings[name] = parse_number(value.strip())
    weight = settings.get(CLASS_WEIGHT, "balanced")
    if weight != "balanced":
        raise UsageError(f"{CLASS_WEIGHT} in {text!r} takes balanced, not {weight}.")
    check_settings(match["kind"], {name: value for name, value in settings.items() if name != CLASS_WEIGHT})
    return HeadSpec(match["kind"], "+".join(map(str, read_chain(match["steps"] or ""))), settings)
