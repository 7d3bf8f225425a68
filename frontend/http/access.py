"""From where HTTP may be asked: what a browser says of the page that makes it ask.

Any page can make its visitor's browser send requests to any address that the browser reaches, the
loopback ones too, and a name of its own may lead there. Three things give it away: the Host that
the browser was told, the Origin of the page, and the type of a body, of which a page may send the
plain ones without being asked. Clients that are no browsers send no Origin, and any Host.
"""

import re
from collections.abc import Callable, Iterable, Sequence

from engine.sections import HttpSection
from frontend.http.errors import ApiError
from ipc.links.sockets import Address, is_loopback

Headers = Iterable[tuple[bytes, bytes]]
Admit = Callable[[Headers, bool], bytes]
"""Takes the headers of a request and whether it has a body; returns lines for the head of its
answer. Raises ``ApiError`` for a request that is not taken."""

LOOPBACK_HOSTS = ("localhost", "127.0.0.1", "::1")
ANY = "*"
MAX_AGE_S = 600
PREFLIGHT = (
    (b"access-control-allow-headers", b"authorization, content-type, x-api-key"),
    (b"access-control-allow-private-network", b"true"),
    (b"access-control-max-age", b"%d" % MAX_AGE_S),
)
"""What a browser that asks before a page does is told, beside the methods."""

_HOST = re.compile(rb"(?:\[([0-9a-f:.]{2,45})\]|([a-z0-9._-]{1,253}))(?::[0-9]{0,5})?")
_GRANT = (
    b"access-control-allow-origin: %b\r\naccess-control-expose-headers: retry-after, allow\r\n"
    b"vary: origin\r\n"
)


class Access:
    """What a worker takes: ``access.admit(headers, has_body)`` is an ``Admit``."""

    def __init__(self, settings: HttpSection, address: Address, encrypted: bool) -> None:
        hosts = {host.lower().strip("[]") for host in settings.allowed_hosts}
        # Where keys are needed a page is none the wiser for reaching the product by another name.
        self._any_host = ANY in hosts or (not hosts and not is_loopback(address))
        self._hosts = {host.encode() for host in (*hosts, *LOOPBACK_HOSTS, address.host.lower())}
        self._last_host = b""
        """One that was taken: most requests name the same."""
        self._any_origin = ANY in settings.allowed_origins
        self._origins = {origin.lower().encode() for origin in settings.allowed_origins}
        self._scheme = b"https://" if encrypted else b"http://"

    def admit(self, headers: Headers, has_body: bool) -> bytes:
        """See that host, origin and the type of the body are such as are taken."""
        host, origin, media = None, None, None
        for name, value in headers:
            if name == b"host":
                host = _once(host, value, "Host").lower()
            elif name == b"origin":
                origin = _once(origin, value, "Origin").lower()
            elif name == b"content-type":
                media = _once(media, value, "Content-Type")
        if host is not None and host != self._last_host:
            self._check_host(host)
            self._last_host = host
        grant = b""
        if origin is not None and origin != self._scheme + (host or b""):
            if not self._any_origin and origin not in self._origins:
                raise _refused("Origin", "must be this host, or one of http.allowed_origins")
            grant = _GRANT % origin
        if has_body and (media or b"").partition(b";")[0].strip().lower() != b"application/json":
            raise _refused(
                "Content-Type",
                "must be application/json where there is a body "
                "(curl: -H 'Content-Type: application/json')",
                "UNSUPPORTED_MEDIA_TYPE",
            )
        return grant

    def _check_host(self, host: bytes) -> None:
        match = _HOST.fullmatch(host)
        if match is None:
            raise _refused("Host", "must be HOST or HOST:PORT", "INVALID_REQUEST")
        if not self._any_host and (match[1] or match[2].rstrip(b".")) not in self._hosts:
            raise _refused("Host", "must be localhost, the address, or one of http.allowed_hosts")


def preflight(methods: Sequence[str], granted: bool) -> list[tuple[bytes, bytes]]:
    """Return the headers that tell which methods a path has, and a page that it may use them."""
    listed = ", ".join(methods).encode()
    found = [(b"allow", listed)]
    return [*found, (b"access-control-allow-methods", listed), *PREFLIGHT] if granted else found


def _once(known: bytes | None, value: bytes, name: str) -> bytes:
    if known is not None:
        raise _refused(name, "must be given once", "INVALID_REQUEST")
    return value


def _refused(name: str, rule: str, code: str = "FORBIDDEN") -> ApiError:
    return ApiError(code, f"{name}: {rule}", field=name, rule=rule)
