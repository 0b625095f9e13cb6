"""Display paths safely, relative to a root, and describe errors of the system about them."""

import os
import re
import unicodedata
from collections.abc import Iterable

from embedx.errors import hide_secrets
from embedx.filesystem.urls import common_folder

MAX_STEM_BYTES = 150  # of the recording's name in the name of a clip: 255 bytes, less 60 for rank, score and times
CONTROLS = (
    "Cc",
    "Cf",
    "Cs",
    "Zl",
    "Zp",
)  # Unicode categories: controls, directions and joiners, surrogates, separators


def display_path(path: str) -> str:
    r"""Return a path or message that is safe to print: bytes that are not UTF-8 and control characters are escaped.

    Passwords and signatures in URLs are not shown.

    >>> display_path("caf\udce9\n.wav"), display_path("s3://me:secret@bucket/a.wav")
    ('caf\\xe9\\n.wav', 's3://***@bucket/a.wav')
    """
    text = hide_secrets(valid_text(path))
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def valid_text(text: str) -> str:
    r"""Return text that can be encoded: bytes that are not UTF-8, and halves of characters, are escaped.

    >>> valid_text("caf\udce9"), valid_text("\ud800")
    ('caf\\xe9', '\\ud800')
    """
    try:
        return os.fsencode(text).decode("utf-8", "backslashreplace")
    except UnicodeEncodeError:  # a surrogate that stands for no byte, as JSON can hold
        return text.encode("utf-8", "backslashreplace").decode()


def escape_controls(text: str) -> str:
    r"""Return text for people in which only newlines and tabs control the terminal.

    Escape sequences, carriage returns and marks that change the direction of writing could hide or forge text.

    >>> escape_controls("a\x1b[31m\u202eb\tc\n")
    'a\\x1b[31m\\u202eb\tc\n'
    """
    if text.replace("\n", "").replace("\t", "").isprintable():
        return text
    return "".join(
        c.encode("unicode_escape").decode() if unicodedata.category(c) in CONTROLS and c not in "\n\t" else c
        for c in text
    )


def relative_path(path: str, root: str | None) -> str:
    """Return a path relative to a root folder; unchanged if there is no root or the path is outside of it.

    >>> relative_path("/data/a/1.wav", "/data"), relative_path("/tmp/1.wav", "/data"), relative_path("/data", None)
    ('a/1.wav', '/tmp/1.wav', '/data')
    """
    inside = None if root is None else os.path.join(root, "")
    return path[len(inside) :] if inside is not None and path.startswith(inside) else path


def is_inside(path: str, folder: str) -> bool:
    """Tell whether a path lies below a folder; both are absolute, and their links are resolved.

    >>> is_inside("/data/a.wav", "/data"), is_inside("/data2/a.wav", "/data"), is_inside("/a.wav", "/")
    (True, False, True)
    """
    return path.startswith(os.path.join(folder, ""))


def is_gone(path: str) -> bool:
    """Tell whether there is certainly nothing at a path; a path that cannot be looked at is not gone."""
    try:
        os.lstat(path)
    except (FileNotFoundError, NotADirectoryError):
        return True
    except (OSError, ValueError):
        return False
    return False


def safe_stem(path: str) -> str:
    """Return a file's name without folder and extension; characters that are unsafe in a file name become "_".

    >>> safe_stem("/a/b c: d.wav")
    'b c_ d'
    """
    stem = re.sub(r"[^\w .+-]", "_", display_path(os.path.splitext(os.path.basename(path))[0]))
    return stem.encode()[:MAX_STEM_BYTES].decode("utf-8", "ignore")


def common_root(folders: Iterable[str]) -> str | None:
    """Return the innermost folder that holds all folders; None if that is the whole disk, or there are no folders.

    >>> common_root(["/data/a", "/data/b"]), common_root(["/data", "/tmp"]), common_root([])
    ('/data', None, None)
    """
    root = common_folder(list(folders))
    return None if root in ("", os.sep) else root


def explain_os_error(error: OSError) -> str:
    """Return a sentence about an error of the system, with the name of the file."""
    name = display_path(os.fspath(error.filename)) if isinstance(error.filename, (str, os.PathLike)) else ""
    folder = os.path.dirname(name)
    if isinstance(error, FileNotFoundError) and name:
        exists = not folder or os.path.isdir(folder)
        return f"There is no file or folder {name}." if exists else f"There is no folder {folder}."
    if isinstance(error, FileNotFoundError) and not name and not os.stat(os.curdir).st_nlink:
        return "The working folder does not exist any more. Change to another folder, and run the command again."
    if isinstance(error, PermissionError) and name:
        return f"No permission to read or write {name}."
    return f"{name} cannot be read or written: {error.strerror}." if name else f"{error.strerror or error}."
