"""The trading page: the files of ``frontend/page``, read once, as answers that are ready.

A browser that has a file asks with its ETag, and is told that it still has it. What the page may do
stands in ``POLICY``: it loads nothing but these files, and talks to nobody but this worker.
"""

import gzip
import hashlib
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from frontend.http.connection import Answer, Call, Header

DIRECTORY = Path(__file__).resolve().parent.parent / "page"
PREFIX = "/page/"
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; "
    "img-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
_TYPES = {
    ".html": b"text/html; charset=utf-8",
    ".css": b"text/css; charset=utf-8",
    ".js": b"text/javascript; charset=utf-8",
    ".svg": b"image/svg+xml",
    ".txt": b"text/plain; charset=utf-8",
}
_ALWAYS: list[Header] = [
    (b"content-security-policy", POLICY.encode()),
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"no-referrer"),
    (b"cross-origin-opener-policy", b"same-origin"),
    (b"cache-control", b"no-cache"),
    (b"vary", b"accept-encoding"),
]


class _Unsent(bytes):
    """A body that is told of and not sent: 304 has the length that 200 would have."""

    told: int

    def __new__(cls, body: bytes) -> "_Unsent":
        made = super().__new__(cls)
        made.told = len(body)
        return made

    def __len__(self) -> int:
        return self.told


class _File(NamedTuple):
    """One file: plain or packed, whole or as what a browser has already."""

    tag: bytes
    plain: Answer
    packed: Answer
    plain_kept: Answer
    packed_kept: Answer


class PageFiles:
    """All files of the page, by their paths."""

    def __init__(self, directory: Path = DIRECTORY) -> None:
        self._files = dict(_read(directory))
        self._files["/"] = self._files[PREFIX + "index.html"]

    @property
    def packed_bytes(self) -> int:
        """How much a browser loads that has nothing yet."""
        return sum(
            len(file.packed.body)
            for path, file in self._files.items()
            if path != "/" and not path.endswith(".txt")
        )

    def answer(self, call: Call) -> Answer | None:
        """Return the answer to a request for a file, None where there is none at its path."""
        file = self._files.get(call.path)
        if file is None or call.method not in ("GET", "HEAD"):
            return None
        packs, kept = False, False
        for name, value in call.headers:
            if name == b"accept-encoding":
                packs = any(_is_gzip(coding) for coding in value.split(b","))
            elif name == b"if-none-match":
                kept = file.tag in value or value.strip() == b"*"
        if kept:
            return file.packed_kept if packs else file.plain_kept
        return file.packed if packs else file.plain


def _is_gzip(coding: bytes) -> bool:
    name, _, weight = coding.replace(b" ", b"").lower().partition(b";")
    return name == b"gzip" and weight not in (b"q=0", b"q=0.0", b"q=0.00", b"q=0.000")


def _read(directory: Path) -> Iterator[tuple[str, _File]]:
    for path in sorted(directory.rglob("*")):
        kind = _TYPES.get(path.suffix)
        if kind is not None and path.is_file():
            yield PREFIX + path.relative_to(directory).as_posix(), _file(path.read_bytes(), kind)


def _file(plain: bytes, kind: bytes) -> _File:
    packed = gzip.compress(plain, 9, mtime=0)
    tag = hashlib.sha256(plain).hexdigest()[:32].encode()
    # One of each coding, as they are other bytes; either is good to ask with.
    own = [*_ALWAYS, (b"etag", b'"%b"' % tag)]
    coded = [*_ALWAYS, (b"etag", b'"%b-gzip"' % tag), (b"content-encoding", b"gzip")]
    return _File(
        tag,
        Answer(200, plain, kind, own),
        Answer(200, packed, kind, coded),
        Answer(304, _Unsent(plain), kind, own),
        Answer(304, _Unsent(packed), kind, coded),
    )
