"""How deeply JSON is nested, seen from its bytes: before anything is made of it."""

from __future__ import annotations

import re

MAX_DEPTH = 16

_ESCAPE = re.compile(rb"\\.", re.DOTALL)
_STRING = re.compile(rb'"[^"]*"')
_BRACKETS = bytes.maketrans(b"{}", b"[]")
_REST = bytes(set(range(256)) - set(b'"[]{}'))


def is_too_deep(raw: bytes) -> bool:
    """Whether this JSON, or a line of it, has more than `MAX_DEPTH` levels.

    Of bytes that are not JSON it says anything: their decoder refuses them.
    """
    if raw.count(b"{") + raw.count(b"[") <= MAX_DEPTH:
        return False
    if b"\\" in raw:
        raw = _ESCAPE.sub(b"", raw)
    brackets = _STRING.sub(b"", raw.translate(_BRACKETS, _REST))
    for _ in range(MAX_DEPTH):
        # Each time the innermost level goes.
        brackets = brackets.replace(b"[]", b"")
    return b"[]" in brackets or brackets.count(b"[") > MAX_DEPTH
