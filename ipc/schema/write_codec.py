"""Writes the compiled code that carries each field between a record and its place in a message."""

from collections.abc import Callable
from typing import NamedTuple

from ipc.schema.declarations import (
    FIELD,
    FLAGS,
    FROM_CLIENT,
    KEEPS,
    RECORD_NAMES,
    RECORDS,
    ROWS,
    Row,
    names,
    parsed,
)
from ipc.vocabulary import CommandType, ExecType, OrdStatus

_HEAD = '''\
"""Each field of commands and reports between its record and its message, in compiled code.

Written by ipc.schema.generate. ``ipc.wire.packing`` has the integers that this is made of.
"""

# ruff: noqa: RET504

from typing import Any

import numpy as np

from ipc.arrays import Bytes, Integers
from ipc.native.compiled import called, inlined
from ipc.native.unaligned import copy_bytes, store_u8, store_u64
from ipc.vocabulary import MAX_CLIENT_ID
from ipc.wire.packing import (
    FALSE,
    NIL,
    TRUE,
    byte,
    put_client_id,
    put_u16,
    put_u64,
    put_uint,
    put_unless,
    read_code,
    read_uint,
    read_word,
    skip_text,
)

_NONE = np.uint64(0)
_MAX_ID = np.uint64(MAX_CLIENT_ID)
_MAX_CODE = np.uint64(255)
_MAX_SYMBOL = np.uint64(65_535)
'''
_MOST = {"Code": "_MAX_CODE", "SymbolNumber": "_MAX_SYMBOL"}
_LONGEST = {"Code": 2, "SymbolNumber": 3, "bool": 1}
"""Bytes of a field in a command at the most, where that is not 9."""
_WIDEST = {"u1": 255, "<u2": 65_535, "<u4": 2**32 - 1}
_KINDS = {
    CommandType[_name]: row
    for _name, row in zip(CommandType.__members__, FROM_CLIENT, strict=False)
}
_TEXTS = ("code", "code_name", "field", "text")
"""What a reject's row fills."""
_FRAME_HEADER = 8


def text() -> str:
    """Return the whole file."""
    parts = [
        _HEAD + "\n".join(_constants()),
        _put_command(),
        _read_command(),
        _put_report(),
        _put_reject(),
        _put_mass_cancel(),
        _read_answer("report", "Report", {}),
        _read_answer(
            "reject",
            "Reject",
            {"exec_type": ExecType.REJECTED, "ord_status": OrdStatus.REJECTED, "answers": 1},
        ),
        _read_answer(
            "mass_cancel",
            "MassCancelReport",
            {
                "exec_type": ExecType.MASS_CANCELED,
                "command_type": CommandType.MASS_CANCEL,
                "answers": 1,
            },
        ),
    ]
    return "\n\n\n".join(parts) + "\n"


def _constants() -> list[str]:
    least, most = [0], [0]
    longest = 0
    for row in _KINDS.values():
        assert row.tag == len(least), f"{row.name}: commands have the tags from 1 on, in order"
        assert len(row.fields) < 15, f"{row.name}: more fields than a short array has"
        least.append(1 + sum(not default for _, _, default in map(parsed, row.fields)))
        most.append(1 + len(row.fields))
        size = sum(_LONGEST.get(FIELD[name].bound, 9) for name in names(row))
        longest = max(longest, _FRAME_HEADER + 2 + size)
    return [
        f"_LEAST = np.array({least}, np.int64)",
        f"_MOST = np.array({most}, np.int64)",
        '"""Of each command, by its tag: items of the array without and with the optional ones."""',
        f"LAST_TAG = {len(least) - 1}",
        f"MAX_COMMAND_FRAME = {longest}",
        '"""Bytes that the longest frame of a command does not exceed."""',
        f"REPORT_ANSWERS_AT = {_small_bytes(ROWS['Report']).index('report.answers')}",
        '"""Where this code stands in the body of a ``Report`` that is written here."""',
    ]


# Commands ----------------------------------------------------------------------------------------


class _Borne(NamedTuple):
    """A field of a command as it is written there."""

    name: str
    nilable: bool


class _Rest(NamedTuple):
    """A command by its tag, and those of its fields that are still to be read or written."""

    tag: int
    fields: list[tuple[_Borne, bool]]
    """With whether it may be left out."""


def _rests() -> list[_Rest]:
    """Return all commands behind the two fields that all begin with."""
    found = []
    for kind, row in _KINDS.items():
        fields = list(map(parsed, row.fields))
        assert [name for name, _, _ in fields[:2]] == ["symbol", "request_id"]
        rest = [
            (_Borne(RECORD_NAMES.get(name, name), "None" in form), bool(default))
            for name, form, default in fields[2:]
        ]
        found.append(_Rest(int(kind), rest))
    return found


def _by_field(
    rests: list[_Rest], place: int, emit: Callable[[_Borne, str], list[str]]
) -> list[str]:
    """Return the lines for what is left of commands; those with the same next field share its code.

    ``emit`` gives the lines of one field, at a ``place`` in the array; they depend on the guard,
    where it is not empty: whether the field is there.
    """
    groups: dict[_Borne, list[_Rest]] = {}
    for rest in rests:
        if rest.fields:
            groups.setdefault(rest.fields[0][0], []).append(rest)
    lines: list[str] = []
    for field, members in groups.items():
        optional = any(member.fields[0][1] for member in members)
        part = emit(field, f"items > {place}" if optional else "")
        part += _by_field([_Rest(tag, left[1:]) for tag, left in members], place + 1, emit)
        if len(members) < len(rests):
            tags = [member.tag for member in members]
            word = "elif" if lines else "if"
            which = f"== {tags[0]}" if len(tags) == 1 else f"in {tuple(tags)}"
            part = [f"{word} tag {which}:", *_indented(part)]
        lines += part
    return lines


def _indented(lines: list[str]) -> list[str]:
    return [f"    {line}" for line in lines]


def _put_command() -> str:
    lines = [
        "@called",
        "def put_command(out: Bytes, at: int, command: Any) -> int:",
        '    """Write the body of a command, whose type is one that there is."""',
        "    tag = command.command_type",
        "    out[at] = 0x90 | _MOST[tag]",
        "    out[at + 1] = tag",
        "    at = put_uint(out, at + 2, np.uint64(command.symbol))",
        "    at = put_uint(out, at, command.request_id)",
    ]
    lines += _indented(_by_field(_rests(), 3, lambda field, _: _put_field(*field)))
    return "\n".join([*lines, "    return at"])


def _put_field(name: str, nilable: bool) -> list[str]:
    if name in FLAGS:
        bit = int(FLAGS[name])
        return [f"out[at] = TRUE if command.flags & {bit} else FALSE  # {name}", "at += 1"]
    if nilable:
        return [f"at = put_unless(out, at, command.{name}, command.flags & {int(KEEPS[name])})"]
    if FIELD[name].store == "<u8":
        return [f"at = put_uint(out, at, command.{name})"]
    return [f"at = put_uint(out, at, np.uint64(command.{name}))"]


def _read_command() -> str:
    borne = {RECORD_NAMES.get(name, name) for row in _KINDS.values() for name in names(row)}
    numbers = [name for name in RECORDS["COMMAND"] if name in borne]
    lines = [
        "@called",
        "def read_command(data: Bytes, start: int, stop: int, command: Any) -> bool:",
        '    """Fill all but account and time of ``command`` from the body ``data[start:stop]``.',
        "",
        "    Returns whether the body is a plain command, whole and with nothing behind it.",
        '    """',
        "    if stop - start < 3 or data[start] & 0xF0 != 0x90:",
        "        return False",
        "    items = int(data[start]) & 0x0F",
        "    tag = int(data[start + 1])",
        "    if tag < 1 or tag > LAST_TAG or items < _LEAST[tag] or items > _MOST[tag]:",
        "        return False",
        "    symbol, at = read_uint(data, start + 2, stop)",
        "    request_id, at = read_uint(data, at, stop)",
        *(f"    {name} = _NONE" for name in numbers if name not in ("symbol", "request_id")),
        "    flags = 0",
    ]
    lines += _indented(_by_field(_rests(), 3, _read_optional))
    for name in numbers:
        lines += [
            f"    if {name} > {_MOST.get(FIELD[name].bound, '_MAX_ID')}:",
            "        return False",
        ]
    lines += ["    if at != stop:", "        return False", "    command.command_type = tag"]
    filled = {"command_type", "account", "timestamp_ns"}
    for name in RECORDS["COMMAND"]:
        if name not in filled:
            value = name if name in borne or name == "flags" else "0"
            lines.append(f"    command.{name} = {value}")
    return "\n".join([*lines, "    return True"])


def _read_optional(field: _Borne, guard: str) -> list[str]:
    read = _read_field(*field)
    return [f"if {guard}:", *_indented(read)] if guard else read


def _read_field(name: str, nilable: bool) -> list[str]:
    if name in FLAGS:
        return [
            "if at >= stop or data[at] not in (FALSE, TRUE):",
            "    return False",
            f"if data[at] == TRUE:  # {name}",
            f"    flags |= {int(FLAGS[name])}",
            "at += 1",
        ]
    read = f"{name}, at = read_uint(data, at, stop)"
    if not nilable:
        return [read]
    keep = int(KEEPS[name])
    nil = ["if at < stop and data[at] == NIL:", f"    flags |= {keep}", "    at += 1"]
    return [*nil, "else:", f"    {read}"]


# Reports -----------------------------------------------------------------------------------------


def _small_bytes(row: Row) -> list[str]:
    """Return the bytes that a message begins with, up to its first long integer."""
    found = ["0xDC", "0", str(1 + len(row.fields)), str(row.tag)]
    for name in names(row):
        store = FIELD[name].store
        if store == "<u8":
            break
        if store == "<u2":
            found += ["0xCD", f"np.uint64(report.{name}) >> np.uint64(8)", f"report.{name} & 0xFF"]
        else:
            found.append(f"report.{name}")
    return found


def _put_report() -> str:
    row = ROWS["Report"]
    small = _small_bytes(row)
    lines = [
        "@inlined",
        "def put_report(out: Bytes, at: int, report: Any, name: Bytes) -> int:",
        '    """Write the body of a ``Report``; codes of one byte are all below 128.',
        "",
        "    ``name``: the text that its client_order_id stands for; empty where there is none.",
        "    The bytes before the first long integer are put together in words; what the last one",
        "    has too many is written over.",
        '    """',
    ]
    for first in range(0, len(small), 8):
        word = small[first : first + 8]
        constant = sum(
            int(some, 0) << 8 * place for place, some in enumerate(word) if _is_number(some)
        )
        lines += [
            "    store_u64(",
            "        out,",
            f"        at + {first},",
            f"        np.uint64({_hex(constant)})",
        ]
        lines += [
            f"        | byte({some}, {place})"
            for place, some in enumerate(word)
            if not _is_number(some)
        ]
        lines[-1] += ","
        lines.append("    )")
    lines.append(f"    at += {len(small)}")
    return "\n".join([*lines, *_put_words(names(row)), "    return at"])


def _hex(number: int) -> str:
    return f"0x{number:X}"


def _is_number(some: str) -> bool:
    return some[0].isdigit()


def _put_words(some: tuple[str, ...]) -> list[str]:
    """Return the lines that write the long integers among fields."""
    return [
        "    at = put_client_id(out, at, report.client_order_id, name)"
        if name == "client_order_id"
        else f"    at = put_u64(out, at, report.{RECORD_NAMES.get(name, name)})"
        for name in some
        if name in RECORD_NAMES or FIELD[name].store == "<u8"
    ]


def _put_reject() -> str:
    row = ROWS["Reject"]
    fields = names(row)
    assert fields[:2] == ("command_type", "symbol")
    before = fields[: fields.index(_TEXTS[0])]
    after = fields[fields.index(_TEXTS[-1]) + 1 :]
    return "\n".join([
        "@inlined",
        "def put_reject(",
        "    out: Bytes, at: int, report: Any, texts: Bytes, lengths: Integers, name: Bytes",
        ") -> int:",
        '    """Write the body of a ``Reject``; ``texts`` have what its reason says."""',
        f"    store_u8(out, at, {_hex(0x90 | 1 + len(row.fields))})",
        f"    store_u8(out, at + 1, {row.tag})",
        "    store_u8(out, at + 2, report.command_type & 0x7F)",
        "    at = put_u16(out, at + 3, report.symbol)",
        *_put_words(before),
        "    reason = report.reason",
        "    length = lengths[reason]",
        "    copy_bytes(out, at, texts, reason * (len(texts) // len(lengths)), length)",
        "    at += length",
        *_put_words(after),
        "    return at",
    ])  # fmt: skip


def _put_mass_cancel() -> str:
    row = ROWS["MassCancelReport"]
    fields = names(row)
    assert fields[0] == "symbol"
    return "\n".join([
        "@called",
        "def put_mass_cancel(out: Bytes, at: int, report: Any) -> int:",
        '    """Write the body of a ``MassCancelReport``."""',
        f"    store_u8(out, at, {_hex(0x90 | 1 + len(row.fields))})",
        f"    store_u8(out, at + 1, {row.tag})",
        "    at = put_u16(out, at + 2, report.symbol)",
        *_put_words(fields[1:]),
        "    return at",
    ])  # fmt: skip


def _read_answer(name: str, message: str, fixed: dict[str, int]) -> str:
    """Return the function that fills a REPORT from a message, and with what that implies."""
    read = {RECORD_NAMES.get(field, field) for field in names(ROWS[message])}
    lines = [
        "@called",
        f"def read_{name}(data: Bytes, at: int, stop: int, report: Any) -> int:",
        f'    """Fill all but account from what a ``{message}`` says; return where that ends."""',
    ]
    lines += [
        f"    report.{field} = {int(fixed.get(field, 0))}"
        for field in RECORDS["REPORT"]
        if field not in read and field != "account"
    ]
    for field in names(ROWS[message]):
        target = RECORD_NAMES.get(field, field)
        if field in _TEXTS[1:]:
            lines.append(f"    at = skip_text(data, at, stop)  # {field}")
        elif FIELD[target].store == "<u8":
            lines.append(f"    report.{target}, at = read_word(data, at, stop)")
        else:
            most = _WIDEST[FIELD[target].store]
            lines.append(f"    report.{target}, at = read_code(data, at, stop, {most})")
    return "\n".join([*lines, "    return at"])
