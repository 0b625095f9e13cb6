"""Guard: who may send a request, and from where. It looks at the head of a request, before anything is read."""

import ipaddress
import socket
from collections.abc import Iterable
from urllib.parse import urlsplit

from starlette.datastructures import Headers

from embedx.server.errors import ApiError
from embedx.server.settings import Settings
from embedx.server.tokens import Right

OPEN_PATHS = ("/livez", "/readyz", "/")  # answered without a token, for systems that watch the service, and the page
SESSION_PATH = "/v1/session"  # a page sends its token there
OPEN_FOLDER = "/page/"  # the files of the page, which are the same everywhere
LOOPBACK = ("localhost", "127.0.0.1", "::1")
SECURITY_HEADERS = {
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Content-Security-Policy": "default-src 'none'; img-src 'self'; style-src 'self'; frame-ancestors 'none'",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cache-Control": "no-store",
}
CORS_METHODS, CORS_HEADERS = "GET, POST, OPTIONS", "Authorization, Content-Type"


class Guard:
    """The checks of the head of a request, for these settings."""

    def __init__(self, settings: Settings) -> None:
        self.tokens = settings.tokens
        self.cors = frozenset(settings.cors)
        own = settings.host.strip("[]").lower()
        self.is_wildcard = own in ("0.0.0.0", "::", "")  # noqa: S104 -- compared, not bound
        names = {own, socket.gethostname().lower(), *(name.strip("[]").lower() for name in settings.hosts)}
        self.hosts = names | set(LOOPBACK)

    def check(self, method: str, path: str, headers: Headers) -> Right | None:
        """Return the right of the client; None for a path that is open to all and a client without a token.

        Raises:
            ApiError: the request is for another host, comes from another web page, or has no valid token.
        """
        hosts = headers.getlist("host")
        if len(hosts) != 1 or not self.is_own(host_of(f"//{hosts[0]}")):
            raise ApiError(
                403, "bad_host", "The Host header does not name this server.", "Give other names with --allow-host."
            )
        origin = headers.get("origin")
        if origin is not None and origin not in self.cors and not self.is_own_page(origin, hosts[0]):
            raise ApiError(403, "bad_origin", "Web pages of other origins may not use this server.", "See --cors.")
        right = self.right_of(method, headers, hosts[0])
        if right is None and not is_open(method, path):
            raise ApiError(
                401,
                "no_token",
                "A valid token is needed.",
                "Send the header Authorization: Bearer TOKEN.",
                {"WWW-Authenticate": "Bearer"},
            )
        return right

    def right_of(self, method: str, headers: Headers, host: str) -> Right | None:
        """Return the right of a client from its token or its cookie; None if it has none.

        Raises:
            ApiError: a request that can change something has a cookie but no Origin; see `is_own_page`.
        """
        right = self.tokens.right_of(headers.get("authorization"))
        if right is not None or "authorization" in headers:
            return right
        right = self.tokens.right_of_cookie(read_cookie(headers.get("cookie", ""), cookie_name(host)))
        if right is not None and method not in ("GET", "HEAD") and "origin" not in headers:
            raise ApiError(403, "bad_origin", "A request with a cookie needs the header Origin.", "Send a token.")
        return right

    def is_own(self, host: str | None) -> bool:
        """Tell whether a host name is one of this server; an address is, if it listens on all addresses.

        Only names can be pointed at this server by others (DNS rebinding); addresses cannot.
        """
        if host is None:
            return False
        return host in self.hosts or (self.is_wildcard and is_address(host))

    def is_own_page(self, origin: str, host: str) -> bool:
        """Tell whether a page with this origin was loaded from the host that the request is sent to."""
        try:
            return urlsplit(origin).netloc.lower() == host.lower()
        except ValueError:
            return False

    def cors_headers(self, origin: str | None) -> dict[str, str]:
        """Return the headers that let a page of an allowed origin read the answer."""
        if origin is None or origin not in self.cors:
            return {}
        return {
            "Access-Control-Allow-Origin": origin,
            "Access-Control-Allow-Methods": CORS_METHODS,
            "Access-Control-Allow-Headers": CORS_HEADERS,
            "Access-Control-Expose-Headers": "ETag, Retry-After",
            "Cross-Origin-Resource-Policy": "cross-origin",
            "Vary": "Origin",
        }


def is_open(method: str, path: str) -> bool:
    """Tell whether a request needs no token."""
    return path in OPEN_PATHS or path.startswith(OPEN_FOLDER) or (method, path) == ("POST", SESSION_PATH)


def cookie_name(host: str) -> str:
    """Return the name of the cookie of this server: browsers share cookies between the ports of a host.

    >>> cookie_name("127.0.0.1:8000"), cookie_name("audio.example.org")
    ('embedx-8000', 'embedx')
    """
    port = urlsplit(f"//{host}").port
    return "embedx" if port is None else f"embedx-{port}"


def read_cookie(header: str, name: str) -> str:
    """Return the value of a cookie from the header Cookie; "" if it is not there.

    >>> read_cookie("a=1; embedx=22; b", "embedx")
    '22'
    """
    pairs = (part.strip().partition("=") for part in header.split(";"))
    return next((value for key, _, value in pairs if key == name), "")


def host_of(url: str) -> str | None:
    """Return the host name in a URL or in `//host:port`, in lower case; None if it is not valid.

    >>> host_of("//[::1]:8000"), host_of("//Localhost"), host_of("//a b"), host_of("//")
    ('::1', 'localhost', None, None)
    """
    try:
        parts = urlsplit(url)
        _ = parts.port
    except ValueError:
        return None
    host = parts.hostname
    is_plain = parts.path == "" and "@" not in parts.netloc and not any(c.isspace() for c in url)
    return host.rstrip(".") if host and is_plain else None


def is_address(host: str) -> bool:
    """Tell whether a host is an IP address."""
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True


def is_loopback(host: str) -> bool:
    """Tell whether an address to listen on can be reached from this machine only."""
    return host.strip("[]").lower() in LOOPBACK


def encode_headers(headers: Iterable[tuple[str, str]]) -> list[tuple[bytes, bytes]]:
    """Return headers as ASGI sends them."""
    return [(name.lower().encode("latin-1"), value.encode("latin-1", "replace")) for name, value in headers]
