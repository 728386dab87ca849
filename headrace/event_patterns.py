"""What a record's text must look like to be an event without a closer look, for each kind.

A record that matches, and is UTF-8, is an event if moreover the fields that training reads are
there, once each, no longer and no larger than `headrace.events` allows. Not every event matches: a
number here has no exponent, and so few digits that every reader holds it; ids have no escapes.
"""

from __future__ import annotations

from headrace.events import KINDS

_GAP = r"[ \t]*"
_UNSIGNED = r"(?:0|[1-9][0-9]{0,14})(?:\.[0-9]{1,17})?"
_NUMBER = f"-?{_UNSIGNED}"
_ID = r'"[^"\\\x00-\x1f\x7f-\x9f\x{2028}\x{2029}]+"'
_SHORT_ASCII_ID = r'"[ !#-\[\]-~]{1,128}"'
_ESCAPE = r'\\(?:["\\/bfnrt]|u(?:[0-9A-CEFa-cef][0-9A-Fa-f]{3}|[Dd][0-7][0-9A-Fa-f]{2}))'
_TEXT = rf'"(?:[^"\\\x00-\x1f]|{_ESCAPE})*"'
_MEMBER = f"{_TEXT}{_GAP}:{_GAP}(?:{_TEXT}|{_NUMBER}|true|false|null)"
_CONTEXT = rf"\{{{_GAP}(?:{_MEMBER}(?:{_GAP},{_GAP}{_MEMBER}){{0,15}}{_GAP})?\}}"
_FIELDS = {
    "event_id": _ID,
    "user_id": _ID,
    "item_id": _ID,
    "timestamp": _UNSIGNED,
    "recommendation_id": f"(?:{_SHORT_ASCII_ID}|null)",
    "context": f"(?:{_CONTEXT}|null)",
    "merged": "(?:true|false)",
}
_FIELDS_OF: dict[str, dict[str, str]] = {
    "click": {},
    "purchase": {
        "quantity": "[1-9][0-9]{0,5}",
        "price": f"(?:{_UNSIGNED}|null)",
        "currency": '(?:"[A-Z]{3}"|null)',
        "rating": f"(?:{_NUMBER}|null)",
    },
    "rating": {"rating": _NUMBER},
}


def _pattern(kind: str) -> str:
    fields = {**_FIELDS, **_FIELDS_OF[kind], "type": f'"{kind}"'}
    field = "|".join(f'"{name}"{_GAP}:{_GAP}{value}' for name, value in fields.items())
    more = f"(?:{_GAP},{_GAP}(?:{field}))*"
    return rf"\A{_GAP}\{{{_GAP}(?:{field}){more}{_GAP}\}}{_GAP}\n\z"


PATTERNS = {kind: _pattern(kind) for kind in KINDS}
"""By kind, in RE2's syntax; a newline ends the record."""
