"""The page's files as they are served: packed, kept by browsers, and bound to their own origin."""

import gzip
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from frontend.http.connection import Call, Header
from frontend.http.page_files import DIRECTORY, POLICY, PageFiles

MOST_BYTES = 120 * 1024
FILES = PageFiles()
VENDORED = DIRECTORY / "vendor"


def call(path: str, *headers: Header, method: str = "GET") -> Call:
    return Call(method, path, b"", list(headers), b"", True, None)


def served(
    path: str, *headers: Header, method: str = "GET"
) -> tuple[int, bytes, dict[bytes, bytes]]:
    answer = FILES.answer(call(path, *headers, method=method))
    assert answer is not None
    found = dict(answer.headers)
    assert len(found) == len(answer.headers)
    return answer.status, bytes(memoryview(answer.body)), found


def own_files() -> Iterator[Path]:
    return (
        path for path in DIRECTORY.rglob("*") if path.is_file() and VENDORED not in path.parents
    )


def test_every_file_comes_plain_or_packed_with_its_policy() -> None:
    paths = [f"/page/{path.relative_to(DIRECTORY)}" for path in DIRECTORY.rglob("*.*")]
    assert "/page/main.js" in paths
    for path in ["/", *paths]:
        status, plain, headers = served(path)
        _, packed, packed_headers = served(path, (b"accept-encoding", b"br;q=1.0, gzip;q=0.8"))
        assert status == 200
        assert gzip.decompress(packed) == plain
        assert b"content-encoding" not in headers
        assert packed_headers[b"content-encoding"] == b"gzip"
        assert headers[b"content-security-policy"] == POLICY.encode()
        assert headers[b"etag"] != packed_headers[b"etag"]
        assert served(path, (b"accept-encoding", b"gzip;q=0"))[1] == plain


def test_a_browser_that_has_a_file_is_told_so() -> None:
    packs = (b"accept-encoding", b"gzip")
    for coding in ((), (packs,)):
        _, body, headers = served("/page/main.js", *coding)
        kept = (b"if-none-match", b'"other", W/' + headers[b"etag"])
        status, sent, again = served("/page/main.js", *coding, kept)
        assert (status, sent, again) == (304, b"", headers)
        answer = FILES.answer(call("/page/main.js", *coding, kept))
        assert answer is not None
        assert len(answer.body) == len(body)
    assert served("/page/main.js", (b"if-none-match", b'"other"'))[0] == 200


def test_nothing_else_is_a_file() -> None:
    for path in ("/page/", "/page/none.js", "/page/../http/app.py", "/page/vendor", "/index.html"):
        assert FILES.answer(call(path)) is None
    assert FILES.answer(call("/", method="POST")) is None
    assert served("/", method="HEAD")[0] == 200


def test_the_whole_page_is_small_and_has_no_code_in_its_html() -> None:
    assert 20_000 < FILES.packed_bytes < MOST_BYTES
    text = (DIRECTORY / "index.html").read_text()
    assert not re.search(r"<script(?![^>]*src=)|<style|\son\w+=|\sstyle=|https?:", text)
    names = {*re.findall(r'(?:src|href)="page/([^"]+)"', text)}
    for path in own_files():
        if path.suffix == ".js":
            code = path.read_text()
            names |= {
                (path.parent / name).resolve().relative_to(DIRECTORY).as_posix()
                for name in re.findall(r'from "(\./[^"]+)"', code)
            }
            assert not re.search(r"\beval\(|new Function|innerHTML|dangerously|https?://", code), (
                path
            )
    for name in names:
        assert f"/page/{name}" in FILES._files, name


@pytest.mark.parametrize("name", ["preact", "htm", "uPlot"])
def test_what_comes_from_others_has_its_licence(name: str) -> None:
    text = (VENDORED / "LICENSES.txt").read_text()
    assert re.search(rf"^{name}\b", text, re.M)
