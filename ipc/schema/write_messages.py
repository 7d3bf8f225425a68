"""Writes the msgspec types of all messages, and records as Python reads them."""

import inspect

from ipc.schema.declarations import (
    EVENTS,
    FIELD,
    FROM_CLIENT,
    INNER,
    TO_CLIENT,
    Row,
    layout,
    parsed,
)

_HEADINGS = (
    ("What a client sends", FROM_CLIENT, True),
    ("What a client gets", TO_CLIENT, False),
    ("Between processes of the product", INNER, False),
)


def text() -> str:
    """Return the classes, in order."""
    parts = []
    for heading, rows, bounded in _HEADINGS:
        line = f"# {heading} "
        parts.append(line + "-" * (99 - len(line)))
        parts += [_class(row, bounded) for row in rows]
    return "\n\n\n".join(parts)


def _class(row: Row, bounded: bool) -> str:
    """Return one message as a class; ``bounded``: its integers have the bounds of their rows."""
    base = f"Message, tag={row.tag}" if row.tag else "Part"
    doc = inspect.cleandoc(row.doc)
    lines = [f"class {row.name}({base}):"]
    lines += [f"    {line}".rstrip() for line in f'"""{doc}'.splitlines()]
    if "\n" in doc:
        lines.append('    """')
    else:
        lines[-1] += '"""'
    if row.name.startswith("Test"):
        lines += ["", "    __test__ = False  # nothing for pytest, though FIX calls it so"]
    elif row.fields:
        lines.append("")
    for name, declared, default in map(parsed, row.fields):
        bound = "" if declared else FIELD[name].bound
        kind = declared or (bound if bounded or bound == "bool" else "int")
        lines.append(f"    {name}: {kind}{default and f' = {default}'}")
    return "\n".join(lines)


def events() -> str:
    """Return the messages of a WebSocket that follow from reports."""
    parts = []
    for row in EVENTS:
        lines = [f"class {row.name}(Struct, kw_only=True):", f'    """{row.doc}"""', ""]
        for name, kind, default in map(parsed, row.fields):
            named = FIELD[name].rest if name in FIELD else name
            lines.append(f"    {named}: {kind or 'int'}{default and f' = {default}'}")
        parts.append("\n".join(lines))
    return "\n\n\n".join(parts)


_ROWS = {"COMMAND": False, "REPORT": True, "TRADE": True, "ORDER": False}
"""The records that Python has as named tuples, and whether it may leave fields out that are 0."""


def rows() -> str:
    """Return a named tuple for each record that Python reads or writes field by field."""
    parts = []
    for name, zeros in _ROWS.items():
        doc = f"A record of {name}{'; what is left out is 0' * zeros}."
        lines = [f"class {name.capitalize()}Row(NamedTuple):", f'    """{doc}"""', ""]
        for field, _, *shape in layout(name):
            kind, zero = "int", "0"
            if shape:
                kind, zero = "tuple[int, ...]", f"({', '.join('0' * shape[0][0])})"
            lines.append(f"    {field}: {kind}{f' = {zero}' if zeros else ''}")
        parts.append("\n".join(lines))
    return "\n\n\n".join(parts)
