"""Finding the value that a problem is about, to be named in the answer."""

from __future__ import annotations

import re
from typing import Any

import msgspec

_LONGEST = 100
"""Characters of a value that an answer repeats."""
_STEP = re.compile(r'\[("(?:[^"\\]|\\.)*")\]|([^.\[\]]+)|\[(\d+)\]|(\[\.\.\.\])')


def value_at(raw: bytes, field: str) -> str | None:
    """Return the value of a field of this JSON, as JSON, cut; None when there is none to show.

    `field` is written as msgspec does: `context`, `candidate_ids[3]`, `items[...].price`, of which
    `[...]` is any key, so that nothing can be shown; `items["apple"].price` names the key.
    """
    if not field:
        return None
    try:
        value = msgspec.json.decode(raw)
        for key, name, index, _ in _STEP.findall(field):
            value = value[msgspec.json.decode(key)] if key else _step(value, name, index)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError, LookupError, TypeError):
        return None
    return cut(msgspec.json.encode(value).decode())


def cut(text: str) -> str:
    """Return the text, or the beginning of a long one."""
    return text if len(text) <= _LONGEST else f"{text[:_LONGEST]}…"


def _step(value: Any, name: str, index: str) -> Any:
    """Return what stands there. Raises `LookupError` or `TypeError` when nothing does."""
    if name:
        return value[name]
    if index:
        return value[int(index)]
    raise LookupError
