"""Loaded by schemathesis: what it makes up is written as clients write it.

To JSON Schema `2.0` is an integer and any integer a number. To us a number without a fraction is an
integer, and one that not every reader holds exactly is wrong unless it is written as a float.
"""

from __future__ import annotations

import json
import os
from typing import Any

import schemathesis

_EXACT = 2**53
_LONGEST_WAIT_MS = 20
_KNOWN: dict[str, Any] = json.loads(os.environ.get("CONTRACT_KNOWN", "{}"))
"""By field, or parameter of a path, what the server knows: nobody would make it up."""


@schemathesis.hook
def map_body(_: schemathesis.HookContext, body: Any) -> Any:
    """Write the numbers in a body so."""
    return _as_written(body)


@schemathesis.hook
def before_call(_: schemathesis.HookContext, case: schemathesis.Case, __: dict[str, Any]) -> None:
    """Ask for what the server knows, and let no request wait for long for events never sent."""
    if _KNOWN and case.meta is not None and case.meta.generation.mode.is_positive:
        case.path_parameters = _known(case.path_parameters)
        case.body = _known(case.body)
    body = case.body
    if isinstance(body, dict) and (body.get("after") or "from" in body):
        wait_ms = body.get("timeout_ms", 500)
        if type(wait_ms) is int and 0 <= wait_ms <= 10_000:
            case.body = {**body, "timeout_ms": min(wait_ms, _LONGEST_WAIT_MS)}


@schemathesis.serializer("application/x-ndjson")
def write_lines(_: schemathesis.SerializationContext, body: Any) -> bytes:
    """Write an array as a line for each of its values."""
    rows = body if isinstance(body, list) else [body]
    return b"\n".join(json.dumps(row).encode() for row in rows)


def _known(fields: Any) -> Any:
    if not isinstance(fields, dict):
        return fields
    return {name: _KNOWN.get(name, value) for name, value in fields.items()}


def _as_written(body: Any) -> Any:
    if isinstance(body, list):
        return [_as_written(each) for each in body]
    if isinstance(body, dict):
        return {name: _as_written(each) for name, each in body.items()}
    if isinstance(body, bool) or not isinstance(body, int | float):
        return body
    if abs(body) > _EXACT:
        return float(body)
    return int(body) if body == int(body) else body
