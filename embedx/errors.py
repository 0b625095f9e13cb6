"""The exceptions of embedx, each with the exit code of the command line.

::

    EmbedxError               1    an internal error, if no other class fits
    |- UsageError             2    an invalid argument or option
    |  `- NoSuchRow           2    there is no row of this id
    |- AudioError             2    a recording that cannot be used (in `extract` a failed input: exit code 3)
    |  `- DecoderDied         2    the decoder process crashed or hung
    |- LockedError            4    another process is writing the collection
    |- StoreError             5    the collection is damaged, or was made by a newer version of embedx
    |- DiskError              6    the disk is full, or reading or writing failed
    |- ModelError             7    the model is missing, or cannot be loaded
    |  `- RecipeMismatch      7    the model or the recipe differs from that of the collection
    |- NothingToDo            8    there is no audio
    `- Interrupted     130, 143    SIGINT or SIGTERM, after a commit

The exit code is 0 if everything succeeded, and 3 if some inputs failed and all others succeeded. No message shows the
passwords and signatures of URLs.
"""

import re
from urllib.parse import unquote

EXIT_SOME_FAILED = 3
URL_LIKE = re.compile(r"(?:[A-Za-z][A-Za-z0-9+.-]+:|:/)/[^\s'\"]*")  # in a text; it may have lost its scheme or a slash
# Parts of the names of parameters that sign a URL or identify who reads: those of S3, Google, CloudFront and Azure.
SECRET = re.compile(
    r"x-amz-|x-goog-|signature|token|secret|credential|password|passwd|authoriz|access-?_?key|googleaccessid|api-?_?key"
    r"|session-?_?id|^auth$|^sig$|^policy$|^key-pair-id$"
)


def hide_secrets(text: str) -> str:
    """Return a text for people in which URLs have no name and password, and no value that signs them.

    >>> hide_secrets("no postgres://me:secret@host/db?table=x, no https://host/a.wav?take=2&sig=c0ffee")
    'no postgres://***@host/db?table=x, no https://host/a.wav?take=2&sig=***'
    """
    return URL_LIKE.sub(lambda found: hide_secret_parts(found[0]), text) if ":/" in text else text


def hide_secret_parts(url: str) -> str:
    """Return a URL with *** in place of its name and password, and of the values that sign it."""
    url = re.sub(r"^([^:]*:/+)[^/?]*@", r"\1***@", url)
    return re.sub(
        r"([?&])([^=&]+)=([^&#]+)",
        lambda pair: f"{pair[1]}{pair[2]}=***" if is_secret(pair[2], pair[3]) else pair[0],
        url,
    )


def is_secret(name: str, value: str) -> bool:
    """Tell whether a parameter of a web address signs it or identifies who reads; `key` may also name a file.

    >>> is_secret("X-Amz-Signature", "c0ffee"), is_secret("key", "AIza0"), is_secret("key", "a/1.wav")
    (True, True, False)
    """
    name = unquote(name).lower()
    return SECRET.search(name) is not None or (name == "key" and not re.search(r"[./]|%2f", value.lower()))


class EmbedxError(Exception):
    """The base class of all exceptions that embedx raises on purpose."""

    exit_code = 1

    def __init__(self, *arguments: object) -> None:
        super().__init__(*(hide_secrets(one) if isinstance(one, str) else one for one in arguments))


class UsageError(EmbedxError, ValueError):
    """An invalid argument; the message names the allowed values."""

    exit_code = 2


class NoSuchRow(UsageError, KeyError):
    """There is no row of this id."""

    __str__ = Exception.__str__  # that of KeyError adds quotes


class AudioError(EmbedxError):
    """A recording that cannot be used.

    Attributes:
        reason: a class of failures that can be counted, such as "missing", "not-audio" or "empty".
        detail: a sentence for people.
    """

    exit_code = 2

    def __init__(self, reason: str, detail: str) -> None:
        super().__init__(detail)
        self.reason = reason
        self.detail = hide_secrets(detail)


class DecoderDied(AudioError):
    """The decoder process crashed or hung on a recording; a new process decodes the next one."""


class LockedError(EmbedxError):
    """Another process is writing the collection."""

    exit_code = 4


class StoreError(EmbedxError):
    """The store is damaged, is not an embedx store, or was made by a newer version."""

    exit_code = 5


class DiskError(EmbedxError, OSError):
    """The disk is full, or the system could not read or write a file."""

    exit_code = 6


class ModelError(EmbedxError):
    """A model that is missing, cannot be loaded, or is not supported."""

    exit_code = 7


class RecipeMismatch(ModelError):
    """Two recipes differ; the message names the fields."""


class NothingToDo(EmbedxError):
    """There is no audio in the source."""

    exit_code = 8


class Interrupted(EmbedxError):
    """A signal ended the work after a commit; `exit_code` is 128 + the number of the signal."""

    def __init__(self, message: str, signal_number: int) -> None:
        super().__init__(message)
        self.exit_code = 128 + signal_number
