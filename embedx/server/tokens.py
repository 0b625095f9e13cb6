"""Tokens: who may use the service, and whether they may also set labels."""

import hashlib
import hmac
import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from embedx.errors import UsageError
from embedx.filesystem.paths import display_path

Right = Literal["read", "label"]
MIN_TOKEN = 16  # characters; `openssl rand -hex 16` writes 32
MAX_FILE = 1_000_000  # bytes of a token file


@dataclass(frozen=True)
class Tokens:
    """The hashes of the tokens of a file, each with its right; without any, everybody may read and label."""

    rights: tuple[tuple[bytes, Right], ...] = field(default=(), repr=False)

    def __bool__(self) -> bool:
        return bool(self.rights)

    def right_of(self, authorization: str | None) -> Right | None:
        """Return the right of a client from its Authorization header, None if it has none.

        Every token is compared, each in constant time: the time says nothing about the tokens.
        """
        if not self.rights:
            return "label"
        scheme, _, token = (authorization or "").partition(" ")
        given, right = hash_token(token.strip()), None
        for known, its_right in self.rights:
            if hmac.compare_digest(known, given):
                right = its_right
        return right if scheme.lower() == "bearer" else None


def hash_token(token: str) -> bytes:
    """Return the hash of a token, so that all have the same length."""
    return hashlib.sha256(token.encode("utf-8", "surrogateescape")).digest()


def read_tokens(path: str | os.PathLike[str]) -> Tokens:
    """Read a token file: one token a line, with `read:` or `label:` before it. Lines that begin with # are comments.

    Raises:
        UsageError: the file cannot be read, has no token, or a line is invalid. No message holds a token.
    """
    shown, rights = display_path(os.fspath(path)), []
    try:
        if not Path(path).is_file():
            raise UsageError(f"There is no token file {shown}, or it is not a regular file.")
        with open(path, encoding="utf-8") as file:
            lines = file.read(MAX_FILE).splitlines()
    except (OSError, ValueError) as error:
        if isinstance(error, UsageError):
            raise
        raise UsageError(f"The token file {shown} cannot be read as text.") from error
    for number, line in enumerate(lines, start=1):
        if not line.strip() or line.lstrip().startswith("#"):
            continue
        right, _, token = (part.strip() for part in line.partition(":"))
        if right not in ("read", "label") or len(token) < MIN_TOKEN or not token.isascii() or " " in token:
            raise UsageError(
                f"Line {number} of the token file {shown} is not valid. Write read:TOKEN or label:TOKEN, with at least "
                f"{MIN_TOKEN} ASCII characters and no space in the token; `openssl rand -hex 16` makes one."
            )
        known: Right = "label" if right == "label" else "read"
        rights.append((hash_token(token), known))
    if not rights:
        raise UsageError(f"The token file {shown} holds no token. Write one a line: read:TOKEN or label:TOKEN.")
    return Tokens(tuple(rights))
