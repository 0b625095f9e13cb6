"""The file systems of fsspec for buckets and web servers, which try each request once; `remote` tries again."""

import functools
import importlib
from typing import TYPE_CHECKING, Any

from embedx.errors import UsageError
from embedx.filesystem.urls import WEB

if TYPE_CHECKING:
    from fsspec import AbstractFileSystem

CONNECT_S = 10.0  # seconds for a connection
SILENCE_S = 30.0  # seconds in which an answer, or a file that is copied, must grow
EXTRAS = {"s3": "s3", "gs": "gcs", "http": "http", "https": "http"}  # scheme -> the extra of embedx that it needs


@functools.lru_cache
def make_system(scheme: str, process: int) -> "AbstractFileSystem":
    """Return the file system of a scheme, one for each process. Credentials come from the environment.

    Raises:
        UsageError: the package for it is not installed.
    """
    import fsspec

    options: dict[str, Any] = {"use_listings_cache": False}
    try:
        if scheme == "s3":
            limits = {"connect_timeout": CONNECT_S, "read_timeout": SILENCE_S, "retries": {"total_max_attempts": 1}}
            options |= {"config_kwargs": limits, "max_concurrency": 1}  # one part of a file in memory, not ten
        elif scheme in WEB:
            import aiohttp

            timeout = aiohttp.ClientTimeout(total=None, sock_connect=CONNECT_S, sock_read=SILENCE_S)
            headers = {"Accept-Encoding": "identity"}
            options |= {"client_kwargs": {"timeout": timeout, "headers": headers, "trust_env": True}, "encoded": True}
        if scheme == "gs":
            # The class of the registry asks another service for the kind of each bucket, with attempts of its own.
            system = importlib.import_module("gcsfs.core").GCSFileSystem(skip_instance_cache=True, **options)
        else:
            system = fsspec.filesystem(scheme, skip_instance_cache=scheme != "memory", **options)
    except ImportError as error:
        raise UsageError(
            f"Addresses with {scheme}:// need packages that are not installed: pip install "
            f"'embedx[{EXTRAS.get(scheme, scheme)}]'"
        ) from error
    if scheme == "s3":
        system.retries = 1  # they are in `request`
    elif scheme == "gs":
        for name in ("_request", "_get_file_request"):  # without its own attempts
            setattr(system, name, functools.partial(getattr(type(system), name).__wrapped__, system))
        system._get_file = functools.partial(system._get_file, concurrency=1)  # one request, and no file of full size
    return system
