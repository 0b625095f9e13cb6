"""Places: the URLs of collections in search engines. The password of one is never shown or stored."""

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from urllib.parse import parse_qsl, unquote, urlsplit

from embedx.errors import UsageError
from embedx.filesystem.paths import display_path

QDRANT, POSTGRES, MILVUS = "qdrant", "postgresql", "milvus"
OPTIONS = {  # scheme -> what can follow the ?
    QDRANT: ("tls",),
    POSTGRES: ("table", "host", "sslmode", "sslrootcert"),
    MILVUS: ("tls", "database"),
}
EXAMPLES = {
    QDRANT: "qdrant://HOST:6333/NAME",
    POSTGRES: "postgresql://USER@HOST/DATABASE?table=NAME",
    MILVUS: "milvus://HOST:19530/NAME",
}
KEYS = {QDRANT: "QDRANT_API_KEY", MILVUS: "MILVUS_TOKEN"}  # where a key is, if the URL has no password
NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_-]{0,49}")  # of a collection or table; PostgreSQL takes 63 characters


@dataclass(frozen=True)
class Place:
    """A collection in a search engine.

    Attributes:
        scheme: the engine.
        host: the name of the machine; empty for one on this machine without a network address.
        port: the port; None for the usual one of the engine.
        path: what follows the host, without the first slash.
        user: the user name; empty if there is none.
        password: the password or key in the URL, or the key of the environment; empty if there is none.
        options: what follows the question mark.
    """

    scheme: str
    host: str
    port: int | None
    path: str
    user: str = ""
    password: str = field(default="", repr=False)
    options: Mapping[str, str] = field(default_factory=dict)

    @property
    def name(self) -> str:
        """The name of the collection: that of its table, or the end of its path."""
        return self.options.get("table") or self.path.rpartition("/")[2]

    def __str__(self) -> str:
        user = "***@" if self.user else ""  # a key can be in its place
        port = "" if self.port is None else f":{self.port}"
        options = "&".join(f"{name}={value}" for name, value in self.options.items())
        return display_path(f"{self.scheme}://{user}{self.host}{port}/{self.path}" + (f"?{options}" if options else ""))


def parse_place(text: str) -> Place:
    """Return the parts of the URL of a collection in a search engine.

    >>> str(parse_place("postgresql://me:secret@db.example.org/sounds?table=field"))
    'postgresql://***@db.example.org/sounds?table=field'

    Raises:
        UsageError: it is not such a URL.
    """
    scheme = text.partition("://")[0].lower()
    try:
        parts = urlsplit(text)
        port, pairs = parts.port, parse_qsl(parts.query, keep_blank_values=True, strict_parsing=bool(parts.query))
    except ValueError:
        raise invalid(scheme, "its port or its options cannot be read") from None
    options = dict(pairs)
    if unknown := sorted(options.keys() - set(OPTIONS[scheme])):
        raise invalid(scheme, f"it has no option {display_path(unknown[0])}; there are {', '.join(OPTIONS[scheme])}")
    if parts.fragment:
        raise invalid(scheme, "nothing can follow a #; write it as %23")
    user, password = unquote(parts.username or ""), unquote(parts.password or "")
    if scheme in KEYS and not password:
        user, password = "", user or os.environ.get(KEYS[scheme], "")
    path = unquote(parts.path.lstrip("/") if parts.hostname or scheme == POSTGRES else parts.path)
    place = Place(scheme, parts.hostname or "", port, path.rstrip("/"), user, password, options)
    if not NAME.fullmatch(place.name if scheme != POSTGRES else options.get("table", "")):
        raise invalid(scheme, "it has no valid name: letters, digits, _ and -, up to 50, not beginning with a digit")
    if scheme == MILVUS and not place.host:
        raise invalid(scheme, "it has no host")
    if scheme == MILVUS and "-" in place.name:
        raise invalid(scheme, "Milvus takes no - in a name; use _")
    if scheme != POSTGRES and place.host and "/" in place.path:
        raise invalid(scheme, "one name follows the host")
    if scheme == POSTGRES and (not place.path or "/" in place.path):
        raise invalid(scheme, "the name of one database follows the host")
    return place


def invalid(scheme: str, problem: str) -> UsageError:
    """Return the error of a URL; it does not repeat the URL, which can hold a password."""
    return UsageError(f"The {scheme}:// address cannot be used: {problem}. Give {EXAMPLES[scheme]}.")
