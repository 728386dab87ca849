"""Text of unknown origin on a terminal: nothing in it moves the cursor or changes the colours."""

from __future__ import annotations

from rich.markup import escape


def visible(text: str) -> str:
    """Return the text with every character that does not print written as its escape."""
    if text.isprintable():
        return text
    return "".join(
        each if each.isprintable() else each.encode("unicode_escape").decode() for each in text
    )


def printable(text: str) -> str:
    """Return the text for rich to print as it is."""
    return escape(visible(text))
