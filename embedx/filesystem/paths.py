"""Paths: show them safely."""

import os
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    pass


def display_path(path: str) -> str:
    r"""Return a path that is safe to print: bytes that are no UTF-8 and control characters are escaped.

    >>> display_path("caf\udce9\n.wav")
    'caf\\xe9\\n.wav'
    """
    text = os.fsencode(path).decode("utf-8", "backslashreplace")
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)
