"""Memory: what the C library does with memory that is freed, if it is glibc."""

import ctypes

# mallopt's names are in malloc.h. Without these settings glibc returns much of the memory of a batch to the system, and
# the next batch gets it page by page: 1500 to 2500 page faults for a clip of 5 s (YAMNet), a seventh of all its time.
MALLOPT = {
    -8: 1,  # M_ARENA_MAX: all threads share their free memory; each arena of a thread has pieces of 64 MB at most
    -3: 32 << 20,  # M_MMAP_THRESHOLD: larger blocks are returned at once; glibc's own limit for what it adjusts
    -1: 256 << 20,  # M_TRIM_THRESHOLD: free memory at the end that is kept; a batch of YAMNet needs some 100 MB
}


def keep_memory() -> None:
    """Keep freed memory for the next use; it must be called before the first thread starts."""
    set_option = getattr(ctypes.CDLL(None), "mallopt", None)
    if set_option is not None:
        for name, value in MALLOPT.items():
            set_option(name, value)


def release_memory() -> None:
    """Return freed memory to the system; glibc otherwise keeps much of it."""
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:
        trim(0)
