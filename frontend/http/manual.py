"""The pages of the manual as HTML: plain, with nothing fetched from anywhere.

What they hold is ours, and yet HTML in them stays text, and links lead to the web or to a page.
"""

import re
from functools import cache
from html import escape
from pathlib import Path

from markdown_it import MarkdownIt

from frontend.http.docs import head, links

DIRECTORY = Path(__file__).resolve().parent.parent / "docs"


@cache
def pages() -> dict[str, Path]:
    """Return the files of the pages by their names."""
    return {path.stem: path for path in sorted(DIRECTORY.glob("*.md"))}


@cache
def manual_page(name: str) -> bytes | None:
    """Return a page, None where there is none of that name."""
    path = pages().get(name)
    return None if path is None else render(path.read_text())


def render(text: str) -> bytes:
    """Return a text of Markdown as a page."""
    markdown = MarkdownIt("commonmark", {"html": False}).enable("table")
    title = re.match(r"# (.*)", text)
    text = re.sub(r"^<!--.*-->\n", "", text, flags=re.MULTILINE)  # marks for who writes tables
    body = re.sub(r'href="([a-z]+)\.md(#[^"]*)?"', r'href="\1\2"', markdown.render(text))
    begin = head(escape(title[1] if title else "Manual"))
    here = f'<a href="../docs">REST API</a> · {links("", pages())}'
    return f"{begin}<p>{here}</p>{body}</body></html>\n".encode()
