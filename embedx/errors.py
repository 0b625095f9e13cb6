"""Everything that embedx raises on purpose, with the exit code of the command line beside it.

::

    EmbedxError               1    an internal error, when nothing below fits
    |- UsageError             2    an argument or option that cannot be meant
    |- AudioError             2    a recording that cannot be used (in `extract` it is one failed input: exit 3)
    |  `- DecoderDied         2    decoding it ended the process that decodes, or put it to sleep
    |- LockedError            4    another process is writing the collection
    |- StoreError             5    the collection is damaged, or made by a newer embedx
    |- DiskError              6    the disk is full, or reading and writing failed
    |- ModelError             7    the model is missing, or cannot be loaded
    |  `- RecipeMismatch      7    it loads, but would make other vectors than the collection holds
    |- NothingToDo            8    no audio was found
    `- Interrupted     130, 143    SIGINT or SIGTERM, after a clean commit

The command line ends with 0 when all is done, and with 3 when all is done but some inputs failed.
"""

EXIT_SOME_FAILED = 3


class EmbedxError(Exception):
    """The root: catch it to catch everything that embedx raises on purpose."""

    exit_code = 1


class UsageError(EmbedxError, ValueError):
    """An argument that cannot be meant; the message names what is allowed."""

    exit_code = 2


class AudioError(EmbedxError):
    """A recording that cannot be used.

    `reason` is a class to count by ("missing", "not-audio", "empty", ...), `detail` a sentence.
    """

    exit_code = 2

    def __init__(self, reason: str, detail: str) -> None:
        super().__init__(detail)
        self.reason = reason
        self.detail = detail


class DecoderDied(AudioError):
    """The decoder's process crashed or hung over a recording; the next one gets a new process."""


class LockedError(EmbedxError):
    """Another process is writing the collection."""

    exit_code = 4


class StoreError(EmbedxError):
    """The store is damaged, is no store of embedx, or was made by a newer version."""

    exit_code = 5


class DiskError(EmbedxError, OSError):
    """The disk is full, or the system refused to read or write."""

    exit_code = 6


class ModelError(EmbedxError):
    """A model that is not there, cannot be loaded, or is of a kind that embedx does not run."""

    exit_code = 7


class RecipeMismatch(ModelError):
    """Two recipes that differ; the message names the fields."""


class NothingToDo(EmbedxError):
    """No audio was found where it was looked for."""

    exit_code = 8


class Interrupted(EmbedxError):
    """A signal ended the work after a clean commit; `exit_code` is 128 + the signal's number."""

    def __init__(self, message: str, signal_number: int) -> None:
        super().__init__(message)
        self.exit_code = 128 + signal_number
