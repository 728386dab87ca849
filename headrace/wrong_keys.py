"""Which key of an object a decoder's complaint is about: msgspec says `[...]` for any."""

from __future__ import annotations

import re
from typing import Any

import msgspec

_ANY = "[...]"
_STEP = re.compile(r"\.?([^.\[\]]+)|\[(\d+)\]")


def with_key(decoder: msgspec.json.Decoder[Any], raw: bytes, field: str) -> str:
    """Return the field as `field` names it, with the key where that says `[...]`.

    `prices[...].amount` becomes `prices["apple"].amount`, of the first key that is wrong; it stays
    as it is where that cannot be told.
    """
    before, any_key, after = field.partition(_ANY)
    if not any_key:
        return field
    try:
        document = msgspec.json.decode(raw)
        entries = _at(document, before)
        key = _first_wrong(decoder, document, entries, before)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError, LookupError, TypeError):
        return field
    return f"{before}[{msgspec.json.encode(key).decode()}]{after}"


def _at(document: Any, field: str) -> dict[str, Any]:
    """Return the object that stands there. Raises `LookupError` or `TypeError` for none."""
    for name, index in _STEP.findall(field):
        document = document[name] if name else document[int(index)]
    if not isinstance(document, dict):
        raise TypeError
    return document


def _first_wrong(
    decoder: msgspec.json.Decoder[Any], document: Any, entries: dict[str, Any], field: str
) -> str:
    """Return the first key of `entries`, part of the document, that is wrong.

    Half of the keys are looked at each time. Raises `LookupError` when none is wrong by itself.
    """
    rest = list(entries.items())
    while True:
        some = rest[: (len(rest) + 1) // 2]
        entries.clear()
        entries.update(some)
        wrong = _is_wrong_at(decoder, document, field)
        if len(rest) == 1:
            if not wrong:
                raise LookupError
            return rest[0][0]
        rest = some if wrong else rest[len(some) :]


def _is_wrong_at(decoder: msgspec.json.Decoder[Any], document: Any, field: str) -> bool:
    try:
        decoder.decode(msgspec.json.encode(document))
    except msgspec.ValidationError as exc:
        dot = "" if field.startswith("[") else "."
        return f" - at `${dot}{field}{_ANY}" in str(exc)
    return False
