"""What is wrong with a configuration: key, value and what is allowed, out of what msgspec says."""

import re
from collections.abc import Iterable
from typing import Annotated, Any, get_args, get_origin, get_type_hints

import msgspec

from ipc.decimals import clipped, shown

_GIVEN = {"number", "retired"}
"""Keys that the product gives itself, and no file."""
_STEP = re.compile(r"\.(\w+)|\[(\d+|\.\.\.)\]")
"""One step of the path that msgspec tells: a key, or an item of a list or a table."""


def explain(error: str, tree: Any, kind: Any, name: str = "") -> str:
    """Turn msgspec's "... - at `$.engine.book`" into key, value and what is allowed.

    ``tree`` is what was read, ``kind`` what it was to be, and ``name`` where it stands.
    """
    problem, _, where = error.partition(" - at `$")
    for key, item in _STEP.findall(where):
        if item == "...":
            return _explain_item(problem, tree, kind, name)
        name += f"[{item}]" if item else f".{key}" if name else key
        tree = tree[int(item)] if item else tree[key]
        kind = _item_of(kind) if item else get_type_hints(kind, include_extras=True)[key]
    inside = f"{name}." if name else ""
    if problem.startswith("Object contains unknown field"):
        unknown = problem.split("`")[1]
        allowed = ", ".join(each for each in kind.__struct_fields__ if each not in _GIVEN)
        full = clipped(inside + unknown)
        return f"{full} = {shown(tree[unknown])}: unknown key; allowed here: {allowed}"
    if problem.startswith("Object missing required field"):
        return f"{inside}{problem.split('`')[1]}: must be given"
    return f"{name} = {shown(tree)}: {_allowed(kind, problem)}"


def _explain_item(problem: str, tree: Any, kind: Any, name: str) -> str:
    """Find which item an error speaks of: msgspec names those of lists and tables only as [...]."""
    items: Iterable[tuple[str, Any]] = (
        ((f"{name}.{clipped(key)}", item) for key, item in tree.items())
        if isinstance(tree, dict)
        else ((f"{name}[{place}]", item) for place, item in enumerate(tree))
    )
    for full, item in items:
        try:
            msgspec.convert(item, _item_of(kind))
        except msgspec.ValidationError as error:
            return explain(str(error), item, _item_of(kind), full)
    return f"{name}: {problem}"


def _item_of(kind: Any) -> Any:
    """Return the declared type of what a list or a table of type ``kind`` holds."""
    inner = get_args(kind)[0] if get_origin(kind) is Annotated else kind
    return get_args(inner)[-1]


def _allowed(kind: Any, problem: str) -> str:
    """Return what a value of ``kind`` may be, beside msgspec's own words."""
    words = problem.replace("`", "")
    if "Invalid enum value" in words:
        return "must be one of " + ", ".join(repr(option) for option in get_args(kind))
    return words[0].lower() + words[1:] if words else "is not allowed"
