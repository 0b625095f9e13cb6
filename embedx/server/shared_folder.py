"""SharedFolder: read files of one folder by names that a client gives, and nothing outside it or through links."""

import os
import stat

from embedx.errors import UsageError
from embedx.filesystem.paths import display_path
from embedx.server.errors import ApiError

FOLDER_FLAGS = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
FILE_FLAGS = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC  # a named pipe does not block
MAX_SHOWN = 200  # characters of a client's name in a message


class SharedFolder:
    """A folder whose files a client may read.

    Args:
        folder: the folder; it may itself be a link.
        max_bytes: of a file.

    Raises:
        UsageError: there is no such folder.
    """

    def __init__(self, folder: str, max_bytes: int) -> None:
        if not os.path.isdir(folder):
            raise UsageError(f"There is no folder {display_path(folder)}.")
        self.folder = os.path.abspath(folder)
        self.max_bytes = max_bytes

    def read(self, name: str) -> bytes:
        """Return the bytes of a file.

        Args:
            name: its path relative to the folder, or an absolute path that begins with that of the folder.

        Raises:
            ApiError: the name leads outside, there is no such file, it is a link or no file, or it is too large.
        """
        parts = self.split(name)
        shown = display_path("/".join(parts))[:MAX_SHOWN]
        try:
            with open(self.open(parts), "rb") as file:
                if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
                    raise ApiError(400, "no_file", f"{shown} is not a file.", "Give an audio file.")
                data = file.read(self.max_bytes + 1)
        except (OSError, ValueError):
            raise ApiError(
                404,
                "no_file",
                f"{shown} cannot be read: there is no such file in the folder of --files, or it is a link.",
                "Links are not followed.",
            ) from None
        if len(data) > self.max_bytes:
            raise ApiError(413, "body_too_large", f"{shown} has more than {self.max_bytes} bytes.")
        return data

    def split(self, name: str) -> list[str]:
        """Return the parts of a path below the folder.

        Raises:
            ApiError: the name leads outside.
        """
        inside = os.path.join(self.folder, "")
        parts = [part for part in name.removeprefix(inside).split("/") if part not in ("", ".")]
        if (os.path.isabs(name) and not name.startswith(inside)) or ".." in parts or not parts:
            raise ApiError(
                400, "no_file", "The file is outside of the folder of --files.", "Give a path relative to this folder."
            )
        return parts

    def open(self, parts: list[str]) -> int:
        """Open a file part by part, each without following a link, and return its descriptor."""
        handle = os.open(self.folder, FOLDER_FLAGS & ~os.O_NOFOLLOW)
        try:
            for part in parts[:-1]:
                below = os.open(part, FOLDER_FLAGS, dir_fd=handle)
                os.close(handle)
                handle = below
            return os.open(parts[-1], FILE_FLAGS, dir_fd=handle)
        finally:
            os.close(handle)
