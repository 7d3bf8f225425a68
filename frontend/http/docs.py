"""The OpenAPI description as a page to read: plain HTML, with nothing fetched from anywhere."""

import json
from collections.abc import Iterable
from html import escape
from typing import Any

_HEAD = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>%s</title>
<meta name="viewport" content="width=device-width, initial-scale=1"><style>
body{font:15px/1.5 system-ui,sans-serif;max-width:60rem;margin:2rem auto;padding:0 1rem;color:#222}
code,pre{font:13px/1.4 ui-monospace,monospace}pre{background:#f5f5f5;padding:.7rem;overflow:auto}
details{border:1px solid #ddd;border-radius:4px;margin:.4rem 0;padding:.4rem .8rem}
summary{cursor:pointer}b.m{display:inline-block;width:4.5rem}table{border-collapse:collapse}
td,th{border-bottom:1px solid #eee;padding:.2rem .8rem .2rem 0;text-align:left;vertical-align:top}
</style></head><body>
"""


def head(title: str) -> str:
    """Return how a page begins; ``title`` is HTML."""
    return _HEAD.replace("%s", title)


def links(before: str, names: Iterable[str]) -> str:
    """Return links to pages of the manual, with what stands before their names in an address."""
    return " · ".join(f'<a href="{before}{name}">{escape(name)}</a>' for name in names)


def page(description: dict[str, Any], manual: Iterable[str] = ()) -> bytes:
    """Return the page of a description; ``manual`` holds the names of the manual's pages."""
    info = description["info"]
    parts = [
        head("Shardbook REST API"),
        f"<p>Manual: {links('docs/', manual)}</p>",
        f"<h1>{escape(info['title'])} {escape(info['version'])}</h1>",
        f"<p>{escape(info['description'])}</p>",
        '<p>As data: <a href="/api/v1/openapi.json">/api/v1/openapi.json</a></p><h2>Calls</h2>',
    ]
    for path, methods in description["paths"].items():
        parts += [_call(path, method, call) for method, call in methods.items()]
    parts.append("<h2>Shapes</h2>")
    for name, schema in sorted(description["components"]["schemas"].items()):
        parts.append(_shape(name, schema))
    parts.append("</body></html>\n")
    return "\n".join(parts).encode()


def _call(path: str, method: str, call: dict[str, Any]) -> str:
    rows = "".join(
        f"<tr><td><code>{escape(p['name'])}</code></td><td>{escape(p['in'])}</td>"
        f"<td><code>{escape(json.dumps(p['schema']))}</code></td></tr>"
        for p in call["parameters"]
    )
    answers = "".join(
        f"<tr><td>{status}</td><td>{escape(answer['description'])}</td>"
        f"<td>{_link(answer['content'])}</td></tr>"
        for status, answer in call["responses"].items()
    )
    body = ""
    if "requestBody" in call:
        body = f"<p>Body: {_link(call['requestBody']['content'])}</p>"
    return (
        f"<details><summary><b class=m>{method.upper()}</b> <code>{escape(path)}</code> "
        f"{escape(call['summary'])}</summary><table>{rows}</table>{body}"
        f"<table>{answers}</table></details>"
    )


def _link(content: dict[str, Any]) -> str:
    kind, inner = next(iter(content.items()))
    name = inner["schema"].get("$ref", "").rpartition("/")[2]
    return f'<a href="#{name}">{name}</a>' if name else escape(kind)


def _shape(name: str, schema: dict[str, Any]) -> str:
    text = escape(json.dumps(schema, indent=2))
    about = escape(schema.get("description", ""))
    return (
        f'<details id="{name}"><summary><code>{name}</code> {about}</summary>'
        f"<pre>{text}</pre></details>"
    )
