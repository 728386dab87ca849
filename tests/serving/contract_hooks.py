"""Loaded by schemathesis: what it makes up is written as clients write it.

To JSON Schema `2.0` is an integer and any integer a number. To us a number without a fraction is an
integer, and one that not every reader holds exactly is wrong unless it is written as a float.
"""

from __future__ import annotations

from typing import Any

import schemathesis

_EXACT = 2**53
_LONGEST_WAIT_MS = 20


@schemathesis.hook
def map_body(_: schemathesis.HookContext, body: Any) -> Any:
    """Write the numbers in a body so, and let no request wait for long for events never sent."""
    body = _as_written(body)
    if isinstance(body, dict) and (body.get("after") or "from" in body):
        wait_ms = body.get("timeout_ms", 500)
        if type(wait_ms) is int and 0 <= wait_ms <= 10_000:
            body["timeout_ms"] = min(wait_ms, _LONGEST_WAIT_MS)
    return body


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
