"""Text for a terminal or a log: names of files and users in it may hold anything."""


def printable(text: str) -> str:
    """Return text in which whatever is not printable, but a blank, is escaped as Python does it.

    So no escape sequence gets to a terminal, and a name of bytes that are no UTF-8 can be encoded.
    """
    if text.isprintable():
        return text
    return "".join(
        char if char.isprintable() else char.encode("unicode_escape").decode() for char in text
    )
