"""URLs of recordings and collections: which are allowed, and what of them is shown and stored.

A URL is kept without its signature: the store, messages and logs hold the rest of it. The signature stays in the memory
of this process, and `signed` returns the URL with it.
"""

import os
import posixpath
import re
from collections.abc import Sequence
from urllib.parse import unquote, urlsplit, urlunsplit

from embedx.errors import UsageError, hide_secrets, is_secret

BUCKETS = ("s3", "gs", "memory")  # schemes of places that can be listed and written
ENGINES = ("qdrant", "postgresql", "milvus")  # schemes of collections in search engines
WEB = ("https", "http")  # schemes of single files
SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]+)://")
SAME_SCHEME = {"s3a": "s3", "gcs": "gs"}  # other names that are in use
# Parameters that are secret only next to one of those: the rest of a signature.
WITH_SIGNATURE = frozenset(
    "expires expire hash-algorithm se sp sv sr st spr srt ss skoid sktid skt ske sks skv".split()
)
WILDCARDS = re.compile(r"[*?\[]")

SIGNED: dict[str, str] = {}  # URL without its signature -> the URL as it was given, in this process only


def is_url(path: object) -> bool:
    """Tell whether a path is a URL.

    >>> is_url("s3://bucket/a.wav"), is_url("/data/a.wav"), is_url("hf:user/repo")
    (True, False, False)
    """
    return isinstance(path, str) and SCHEME.match(path) is not None


def is_engine(place: object) -> bool:
    """Tell whether a place is the URL of a search engine.

    >>> is_engine("qdrant://127.0.0.1:6333/x"), is_engine("s3://bucket/x"), is_engine("indexes/x")
    (True, False, False)
    """
    return is_url(place) and str(place).partition("://")[0].lower() in ENGINES


def masked(url: str) -> str:
    """Return a URL without the name and the password in it.

    >>> masked("postgresql://me:secret@host/db?table=x")
    'postgresql://***@host/db?table=x'
    """
    scheme, mark, rest = url.partition("://")
    return f"{scheme}{mark}***@{rest.rpartition('@')[2]}" if "@" in rest else url


def absolute(name: str) -> str:
    """Return the absolute path of a file or folder, or a URL in the form in which it is stored.

    The form has no signature and no slash at its end. `file://` becomes a path.

    >>> absolute("S3://bucket/audio/"), absolute("file:///data/a%20b.wav")
    ('s3://bucket/audio', '/data/a b.wav')
    >>> absolute("https://example.org/a.wav?take=2&X-Amz-Signature=c0ffee")
    'https://example.org/a.wav?take=2'

    Raises:
        UsageError: the URL holds a password, or the signature of a web address, or its scheme is not one of those that
            embedx reads.
    """
    if not is_url(name):
        return os.path.abspath(name)
    scheme, _, rest = name.partition("://")
    scheme = SAME_SCHEME.get(scheme.lower(), scheme.lower())
    if scheme == "file":
        return os.path.abspath(unquote("/" + rest.partition("/")[2]))
    if scheme not in (*BUCKETS, *WEB):
        known = ", ".join(f"{known}://" for known in (*BUCKETS, *WEB, "file"))
        raise UsageError(f"embedx does not read {scheme}:// addresses. It reads {known} and local paths.")
    host, slash, path = rest.partition("/")
    if "@" in host:
        raise UsageError(
            f"The address {scheme}://***@{host.rpartition('@')[2]} holds a name or password. Remove it, and give "
            "credentials through the environment; see docs/remote.md."
        )
    if not host:
        raise UsageError(f"The address {scheme}:// names no bucket or host. Write it as {scheme}://NAME/FOLDER.")
    if scheme in WEB:
        return without_signature(f"{scheme}://{host}{slash}{path}")
    if hide_secrets(name) != name:
        raise UsageError(
            f"The address {hide_secrets(name)} holds a signature. Give the web address (https://) that was signed, or "
            "credentials through the environment; see docs/remote.md."
        )
    return f"{scheme}://{host}{slash}{path}".rstrip("/")


def without_signature(url: str) -> str:
    """Return a web address without the parameters that are secret, and without a fragment; keep the whole one."""
    parts = urlsplit(url)
    pairs = parts.query.split("&") if parts.query else []
    secret = [pair for pair in pairs if is_secret(*pair.partition("=")[::2])]
    if secret:
        pairs = [pair for pair in pairs if pair not in secret and pair.partition("=")[0].lower() not in WITH_SIGNATURE]
    public = urlunsplit((parts.scheme, parts.netloc, parts.path, "&".join(pairs), ""))
    if secret:
        SIGNED[public] = url.partition("#")[0]
    return public


def signed(url: str) -> str:
    """Return a URL with its signature, if it had one when it was given."""
    return SIGNED.get(url, url)


def join(root: str, entry: str) -> str:
    """Return the stored form of an entry of a table: a URL, or a path relative to a folder or URL.

    >>> join("s3://bucket/clips", "dog/1.wav"), join("/data", "s3://bucket/1.wav"), join("/data", "../1.wav")
    ('s3://bucket/clips/dog/1.wav', 's3://bucket/1.wav', '/1.wav')
    """
    if is_url(entry):
        return absolute(entry)
    if not is_url(root):
        return os.path.normpath(os.path.join(root, entry))
    scheme, _, rest = root.partition("://")
    return f"{scheme}://{posixpath.normpath(posixpath.join(rest, entry))}"


def require_folder(folder: object) -> None:
    """Refuse a URL where a collection is written.

    Raises:
        UsageError: it is a URL.
    """
    if is_url(folder):
        raise UsageError(
            "A collection is written to a folder of this machine, not to a URL. Give a folder such as indexes/field, "
            "and then send it with `embedx push`."
        )


def folder_of(path: str) -> str:
    """Return the folder or URL that holds a file.

    >>> folder_of("s3://bucket/a.wav"), folder_of("/data/a.wav")
    ('s3://bucket', '/data')
    """
    return path.rpartition("/")[0] if is_url(path) else os.path.dirname(path)


def split_pattern(url: str) -> tuple[str, str | None]:
    """Return the place below which a URL has to be searched, and the URL as a pattern; None without * ? or [.

    >>> split_pattern("s3://b/audio/**/*.wav"), split_pattern("s3://b/audio")
    (('s3://b/audio', 's3://b/audio/**/*.wav'), ('s3://b/audio', None))
    """
    found = WILDCARDS.search(url) if url.partition("://")[0] in BUCKETS else None
    return (url, None) if found is None else (url[: found.start()].rpartition("/")[0], url)


def common_folder(names: Sequence[str]) -> str:
    """Return the innermost folder or URL that holds all names; an empty text if there is none.

    >>> common_folder(["s3://b/x/1", "s3://b/x/2"]), common_folder(["s3://b/x", "/data"]), common_folder(["/a/b", "/a"])
    ('s3://b/x', '', '/a')
    """
    if not any(map(is_url, names)):
        return os.path.commonpath(names) if names else ""
    parts = [name.split("/") for name in names]
    first, last = min(parts), max(parts)
    same = next((i for i, (a, b) in enumerate(zip(first, last, strict=False)) if a != b), min(len(first), len(last)))
    return "/".join(first[:same]) if same > 2 else ""  # "s3:", "", "bucket"
