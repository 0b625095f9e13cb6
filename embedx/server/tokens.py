"""Tokens: who may use the service, and whether they may also set labels."""

import hashlib
import hmac
import os
import threading
from collections.abc import Callable
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
    """The hashes of the tokens of a file, each with its right; without any, everybody may read and label.

    Attributes:
        rights: hash of a token, and its right.
        once: a token that can be traded for a cookie with the right of the first, once.
    """

    rights: tuple[tuple[bytes, Right], ...] = field(default=(), repr=False)
    once: "OneTimeToken | None" = field(default=None, repr=False)

    def __bool__(self) -> bool:
        return bool(self.rights)

    def right_of(self, authorization: str | None) -> Right | None:
        """Return the right of a client from its Authorization header, None if it has none.

        Every token is compared, each in constant time: the time says nothing about the tokens.
        """
        if not self.rights:
            return "label"
        scheme, _, token = (authorization or "").partition(" ")
        right = self.right_of_hash(hash_token(token.strip()), lambda known: known)
        return right if scheme.lower() == "bearer" else None

    def right_of_cookie(self, cookie: str) -> Right | None:
        """Return the right of a browser from its cookie, None if it has none; see `cookie_of`."""
        return self.right_of_hash(cookie.encode("utf-8", "surrogateescape"), lambda known: cookie_of(known).encode())

    def right_of_hash(self, given: bytes, derive: Callable[[bytes], bytes]) -> Right | None:
        """Return the right of the token from whose hash something given is derived."""
        right = None
        for known, its_right in self.rights:
            if hmac.compare_digest(derive(known), given):
                right = its_right
        return right

    def trade(self, token: str) -> str | None:
        """Return the cookie for a token, None if it is not valid. A one-time token is used up."""
        if self.once is not None and self.once.take(token):
            return cookie_of(self.rights[0][0])
        given = hash_token(token)
        return cookie_of(given) if self.right_of_hash(given, lambda known: known) else None


class OneTimeToken:
    """A token that a page trades for a cookie, once: it stands in the address that `embedx open` opens."""

    def __init__(self, token: str) -> None:
        self._hash: bytes | None = hash_token(token)
        self._lock = threading.Lock()

    def take(self, token: str) -> bool:
        """Tell whether this is the token and was not used before; it is used from now on."""
        with self._lock:
            is_right = self._hash is not None and hmac.compare_digest(self._hash, hash_token(token))
            if is_right:
                self._hash = None
            return is_right


def cookie_of(known: bytes) -> str:
    """Return the cookie for the token with this hash.

    It is derived from the token, so that it is valid as long as the token, also after a restart, and nothing is stored.
    """
    return hmac.new(known, b"embedx session", hashlib.sha256).hexdigest()


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
