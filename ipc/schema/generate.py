"""Writes what follows from the declarations and must stand in a file.

``python -m ipc.schema.generate`` does it. mypy knows a message's fields only from text, and numba
keeps machine code only of what is in a file. So these are written, and kept under version control;
a test finds one that is not fresh.
"""

from pathlib import Path

from ipc.schema import write_codec, write_messages, write_protocol

ROOT = Path(__file__).parent.parent.parent
BEGIN, END = "# Written by ipc.schema.generate from here", "# up to here"


def generated() -> dict[Path, str]:
    """Return the text of every file that is written, as it must be now."""
    messages, records = ROOT / "ipc/wire/messages.py", ROOT / "ipc/records.py"
    events = ROOT / "frontend/http/socket_models.py"
    return {
        messages: _within(messages.read_text(), write_messages.text()),
        records: _within(records.read_text(), write_messages.rows()),
        events: _within(events.read_text(), write_messages.events()),
        ROOT / "ipc/wire/field_codec.py": write_codec.text(),
        ROOT / "frontend/docs/protocol.md": write_protocol.text(),
    }


def _within(text: str, part: str) -> str:
    """Return a file with what is between the marks written anew."""
    before, rest = text.split(BEGIN, 1)
    _, after = rest.split(END, 1)
    return f"{before}{BEGIN}\n\n\n{part}\n\n\n{END}{after}"


def main() -> None:
    """Write what is not fresh, and name it."""
    for path, text in generated().items():
        if not path.exists() or path.read_text() != text:
            path.write_text(text)
            print(path.relative_to(ROOT))


if __name__ == "__main__":
    main()
