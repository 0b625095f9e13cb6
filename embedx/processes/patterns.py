"""Patterns: regular expressions of a user, run in a child process, because Python cannot stop one that takes for ever.

The time of a regular expression such as `(a+)+b` doubles with each character. It cannot be interrupted in a thread, so
the child is ended when its time is over. If the parent is gone, the kernel ends it.
"""

import contextlib
import re
import signal
import time
from collections.abc import Iterator, Sequence

from embedx.errors import UsageError
from embedx.processes.channels import READY, Channel
from embedx.processes.spawn import ignore_signals, start_child

TIMEOUT_S, TIMEOUT_PER_TEXT_S = 10.0, 1e-3  # an ordinary expression takes a microsecond for a path
START_S = 60.0  # a child is ready after 0.2 s, on a busy machine later
CHUNK_CHARACTERS = 50_000  # of texts in a message; JSON needs up to 12 bytes for one, and a message has up to 1 MB
TICK_S = 0.1  # seconds between two looks at the clock


def first_groups(pattern: str, texts: Sequence[str], timeout_s: float | None = None) -> list[str | None]:
    r"""Return what the first group of a regular expression matches in each text; None where nothing matches.

    Args:
        pattern: a regular expression with one (group); it may match anywhere in a text.
        texts: the texts.
        timeout_s: seconds for all texts; default: 10, and one more for every 1000 texts.

    Raises:
        UsageError: it is not such an expression, or it takes longer.

    >>> first_groups(r"(\d)_", ["3_a.wav", "a.wav"])
    ['3', None]
    """
    limit_s = TIMEOUT_S + TIMEOUT_PER_TEXT_S * len(texts) if timeout_s is None else timeout_s
    child = start_child("searches with a regular expression", "embedx.processes.patterns", Channel)
    (channel,) = child.channels
    channel.socket.settimeout(TICK_S)
    groups: list[str | None] = []
    try:
        child.wait_until_ready(channel, START_S)
        deadline = time.monotonic() + limit_s
        for chunk in split_texts(texts):
            channel.send({"pattern": pattern, "texts": chunk, "seconds": limit_s})
            answer, _ = channel.receive(0, max(0.0, deadline - time.monotonic()))
            if "problem" in answer:
                raise UsageError(f"{pattern!r} is not a regular expression with one (group): {answer['problem']}.")
            groups += answer["groups"]
    except TimeoutError as error:
        raise UsageError(
            f"The regular expression {pattern!r} takes longer than {limit_s:.3g} s. Avoid repetitions inside of "
            "repetitions, as in (a+)+."
        ) from error
    except (EOFError, ConnectionError) as error:
        raise UsageError(f"The regular expression {pattern!r} cannot be used ({child.describe_end()}).") from error
    finally:
        child.stop()
    return groups


def split_texts(texts: Sequence[str]) -> Iterator[list[str]]:
    """Yield the texts in lists that fit into a message each."""
    chunk: list[str] = []
    size = 0
    for text in texts:
        if chunk and size + len(text) > CHUNK_CHARACTERS:
            yield chunk
            chunk, size = [], 0
        chunk.append(text)
        size += len(text)
    yield chunk


def serve(handle: int) -> None:
    """Run the child process: search the texts that arrive on the channel until it closes."""
    ignore_signals()
    channel = Channel.from_handles(handle)
    with contextlib.suppress(EOFError, ConnectionError):  # the parent has closed the channel, or has ended
        channel.send(READY)
        while True:
            job, _ = channel.receive(0)
            signal.alarm(int(job["seconds"]) + 10)
            try:
                expression = re.compile(job["pattern"])
                matches = map(expression.search, job["texts"])
                channel.send({"groups": [match and match.group(1) for match in matches]})
            except (re.error, IndexError, RecursionError, OverflowError, MemoryError) as error:
                channel.send({"problem": str(error) or type(error).__name__})
            signal.alarm(0)
