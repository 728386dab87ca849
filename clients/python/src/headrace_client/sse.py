"""Server-sent events, read as the HTML standard has them (section 9.2.6)."""

from __future__ import annotations

import re

from msgspec import Struct

from headrace_client.errors import HeadraceError

_LINE_END = re.compile(b"\r\n|\n|\r")


class ServerSentEvent(Struct, frozen=True):
    """An event of a stream."""

    id: str
    """Of this event, or of the last one that had one."""
    name: str
    data: bytes


class Parser:
    """Makes events of the bytes of a stream, however they are cut."""

    def __init__(self, last_id: str = "") -> None:
        self.last_id = last_id
        self.retry_s: float | None = None
        """How long to wait before connecting again, if the server has said so."""
        self._rest = b""
        self._name = ""
        self._data: list[bytes] = []

    def feed(self, piece: bytes) -> list[ServerSentEvent]:
        """Return the events that end in this piece."""
        found = []
        *lines, self._rest = _LINE_END.split(self._rest + piece)
        # A return at the very end may be half of a line's end.
        if piece.endswith(b"\r") and lines:
            self._rest = lines.pop() + b"\r"
        for line in lines:
            if line:
                self._read(line)
            elif self._data:
                found.append(self._event())
            else:
                self._name = ""
        return found

    def restart(self) -> None:
        """Forget what was cut off when the stream broke off; what it said before still holds."""
        self._rest, self._name, self._data = b"", "", []

    def _read(self, line: bytes) -> None:
        name, _, value = line.partition(b":")
        value = value.removeprefix(b" ")
        if name == b"data":
            self._data.append(value)
        elif name == b"event":
            self._name = value.decode()
        elif name == b"id" and b"\0" not in value:
            self.last_id = value.decode()
        elif name == b"retry" and value.isdigit():
            self.retry_s = int(value) / 1000

    def _event(self) -> ServerSentEvent:
        event = ServerSentEvent(self.last_id, self._name or "message", b"\n".join(self._data))
        self._name, self._data = "", []
        return event


def unheeded(_: HeadraceError | None) -> None:
    """Take no note of why a stream is broken off, nor that it is open again."""
